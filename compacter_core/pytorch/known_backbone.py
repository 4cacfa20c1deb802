"""A backbone's checkpoint, for importers to look into: sites, norms, sketches, heads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError
from transformers import AutoModel

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig, Backbone, Head
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.result import Surroundings
from compacter_core.layout import Shape
from compacter_core.pytorch.binding_files import HeadBinding
from compacter_core.pytorch.bindings import BoundBackbone, bind
from compacter_core.pytorch.convert import view_array
from compacter_core.pytorch.sketches import sketches_of


def open_backbone(directory: Path | str) -> "TransformersBackbone":
    """The backbone in a directory that transformers' `save_pretrained` wrote, or of a hub name.

    Raises:
        CompacterError: E005 if there is no such model, E803 if its architecture has no binding.
    """
    try:
        model, info = AutoModel.from_pretrained(str(directory), output_loading_info=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CompacterError(
            ErrorCode.E005,
            f"no backbone there ({' '.join(str(error).split())[:120]})",
            value=str(directory),
            expected="a directory with config.json and model.safetensors, as save_pretrained writes it",
        ) from error
    return TransformersBackbone(bind(model), frozenset(info["missing_keys"]), str(directory))


class TransformersBackbone:
    """`KnownBackbone` of a transformers base model.

    Args:
        bound: the model.
        absent: names of parameters that its checkpoint lacks, whose values are random.
        source: where it was loaded from.
    """

    def __init__(self, bound: BoundBackbone, absent: frozenset[str], source: str) -> None:
        self._bound = bound
        self._absent = absent
        self._source = source

    @property
    def description(self) -> Backbone:
        """Sizes, norm style, and module names of sites and norms."""
        return self._bound.description

    def sketches(self, config: AdapterConfig) -> dict[str, Array]:
        """The sketches of the linears that an adapter of this configuration recognises its backbone by.

        Raises:
            CompacterError: E211 for a site that the backbone lacks, E501 for a pooler that its checkpoint lacks.
        """
        pooler = None if config.head is None else config.head.pooler
        if pooler is not None and f"{pooler.partition('.')[2]}.weight" in self._absent:
            raise CompacterError(
                ErrorCode.E501,
                "the head reads a pooler that neither the adapter's checkpoint nor the backbone's has",
                value=pooler,
                remedy="Its values in training are lost; import without the head.",
            )
        return sketches_of(self._bound, config)

    def norms(self) -> dict[str, Array]:
        """Gains and biases of all norms by their name in the base model, in execution order."""
        return {name: view_array(parameter) for name, parameter in self._bound.norm_parameters().items()}

    def base_tensors(self) -> dict[str, Array]:
        """All tensors of the base model's state by name."""
        return {name: view_array(tensor) for name, tensor in self._bound.base.state_dict().items()}

    def head(self, model_class: str, shapes: Mapping[str, Shape], labels: tuple[str, ...]) -> Head | None:
        """The head of a transformers class on this backbone; None if its last linear belongs to the backbone.

        Raises:
            CompacterError: E803 if the binding does not know that class.
        """
        known = self._known_head(model_class)
        if known is None:
            return None
        trains_pooler = known.pooler is not None and f"{known.pooler}.weight" in shapes
        return Head(
            task=known.task,
            layers=(str(known.pooler), *known.layers) if trains_pooler else known.layers,
            shapes=dict(shapes),
            labels=labels,
            pooler=None if trains_pooler else known.pooler,
        )

    def surroundings(self, site_id: str) -> Surroundings:
        """The modules around a site.

        Raises:
            CompacterError: E211 if the backbone has no such site.
        """
        names, layer = self._bound.names(site_id)
        return Surroundings(
            outputs=frozenset({f"{layer}.{names.linear}", f"{layer}.{names.output}"}),
            residuals=frozenset({f"{layer}.{names.residual}"}),
        )

    def outside_base(self, model_class: str) -> dict[str, Array]:
        """What a model of a transformers class has outside its base model, with the backbone's values.

        Raises:
            CompacterError: E803 if the binding does not know that class.
        """
        self._known_head(model_class)
        model: Any = getattr(transformers, model_class).from_pretrained(self._source)
        prefix = f"{model.base_model_prefix}."
        inside = set(self._bound.base.state_dict())
        return {
            name: view_array(tensor)
            for name, tensor in model.state_dict().items()
            if name.removeprefix(prefix) not in inside
        }

    def _known_head(self, model_class: str) -> HeadBinding | None:
        heads = self._bound.binding.heads
        if model_class not in heads:
            raise CompacterError(
                ErrorCode.E803,
                "the binding does not know the head of this model",
                value=model_class,
                expected=", ".join(heads),
                remedy="Import the adapter without its head.",
            )
        return heads[model_class]
