"""Run the README's commands: every fenced block of sh and python of these sections, in order, from the root."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SECTIONS = ("A tour", "Many adapters on one backbone", "Coming from other libraries", "Your own implementation")
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Run the blocks; the exit code of the first that fails, else 0."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = []
    for section in SECTIONS:
        found = _BLOCK.findall(text.split(f"\n## {section}\n")[1].split("\n## ")[0])
        if not found:
            print(f"the README's section {section!r} has no commands", file=sys.stderr)
            return 1
        blocks += found
    shutil.rmtree(ROOT / "build/tour", ignore_errors=True)
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    for language, code in blocks:
        print(f"-- README, {language}\n{code}", flush=True)
        command = ["bash", "-euxo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        result = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if result.returncode != 0:
            return result.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
