"""Where the sites of an architecture are, as data: `compacter_core/bindings/<model_type>.json`, or a user's own file.

A binding names, per sublayer and relative to its layer: the last linear; the module whose output is h (the dropout
after it, or the linear itself); the norm; and, where that is not the norm, a module whose input is the residual r.
On post-norm models the norm is N, whose input is r + h; on pre-norm models it is the one before the sublayer, whose
input is r. Names of layers are patterns: each `*` stands for a number, and layers count in the order of these numbers.
A name that ends in `?` is left out where the model lacks the module.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.vocabulary import NormStyle, Stack, Sublayer

OPTIONAL: Final = "?"

_FOLDER: Final = files("compacter_core") / "bindings"


@dataclass(frozen=True, slots=True, kw_only=True)
class SublayerBinding:
    """Module names of one sublayer, relative to its layer."""

    linear: str
    output: str
    norm: str
    residual: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackBinding:
    """One stack of layers.

    Args:
        layers: pattern of the layers' names, such as `encoder.layer.*`.
        before: the last module before the first layer.
        sublayers: in execution order.
        norms_before: norms executed before the first layer.
        norms_after: norms executed after the last one.
    """

    layers: str
    before: str
    sublayers: Mapping[Sublayer, SublayerBinding]
    norms_before: tuple[str, ...] = ()
    norms_after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadBinding:
    """The head of one model class: its task, its linears first to last, and the linear of the backbone before them.

    `pooler_module` makes what the head reads of the last hidden states, its one argument: a pooling may take its place.
    Names are relative to the model.
    """

    task: str
    layers: tuple[str, ...]
    pooler: str | None = None
    pooler_module: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One architecture.

    Args:
        model_type: as in transformers' configurations.
        norm_style: where the norms stand.
        layouts: the stacks and their modules; the first layout whose layers a model has is its own. (Versions of
            transformers name modules differently.)
        heads: by the model's class name; None where the last linear belongs to the backbone, as a language model's.
    """

    model_type: str
    norm_style: NormStyle
    layouts: tuple[Mapping[Stack, StackBinding], ...]
    heads: Mapping[str, HeadBinding | None] = field(default_factory=dict)


def known_model_types() -> tuple[str, ...]:
    """The model types that have a binding."""
    return tuple(
        sorted(entry.name.removesuffix(".json") for entry in _FOLDER.iterdir() if entry.name.endswith(".json"))
    )


@lru_cache(maxsize=64)
def load_binding(model_type: str) -> Binding:
    """The binding of an architecture.

    Raises:
        CompacterError: E803 if there is none.
    """
    if model_type not in known_model_types():
        raise CompacterError(
            ErrorCode.E803,
            "no binding for this model type",
            value=model_type,
            expected=", ".join(known_model_types()),
            remedy="Write one (specs/bindings.md) and pass it: attach(model, config, binding=read_binding(path)).",
        )
    return _parse((_FOLDER / f"{model_type}.json").read_text(encoding="utf-8"))


def read_binding(path: Path | str) -> Binding:
    """A binding from a file of the same form, for an architecture that has none here.

    Raises:
        CompacterError: E005 if it cannot be read, E803 if it is no binding.
    """
    try:
        return _parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CompacterError(ErrorCode.E005, f"cannot read: {error.strerror or error}", value=str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompacterError(
            ErrorCode.E803,
            f"not a binding: {type(error).__name__} {error}",
            value=str(path),
            expected="JSON as specs/schemas/bindings.schema.json describes it",
        ) from error


def _parse(text: str) -> Binding:
    data: dict[str, Any] = json.loads(text)
    heads = {name: None if head is None else _head(head) for name, head in data.get("heads", {}).items()}
    if "like" in data:
        model = load_binding(data["like"])
        return Binding(model_type=data["model_type"], norm_style=model.norm_style, layouts=model.layouts, heads=heads)
    return Binding(
        model_type=data["model_type"],
        norm_style=NormStyle(data["norm_style"]),
        layouts=tuple({Stack(name): _stack(stack) for name, stack in layout.items()} for layout in data["layouts"]),
        heads=heads,
    )


def _stack(data: Mapping[str, Any]) -> StackBinding:
    return StackBinding(
        layers=data["layers"],
        before=data["before"],
        sublayers={
            Sublayer(name): SublayerBinding(**{"residual": modules["norm"], **modules})
            for name, modules in data["sublayers"].items()
        },
        norms_before=tuple(data.get("norms_before", ())),
        norms_after=tuple(data.get("norms_after", ())),
    )


def _head(data: Mapping[str, Any]) -> HeadBinding:
    return HeadBinding(**{**data, "layers": tuple(data["layers"])})
