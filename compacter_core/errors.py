"""The one exception of the project and the catalogue of its codes.

A rejection is part of the interface: every error carries a stable code from the specification, the offending value,
what was expected, and the remedy. Codes are grouped by their first digit; each code stands for one reason to reject.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable codes, the member name is the code and the value says what it means.

    E0xx arguments and environment, E1xx container, E2xx configuration, E3xx tensors, E4xx backbone, E5xx importers,
    E6xx ONNX, E7xx runtime, E8xx data and training.
    """

    E001 = "argument out of range"
    E002 = "array of the wrong shape"
    E003 = "unsupported data type"
    E004 = "an optional dependency is not installed"
    E005 = "file cannot be read"
    E006 = "file cannot be written"

    E101 = "file truncated or its length field is wrong"
    E102 = "header larger than the limit"
    E103 = "header is not a UTF-8 JSON object"
    E104 = "duplicate key in JSON"
    E105 = "tensor bytes overlap, leave a gap or do not cover the file"
    E106 = "byte size of a tensor does not match its shape"
    E107 = "tensor rank or dimension out of range"
    E108 = "too many tensors or a tensor name too long"
    E109 = "tensor name outside the grammar"
    E110 = "tensor data type not allowed"
    E111 = "unknown field in a tensor entry"
    E112 = "pickle or zip bytes instead of safetensors"
    E113 = "file digest differs from the expected one"

    E201 = "no compacter metadata"
    E202 = "configuration JSON exceeds a limit"
    E203 = "configuration does not follow the schema"
    E204 = "specification version not supported"
    E205 = "unknown configuration key"
    E206 = "adapter_config.json differs from the embedded configuration"
    E207 = "phm_dim does not divide a size"
    E208 = "configuration value out of range"
    E209 = "unknown non_linearity"
    E210 = "attach combination not allowed"
    E211 = "duplicate or out-of-range site"

    E301 = "tensor missing"
    E302 = "phm_rule missing"
    E303 = "unexpected tensor"
    E304 = "tensor of the wrong shape"
    E305 = "tensors of different data types"
    E306 = "tensor holds a NaN or an infinity"
    E307 = "aliases of one tensor disagree"
    E308 = "both the factored and the dense form of a tensor are present"
    E309 = "more tensor elements than the budget"

    E401 = "backbone of another type or size"
    E402 = "backbone with another norm style"
    E403 = "backbone weights are not those the adapter was trained on"
    E404 = "override names no tensor of the backbone, or one of another shape"
    E405 = "override of a kind that is not allowed"

    E501 = "not a checkpoint that this importer reads"
    E502 = "checkpoint uses something that this format does not have"
    E503 = "checkpoint's library computes something else than its configuration says"
    E504 = "adapter uses something that the other library's format does not have"

    E601 = "ONNX model without compacter metadata"
    E602 = "tensor named by the metadata is not in the graph"
    E603 = "tensor digest differs from the metadata"
    E604 = "site not found in the graph, or found more than once"
    E605 = "graph cannot be grafted in the requested form"
    E606 = "a site computes something else than the reference"

    E701 = "execution provider not available"
    E702 = "no tokenizer beside the model"
    E703 = "input does not fit the model"
    E704 = "model cannot be loaded"

    E801 = "data cannot be used"
    E802 = "label unknown to the model"
    E803 = "no binding for this kind of backbone"
    E804 = "model already has, or does not have, an adapter"


class CompacterError(Exception):
    """A rejected input.

    Its texts may quote the input, which may come from a stranger: they are cut to some hundred characters, and control
    characters, which could steer a terminal or forge a line of a log, are written as escapes.

    Args:
        code: the reason, from the tables of specs/errors.md.
        message: one sentence saying what is wrong, with the place.
        value: the offending value, shortened by `str`.
        expected: what would have been accepted.
        remedy: what the user can do about it.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        value: object = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.code = code
        self.message = _printable(message)
        self.value = value
        self.expected = None if expected is None else _printable(expected)
        self.remedy = None if remedy is None else _printable(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        parts = [f"{self.code.name}: {self.message}"]
        if self.value is not None:
            parts.append(f"got {_shorten(self.value)}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        text = "; ".join(parts)
        return f"{text}. {self.remedy}" if self.remedy else text

    def as_dict(self) -> dict[str, str | None]:
        """The error as JSON-compatible fields, for `--json` output and reports."""
        return {
            "code": self.code.name,
            "title": self.code.value,
            "message": self.message,
            "value": None if self.value is None else _shorten(self.value),
            "expected": self.expected,
            "remedy": self.remedy,
        }


def _shorten(value: object, limit: int = 200) -> str:
    """`value` as text of at most `limit` characters, so that a hostile input cannot flood a terminal."""
    if isinstance(value, str | bytes | list | tuple):
        value = value[:limit]  # before it is written out at its full length
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _printable(text: str, limit: int = 1_000) -> str:
    """The text in one line, with control characters as escapes, at most `limit` characters of it."""
    shown = (text if len(text) <= limit else text[: limit - 1] + "…").replace("\n", " ")
    if shown.isprintable():
        return shown
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in shown)
