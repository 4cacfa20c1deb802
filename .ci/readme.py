"""Run the commands of the README's tour: every fenced block of sh and python, in order, from the repository's root."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Run the blocks; the exit code of the first that fails, else 0."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tour = text.split("\n## A tour\n")[1].split("\n## ")[0]
    blocks = _BLOCK.findall(tour)
    if not blocks:
        print("the README's tour has no commands", file=sys.stderr)
        return 1
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
