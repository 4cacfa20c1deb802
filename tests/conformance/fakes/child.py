"""A child that answers `count` as its configuration says, and misbehaves at the case `count/b` as its argument says.

The argument names a function below, or else is what the child prints instead of an answer.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

START = {
    "implementation": {"name": "fake", "version": "1"},
    "claims": {"R": [], "W": [], "F": ["F32"]},
    "accumulate": {"F32": "F64"},
}
MIB = 2**20
LONG = 600

Message = dict[str, Any]


def send(message: object) -> None:
    print(json.dumps(message), flush=True)


def good(message: Message, out: Path) -> None:
    send({"seq": message["seq"], "ok": {"parameters": message["args"]["config"]["answer"]}})


def crash(message: Message, out: Path) -> None:
    print("something\nterrible happened", file=sys.stderr)
    os._exit(3)


def crash_late(message: Message, out: Path) -> None:
    good(message, out)
    os._exit(4)


def killed(message: Message, out: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(message: Message, out: Path) -> None:
    time.sleep(LONG)


def hang_with_child(message: Message, out: Path) -> None:
    grandchild = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LONG})"])
    (out.parent.parent / "grandchild").write_text(str(grandchild.pid))
    time.sleep(LONG)


def late(message: Message, out: Path) -> None:
    time.sleep(1.5)
    good(message, out)


def memory(message: Message, out: Path) -> None:
    block = bytearray(b"a") * (100 * MIB)
    del block
    good(message, out)


def memory_hang(message: Message, out: Path) -> None:
    block = bytearray(b"a") * (100 * MIB)
    time.sleep(LONG)
    del block


def memory_in_child(message: Message, out: Path) -> None:
    program = f"x = bytearray(b'a') * {100 * MIB}; import time; time.sleep({LONG})"
    subprocess.run([sys.executable, "-c", program], check=False)


def noise(message: Message, out: Path) -> None:
    print("loading weights...", flush=True)
    good(message, out)


def flood(message: Message, out: Path) -> None:
    while True:
        print("y" * 100)


def flood_errors(message: Message, out: Path) -> None:
    print("e" * MIB, "the last words", sep="\n", file=sys.stderr, flush=True)
    good(message, out)


def close_output(message: Message, out: Path) -> None:
    os.close(1)
    time.sleep(LONG)


def half_line(message: Message, out: Path) -> None:
    print('{"seq": ', end="", flush=True)
    time.sleep(LONG)


def no_output(message: Message, out: Path) -> None:
    send({"seq": message["seq"], "ok": {}})


def pickle(message: Message, out: Path) -> None:
    out.write_bytes(b"\x80\x04K\x01.")
    no_output(message, out)


def directory(message: Message, out: Path) -> None:
    (out / "inside").mkdir(parents=True)
    no_output(message, out)


def pipe(message: Message, out: Path) -> None:
    os.mkfifo(out)
    no_output(message, out)


def stop_never(message: Message, out: Path) -> None:
    good(message, out)


def deaf(message: Message, out: Path) -> None:
    """Never called: it does not read."""


def main(mode: str, marker: str = "") -> None:
    scratch = Path()
    for line in sys.stdin:
        message = json.loads(line)
        if message["cmd"] == "start":
            scratch = Path(message["scratch"])
            start(message, mode, marker)
        elif message["cmd"] == "stop":
            time.sleep(LONG if mode == "stop_never" else 0)
            send({"seq": message["seq"], "ok": {}})
            return
        else:
            act = globals().get(mode) if message["case"].endswith("/b") else good
            if act is None:
                print(mode.replace("SEQ", str(message["seq"])), flush=True)
            else:
                act(message, scratch / message["out"])


def start(message: Message, mode: str, marker: str) -> None:
    """Shake hands, but not a second time if there is a marker."""
    if marker and Path(marker).exists():
        sys.exit("no second time")
    if marker:
        Path(marker).touch()
    send({"seq": message["seq"], "ok": START})
    time.sleep(LONG if mode == "deaf" else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
