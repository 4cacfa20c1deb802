"""What a graph that takes adapters at run time says about itself, in its metadata.

The graph was opened for a *template*, an adapter's configuration: it decides sites, placements, activation, replaced
tensors and head. Beside it stand tensors of the backbone, without which an adapter's own could not be made:

    sketch.<site>.weight|bias   recognise the backbone, as in an adapter file
    bias.<site>                 b of the site's linear, where the adapter reads the product m = h - b instead of h
    override.<name>             what the backbone has in the place of a tensor the template replaces (in a bank; and of
                                norms behind sites that are calls)
    head.<name>                 the same for the head (bank only)

The graphs of a directory all carry the description of the whole, and each the stacks that it holds itself.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from safetensors import SafetensorError
from safetensors.numpy import load, save

from compacter_core.adapter import Array, DType
from compacter_core.config import AdapterConfig
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.config_json import config_from_json, config_to_json
from compacter_core.layout import Part
from compacter_core.linkage.kinds import Linkage
from compacter_core.stacks import restrict_config
from compacter_core.vocabulary import Stack

KIND: Final = "compacter.linkage"
DTYPE: Final = "compacter.dtype"
TEMPLATE: Final = "compacter.template"
BACKBONE: Final = "compacter.backbone"
STACKS: Final = "compacter.stacks"
FORM: Final = "compacter.form"
_CALLS: Final = "sublayer"

_REMEDY: Final = "Graft again; an optimiser or another tool has changed the model."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """An open graph.

    Args:
        linkage: swappable or bank.
        template: the configuration it was opened for.
        dtype: type of the tensors it takes.
        backbone: tensors of the backbone by name, see above.
        stacks: those that this graph holds, of a model in several graphs; None for all of the template's.
        has_calls: whether its sites are calls (LNK-22, LNK-23). A swappable graph takes factors then.
    """

    linkage: Linkage
    template: AdapterConfig
    dtype: DType
    backbone: Mapping[str, Array] = field(default_factory=dict)
    stacks: tuple[Stack, ...] | None = None
    has_calls: bool = False

    @property
    def here(self) -> AdapterConfig:
        """The template without the sites and replaced tensors of stacks that other graphs hold."""
        return self.template if self.stacks is None else restrict_config(self.template, self.stacks)

    def bias(self, site_id: str) -> Array | None:
        """The bias b of a site's linear where the adapter reads m = h - b, else None."""
        return self.backbone.get(f"bias.{site_id}")

    def replaced(self, part: Part, name: str) -> Array:
        """What the backbone has in the place of an override or head tensor.

        Raises:
            CompacterError: E602 if the description lacks it.
        """
        full = f"{part}.{name}"
        if full not in self.backbone:
            raise CompacterError(ErrorCode.E602, "the open graph's description lacks a tensor", value=full)
        return self.backbone[full]

    @property
    def sketches(self) -> dict[str, Array]:
        """The sketches by their name in an adapter file."""
        prefix = f"{Part.SKETCH}."
        return {name: array for name, array in self.backbone.items() if name.startswith(prefix)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but `stacks`: equal for two graphs exactly if they are for the same adapters."""
        digest = hashlib.sha256()
        for key, value in sorted(self._whole().items()):
            digest.update(f"{key}\0{value}\0".encode())
        return digest.hexdigest()

    @property
    def version(self) -> int:
        """The first 31 bits of the fingerprint, which fit ONNX Runtime's `model_version`."""
        return short_version(self.fingerprint)

    def as_metadata(self) -> dict[str, str]:
        """The metadata of the model."""
        here = {} if self.stacks is None else {STACKS: " ".join(stack.value for stack in self.stacks)}
        return self._whole() | here

    def _whole(self) -> dict[str, str]:
        # safetensors sorts by type and name, so the bytes are a function of the tensors.
        return {
            KIND: self.linkage.value,
            DTYPE: self.dtype.value,
            TEMPLATE: config_to_json(self.template),
            BACKBONE: base64.b64encode(save(dict(self.backbone))).decode("ascii"),
            **({FORM: _CALLS} if self.has_calls else {}),
        }


def short_version(digest: str) -> int:
    """The first 31 bits of a hexadecimal digest."""
    return int(digest[:8], 16) >> 1


def describes_itself(metadata: Mapping[str, str]) -> bool:
    """Whether the model's metadata are those of an open graph."""
    return KIND in metadata


def read_description(metadata: Mapping[str, str]) -> Description:
    """The description in a model's metadata.

    Raises:
        CompacterError: E601 if there is none, or if it is damaged; E2xx for a damaged template.
    """
    if not describes_itself(metadata):
        raise CompacterError(
            ErrorCode.E601,
            "the model takes no adapters at run time",
            value=sorted(metadata),
            expected=KIND,
            remedy="Make one with `compacter graft --linkage swappable` or `--linkage bank`.",
        )
    try:
        return Description(
            linkage=Linkage(metadata[KIND]),
            template=config_from_json(metadata[TEMPLATE]),
            dtype=DType(metadata[DTYPE]),
            backbone=load(base64.b64decode(metadata[BACKBONE], validate=True)),
            stacks=tuple(map(Stack, metadata[STACKS].split())) if STACKS in metadata else None,
            has_calls=metadata.get(FORM) == _CALLS,
        )
    except (KeyError, ValueError, binascii.Error, SafetensorError) as error:
        raise CompacterError(ErrorCode.E601, "the model's linkage metadata is damaged", remedy=_REMEDY) from error
