"""Files of `torch.save`, read as tensors and nothing else.

A pickle is a program. torch's `weights_only` reader runs only constructors of tensors, but has had holes
(CVE-2025-32434, CVE-2026-24747), hence a floor under torch's version. And it can be made to fill the memory, so it gets
only what is bounded: an archive may not unpack to more than its own size, the pickle may name nothing but what makes
tensors out of the file's bytes, and a tensor may not have more elements than bytes.
"""

import pickletools
import re
import zipfile
from io import BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from compacter_core.adapter import Array, DType
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.stored import StoredTensor, StoredTensors

if TYPE_CHECKING:
    from torch import Tensor

OLDEST_TORCH: Final = "2.10"

_ZIP: Final = b"PK\x03\x04"

_ALLOWED: Final = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch [A-Za-z0-9]+Storage"
)
"""What a pickle of plain tensors names: module and attribute."""

_NAMING: Final = frozenset({"STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"})
"""Other instructions that name something; `torch.save` does not use them."""

_PICKLES: Final = 5
"""In a file that is no archive: magic number, version, system, the tensors, and the keys of their bytes."""

_FLOATS: Final = {"float64": DType.F64, "float32": DType.F32, "float16": DType.F16, "bfloat16": DType.BF16}
_INTEGERS: Final = ("int64", "int32", "int16", "int8", "uint8", "bool")


def read_pickle(file: Path) -> StoredTensors:
    """The tensors of a file of `torch.save`: a dictionary from keys to tensors. A zip is mapped into memory.

    Raises:
        CompacterError: E004 if torch is missing or too old; E501 for a file that is damaged, that is no dictionary of
            tensors, that asks for code to be run, or that unpacks to more than it holds; E003 for a data type that
            NumPy cannot hold.
    """
    try:
        import torch  # noqa: PLC0415 the importers work without it as far as there are no pickles
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "reading a pickle needs the package torch",
            remedy='Install it with: pip install "compacter-core[torch]".',
        ) from error
    require_torch(torch.__version__)
    is_zip = _begins_like_zip(file)
    if is_zip:
        _refuse_packed(file)
    _refuse_names(file, is_zip)
    try:
        content = torch.load(str(file), map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a hostile pickle can make the reader raise anything
        raise _refusal(
            file, f"torch refuses it: {str(error).splitlines()[0][:200] if str(error) else error!r}"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise _refusal(file, f"it holds a {type(content).__name__}")
    return StoredTensors(file.name, {key: _stored(file, key, value) for key, value in content.items()})


def require_torch(version: str) -> None:
    """This version of torch reads pickles without a hole that is known.

    Raises:
        CompacterError: E004 for one that is older than 2.10.
    """
    from torch.torch_version import TorchVersion  # noqa: PLC0415

    if TorchVersion(version) < OLDEST_TORCH:
        raise CompacterError(
            ErrorCode.E004,
            "this torch is too old to read a pickle: its weights_only reader has known holes",
            value=version,
            expected=f"{OLDEST_TORCH} or newer",
            remedy=f'Install it with: pip install "torch>={OLDEST_TORCH}", or convert the file to safetensors.',
        )


def _begins_like_zip(file: Path) -> bool:
    """By which torch decides how to read it."""
    with file.open("rb") as stream:
        return stream.read(len(_ZIP)) == _ZIP


def _refuse_packed(file: Path) -> None:
    """`torch.save` stores what it archives uncompressed; anything else could unpack to any size."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except Exception as error:  # a damaged archive can make its parser raise anything
        raise _refusal(file, f"the archive is damaged: {error}") from error
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise _refusal(file, f"its archive is compressed ({packed[0]})")
    total = sum(entry.file_size for entry in entries)
    if total > file.stat().st_size:
        raise _refusal(file, f"its archive claims to hold {total} bytes")


def _refuse_names(file: Path, is_zip: bool) -> None:
    """The instructions of the pickle are looked through, and none is carried out."""
    try:
        if is_zip:
            with zipfile.ZipFile(file) as archive:
                # torch finds its pickle in capitals too.
                names = [name for name in archive.namelist() if name.lower().endswith(".pkl")]
                for name in names:
                    _look_through(file, BytesIO(archive.read(name)))
        else:
            with file.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
                for _ in range(_PICKLES):
                    _look_through(file, content)
    except CompacterError:
        raise
    except Exception as error:  # a damaged pickle can make its parser raise anything
        raise _refusal(file, f"the pickle is damaged: {str(error) or type(error).__name__}") from error


def _look_through(file: Path, stream: BytesIO | mmap) -> None:
    for instruction, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]  # a mapped file reads like one
        named = str(argument) if instruction.name == "GLOBAL" else ""
        if instruction.name in _NAMING or (named and not _ALLOWED.fullmatch(named)):
            raise _refusal(file, f"the pickle asks for {named or instruction.name}")


def _stored(file: Path, key: str, value: object) -> StoredTensor:
    import torch  # noqa: PLC0415

    if not isinstance(value, torch.Tensor):
        raise _refusal(file, f"{key} is a {type(value).__name__}")
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise _refusal(file, f"{key} is not a plain tensor in memory")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise _refusal(file, f"{key} has more elements than its bytes")
    name = str(value.dtype).removeprefix("torch.")
    if name not in _FLOATS and name not in _INTEGERS:
        raise CompacterError(
            ErrorCode.E003, f"data type of {key}", value=name, expected=", ".join([*_FLOATS, *_INTEGERS])
        )
    return StoredTensor(tuple(value.shape), _FLOATS.get(name), lambda: _array(value))


def _array(tensor: "Tensor") -> Array:
    """The tensor's values, without a copy where NumPy has the type."""
    plain = tensor.detach().resolve_neg()
    array: Array = (plain.float() if str(plain.dtype) == "torch.bfloat16" else plain).numpy()
    return array


def _refusal(file: Path, reason: str) -> CompacterError:
    return CompacterError(
        ErrorCode.E501,
        f"not a file of tensors as torch.save writes it; {reason}",
        value=file.name,
        expected="a dictionary from names to tensors",
        remedy="Copy or download it again, or save it again as safetensors where it was made.",
    )
