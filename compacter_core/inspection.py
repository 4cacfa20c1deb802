"""What is in an adapter file: configuration, tensors, sizes, exact parameter counts, digest."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compacter_core.adapter import Adapter, DType
from compacter_core.config import AdapterConfig, Attach
from compacter_core.format.config_json import config_to_json
from compacter_core.format.container import TensorInfo
from compacter_core.format.reader import FileContent, load_content, parse_adapter
from compacter_core.format.tensors import part_of
from compacter_core.format.writer import canonical_digest, digest
from compacter_core.layout import Part

PARAMETER_PARTS: Final = (Part.SHARED, Part.SITE, Part.OVERRIDE, Part.HEAD)
"""The parts that hold trained parameters. Sketches only recognise the backbone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """One line of the tensor table."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    elements: int

    @property
    def part(self) -> Part:
        """The part of the file the tensor belongs to."""
        return Part(part_of(self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The content of one adapter file, after every check of the format has passed.

    Args:
        path: the file or hub profile directory inspected.
        config: its configuration.
        dtype: data type of all tensors but the sketches.
        tensors: every tensor, ordered by name.
        file_bytes: size of the safetensors file.
        sha256: digest of its bytes, in hexadecimal.
        canonical: whether these are the canonical bytes, that is, whether writing it again keeps the digest.
    """

    path: Path
    config: AdapterConfig
    dtype: DType
    tensors: tuple[TensorRow, ...]
    file_bytes: int
    sha256: str
    canonical: bool

    @property
    def parameters(self) -> dict[Part, int]:
        """Exact number of trained scalars in each part; a shared tensor is stored, and counted, once."""
        return {part: sum(row.elements for row in self.tensors if row.part is part) for part in PARAMETER_PARTS}

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, sketches included."""
        return sum(row.nbytes for row in self.tensors)

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible form, for `compacter inspect --json`."""
        counts = {str(part): count for part, count in self.parameters.items()}
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "canonical": self.canonical,
            "bytes": {"file": self.file_bytes, "tensors": self.tensor_bytes},
            "dtype": self.dtype.value,
            "parameters": counts | {"total": sum(counts.values())},
            "config": json.loads(config_to_json(self.config)),
            "tensors": [
                {"name": row.name, "dtype": row.dtype.value, "shape": list(row.shape), "bytes": row.nbytes}
                for row in self.tensors
            ],
        }

    def as_text(self) -> str:
        """The same for people: a summary and the tensor table."""
        return "\n".join([*_summary(self), "", *_table(self.tensors)])


def inspect_file(path: Path | str, *, expected_sha256: str | None = None) -> Inspection:
    """Read and check an adapter file, or a hub profile directory, and describe it.

    Args:
        path: the file or the directory.
        expected_sha256: digest that the adapter file must have, in hexadecimal.

    Raises:
        CompacterError: E001, E005, E101 to E113, E201 to E211, E301 to E309, E401, E404 or E405.
    """
    return _describe(load_content(path, expected_sha256=expected_sha256), Path(path))


def inspect_bytes(data: bytes, path: Path) -> Inspection:
    """Describe the adapter in a file's bytes, found in `path`: in a grafted model, for example.

    Raises:
        CompacterError: E101 to E112, E201 to E211, E301 to E309, E401, E404 or E405.
    """
    content = FileContent(adapter=parse_adapter(data), file_bytes=len(data), sha256=digest(data))
    return _describe(content, path)


def _describe(content: FileContent, path: Path) -> Inspection:
    adapter = content.adapter
    return Inspection(
        path=path,
        config=adapter.config,
        dtype=adapter.dtype,
        tensors=tuple(sorted(_rows(adapter), key=lambda row: row.name)),
        file_bytes=content.file_bytes,
        sha256=content.sha256,
        canonical=canonical_digest(adapter) == content.sha256,
    )


def _rows(adapter: Adapter) -> Iterable[TensorRow]:
    for arrays, dtype in ((adapter.tensors, adapter.dtype), (adapter.sketches, DType.F32)):
        for name, array in arrays.items():
            info = TensorInfo(dtype, array.shape)
            yield TensorRow(name=name, dtype=dtype, shape=array.shape, nbytes=info.nbytes, elements=info.elements)


def _summary(inspection: Inspection) -> list[str]:
    config = inspection.config
    counts = inspection.parameters
    parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if count)
    lines = {
        "adapter": f"{config.name}, method {config.method}, specification {config.spec_version}",
        "file": f"{inspection.path}, {inspection.file_bytes:,} bytes ({inspection.tensor_bytes:,} of tensors)",
        "sha256": inspection.sha256 + ("" if inspection.canonical else " (not the canonical bytes)"),
        "projection": _projection(config),
        "activation": config.non_linearity.value,
        "scaling": str(config.scaling),
        "attach": _attach(config.attach),
        "sites": _sites(config),
        "backbone": _backbone(config),
        "head": _head(config),
        "parameters": f"{sum(counts.values()):,} ({parts}), {inspection.dtype.value}",
    }
    width = max(map(len, lines))
    return [f"{key:<{width}}  {_printable(text)}" for key, text in lines.items()]


def _printable(text: str) -> str:
    """Free text of the file without control characters, which could steer the reader's terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _projection(config: AdapterConfig) -> str:
    projection = config.projection
    sizes = {"phm_dim": projection.phm_dim, "phm_rank": projection.phm_rank}
    flags = {
        "shared phm_rule": projection.shared_phm_rule,
        "factorized phm_rule": projection.factorized_phm_rule,
        "shared W": projection.shared_W,
        "bias_down": config.bias_down,
        "bias_up": config.bias_up,
    }
    words = [projection.kind.value, *(f"{name} {size}" for name, size in sizes.items() if size is not None)]
    return ", ".join(words + [flag for flag, is_set in flags.items() if is_set])


def _attach(attach: Attach) -> str:
    return f"input {attach.input.value}, skip {attach.skip.value}, {'before' if attach.post else 'after'} the norm"


def _sites(config: AdapterConfig) -> str:
    """Sites with equal bottleneck on one line: ids first to last."""
    groups: dict[int, list[str]] = {}
    for site in config.sites:
        groups.setdefault(site.bottleneck_size, []).append(site.id)
    texts = [
        f"{len(ids)} x {config.hidden_size}-{size}-{config.hidden_size} ({ids[0]}{f' … {ids[-1]}' if ids[1:] else ''})"
        for size, ids in groups.items()
    ]
    return ", ".join(texts)


def _backbone(config: AdapterConfig) -> str:
    backbone = config.backbone
    if backbone is None:
        return f"not stated, hidden_size {config.hidden_size}"
    layers = ", ".join(f"{count} {stack.value} layers" for stack, count in backbone.num_layers.items())
    origin = " ".join(filter(None, (backbone.id, backbone.revision)))
    text = f"{backbone.model_type}, hidden_size {backbone.hidden_size}, {layers}, {backbone.norm_style.value}-norm"
    return f"{text}, {origin}" if origin else text


def _head(config: AdapterConfig) -> str:
    head = config.head
    if head is None:
        return "none"
    labels = f"{len(head.labels)} labels" if head.labels else "no labels"
    of = "" if head.pooling is None else f" of the {head.pooling} of the tokens"
    return f"{head.task}, {labels}, {' and '.join(head.layers)}{of}"


def _table(rows: Iterable[TensorRow]) -> list[str]:
    cells = [("tensor", "type", "shape", "bytes")]
    cells += [
        (row.name, row.dtype.value, " x ".join(map(str, row.shape)) or "scalar", f"{row.nbytes:,}") for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        f"{name:<{widths[0]}}  {dtype:<{widths[1]}}  {shape:<{widths[2]}}  {size:>{widths[3]}}"
        for name, dtype, shape, size in cells
    ]
