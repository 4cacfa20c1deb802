"""What an importer returns, and the backbone that it may ask."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from compacter_core.adapter import Adapter, Array
from compacter_core.config import AdapterConfig, Backbone, Head
from compacter_core.layout import Shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImportedAdapter:
    """An adapter of this format, and what its user should know about where it came from.

    Args:
        adapter: the result; with sketches and a description of the backbone if the importer was given the backbone.
        notes: sentences for the user, such as an assumption that the importer had to make.
    """

    adapter: Adapter
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Names of modules around a site, relative to the base model.

    Args:
        outputs: whose output is h, up to a dropout.
        residuals: whose input is r.
    """

    outputs: frozenset[str]
    residuals: frozenset[str]


class KnownBackbone(Protocol):
    """A backbone that an importer can look into; names are as in `compacter_core.config.Backbone`."""

    @property
    def description(self) -> Backbone:
        """Sizes, norm style, and module names of sites and norms."""

    def sketches(self, config: AdapterConfig) -> dict[str, Array]:
        """The sketches of the linears that an adapter of this configuration recognises its backbone by.

        Raises:
            CompacterError: E211 for a site that the backbone lacks; E501 if the head needs a pooler that the
                backbone's checkpoint does not have, so that its values are random.
        """

    def norms(self) -> dict[str, Array]:
        """Gains and biases of all norms by their name in the base model, in execution order."""

    def base_tensors(self) -> dict[str, Array]:
        """All tensors of the base model's state by name."""

    def head(self, model_class: str, shapes: Mapping[str, Shape], labels: tuple[str, ...]) -> Head | None:
        """The head of a transformers class on this backbone; None if its last linear belongs to the backbone.

        Args:
            model_class: for example BertForSequenceClassification.
            shapes: of the head's tensors, by their name in a model of that class.
            labels: class names by index.

        Raises:
            CompacterError: E803 if the binding does not know that class.
        """

    def surroundings(self, site_id: str) -> Surroundings:
        """The modules around a site.

        Raises:
            CompacterError: E211 if the backbone has no such site.
        """

    def outside_base(self, model_class: str) -> dict[str, Array]:
        """What a model of a transformers class has outside its base model, with the backbone's values.

        Raises:
            CompacterError: E803 if the binding does not know that class.
        """
