"""The configuration of one adapter: frozen, validated data with the paper's names and symbols.

Symbols used everywhere in the project: d is `hidden_size`, k a site's `bottleneck_size`, n is `phm_dim` and r is
`phm_rank`; A is the `phm_rule`, s is `W_left` and t is `W_right`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.vocabulary import (
    Activation,
    Input,
    NormStyle,
    OverrideKind,
    Pooling,
    ProjectionKind,
    ScalingKind,
    Skip,
    Stack,
    Sublayer,
)

SPEC_VERSION: Final = "1.0"
MAX_SIZE: Final = 65_536
MAX_PHM_DIM: Final = 256
MAX_PHM_RANK: Final = 1_024

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SITE_ID = re.compile(r"(encoder|decoder)\.(0|[1-9][0-9]{0,4})\.(self_attn|cross_attn|ffn)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach:
    """Where D reads and writes in a sublayer: o = skip + scaling * D(input); the result is N(r + o) if post, else o.

    The other combinations would count r twice or drop it.

    Raises:
        CompacterError: E210.
    """

    input: Input = Input.SUBLAYER_OUTPUT
    skip: Skip = Skip.SUBLAYER_OUTPUT
    post: bool = True

    def __post_init__(self) -> None:
        if self.post != (self.skip is Skip.SUBLAYER_OUTPUT):
            raise CompacterError(
                ErrorCode.E210,
                "post adds the residual r, so it goes with skip = sublayer_output and with no other skip",
                value=f"skip={self.skip.value}, post={self.post}",
                expected="(sublayer_output, true), (residual_sum, false) or (normed_sum, false)",
                remedy="Use one of the presets: " + ", ".join(ATTACH_PRESETS) + ".",
            )


ATTACH_PRESETS: Final[Mapping[str, Attach]] = MappingProxyType(
    {
        "houlsby": Attach(),
        "pfeiffer": Attach(input=Input.NORMED_SUM),
        "parallel": Attach(input=Input.RESIDUAL),
        "adapter_plus": Attach(input=Input.NORMED_SUM, skip=Skip.NORMED_SUM, post=False),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """The kind of both projections of every site, with its sizes.

    Args:
        kind: how the weight is made.
        phm_dim: n, the number of Kronecker summands; for phm and lphm only.
        phm_rank: r, the rank of the factored part; for low_rank and lphm only.
        shared_phm_rule: one rule A for the whole adapter (the paper's slow weights) instead of one per projection.
        factorized_phm_rule: A_i = phm_rule_left_i phm_rule_right_i, an outer product.
        shared_W: all sites share the fast weights too.

    Raises:
        CompacterError: E203 for a size that the kind lacks or needs, E208 for one out of range.
    """

    kind: ProjectionKind = ProjectionKind.LPHM
    phm_dim: int | None = None
    phm_rank: int | None = None
    shared_phm_rule: bool = False
    factorized_phm_rule: bool = False
    shared_W: bool = False

    def __post_init__(self) -> None:
        _require_size("phm_dim", self.phm_dim, MAX_PHM_DIM, wanted=self.kind.has_rule, kind=self.kind)
        _require_size("phm_rank", self.phm_rank, MAX_PHM_RANK, wanted=self.kind.has_rank, kind=self.kind)
        if not self.kind.has_rule and (self.shared_phm_rule or self.factorized_phm_rule):
            raise CompacterError(
                ErrorCode.E203,
                f"a {self.kind.value} projection has no phm_rule to share or to factor",
                expected="shared_phm_rule and factorized_phm_rule both false",
            )

    @classmethod
    def compacter(cls, phm_dim: int = 4, phm_rank: int = 1) -> Self:
        """The paper's projection: low-rank factors and one shared rule (section 3.2)."""
        return cls(kind=ProjectionKind.LPHM, phm_dim=phm_dim, phm_rank=phm_rank, shared_phm_rule=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place where an adapter sits.

    Args:
        id: `<stack>.<layer>.<sublayer>`, for example `encoder.0.ffn`.
        bottleneck_size: k, the width of the bottleneck.
        attach: overrides the adapter's `attach` at this site.
    """

    id: str
    bottleneck_size: int
    attach: Attach | None = None

    def __post_init__(self) -> None:
        _require_site_id(self.id)
        _require_range("bottleneck_size", self.bottleneck_size, 1, MAX_SIZE)

    @property
    def stack(self) -> Stack:
        """The stack named by the id."""
        return Stack(self.id.split(".")[0])

    @property
    def layer(self) -> int:
        """The layer index named by the id."""
        return int(self.id.split(".")[1])

    @property
    def sublayer(self) -> Sublayer:
        """The sublayer named by the id."""
        return Sublayer(self.id.split(".")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteModules:
    """Names of a site's modules in the backbone: the sublayer's last linear, and the norm after its residual sum."""

    linear: str
    norm: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """What the adapter was trained on, as far as it decides where the adapter fits.

    Args:
        model_type: the architecture's name, as transformers' `model_type`.
        hidden_size: d of the backbone.
        num_layers: layers per stack.
        norm_style: post or pre.
        id: a hub name or path, informative.
        revision: of that id, informative.
        modules: site id to module names; they cross-check the weight sketches.
        norms: names of all norm modules of the backbone in order of execution; they locate norm overrides in a graph.
    """

    model_type: str
    hidden_size: int
    num_layers: Mapping[Stack, int]
    norm_style: NormStyle
    id: str | None = None
    revision: str | None = None
    modules: Mapping[str, SiteModules] = field(default_factory=dict)
    norms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_range("backbone.hidden_size", self.hidden_size, 1, MAX_SIZE)
        for stack, layers in self.num_layers.items():
            _require_range(f"backbone.num_layers.{stack.value}", layers, 1, 99_999)
        for site_id in self.modules:
            _require_site_id(site_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A backbone tensor replaced whole by `override.<name>`."""

    name: str
    kind: OverrideKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A task head trained with the adapter, stored as `head.<layer>.weight` and `head.<layer>.bias`.

    Args:
        task: transformers' task name, for example "text-classification".
        layers: module names of the head's linears, first to last.
        shapes: shape of each head tensor by name, for example {"classifier.weight": (77, 384)} (out x in, as stored).
        labels: class names by index; empty for regression.
        pooler: name of a linear of the backbone between its layers and the head, if there is one that did not train;
            its sketch tells whether the backbone still has it.
        pooling: what the first layer reads instead of the output of the backbone's pooler.
    """

    task: str
    layers: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    labels: tuple[str, ...] = ()
    pooler: str | None = None
    pooling: Pooling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Everything about an adapter that is not a tensor.

    Each site computes y = skip + scaling * (act(x Wd + bd) Wu + bu) (FWD-1, FWD-2; paper, equations 1 to 7).

    Args:
        method: a label, for example "compacter++"; it decides nothing.
        name: the adapter's name, `[A-Za-z0-9_-]{1,64}`.
        hidden_size: d.
        projection: kind and sizes of the projections.
        sites: where the adapter sits, in execution order.
        non_linearity: the activation.
        bias_down: whether the down-projection has the bias bd.
        bias_up: whether the up-projection has the bias bu.
        scaling: a fixed number, or the kind of a trained scaling.
        attach: placement in each sublayer, unless a site says otherwise.
        backbone: what the adapter was trained on.
        overrides: backbone tensors replaced.
        head: the task head.
        training: informative, how the adapter was made (initialiser ranges, dropout, seeds).
        extensions: keys of other tools; an object without `"must_understand": false` is refused.

    Raises:
        CompacterError: E203, E207, E208, E211, E401.
    """

    method: str
    name: str
    hidden_size: int
    projection: Projection
    sites: tuple[Site, ...]
    non_linearity: Activation = Activation.GELU_NEW
    bias_down: bool = True
    bias_up: bool = True
    scaling: float | ScalingKind = 1.0
    attach: Attach = Attach()
    backbone: Backbone | None = None
    overrides: tuple[Override, ...] = ()
    head: Head | None = None
    training: Mapping[str, object] = field(default_factory=dict)
    extensions: Mapping[str, object] = field(default_factory=dict)
    spec_version: str = SPEC_VERSION

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise CompacterError(ErrorCode.E208, "adapter name", value=self.name, expected="[A-Za-z0-9_-]{1,64}")
        _require_range("hidden_size", self.hidden_size, 1, MAX_SIZE)
        if not isinstance(self.scaling, ScalingKind) and not math.isfinite(self.scaling):
            raise CompacterError(ErrorCode.E208, "scaling", value=self.scaling, expected="a finite number")
        self._check_sites()
        self._check_division()
        self._check_backbone()

    def attach_of(self, site: Site) -> Attach:
        """The placement that holds at `site`."""
        return site.attach or self.attach

    def site(self, site_id: str) -> Site:
        """The site of that id.

        Raises:
            CompacterError: E211 if the adapter has none.
        """
        for site in self.sites:
            if site.id == site_id:
                return site
        raise CompacterError(
            ErrorCode.E211, "the adapter has no such site", value=site_id, expected=", ".join(s.id for s in self.sites)
        )

    def _check_sites(self) -> None:
        if not self.sites:
            raise CompacterError(
                ErrorCode.E211,
                "the adapter has no site",
                expected="at least one site",
                remedy="Name layers or sites that the backbone has; AdapterDrop leaves out the first five layers.",
            )
        seen: set[str] = set()
        for site in self.sites:
            if site.id in seen:
                raise CompacterError(ErrorCode.E211, "a site is listed twice", value=site.id)
            seen.add(site.id)
        sizes = {site.bottleneck_size for site in self.sites}
        if self.projection.shared_W and len(sizes) > 1:
            raise CompacterError(
                ErrorCode.E203,
                "shared_W needs one bottleneck_size for all sites",
                value=sorted(sizes),
                remedy="Give every site the same bottleneck_size or set shared_W to false.",
            )

    def _check_division(self) -> None:
        n = self.projection.phm_dim
        if n is None:
            return
        sizes = {"hidden_size": self.hidden_size}
        sizes |= {f"bottleneck_size of {site.id}": site.bottleneck_size for site in self.sites}
        for what, size in sizes.items():
            if size % n:
                nearest = nearest_divisors(self.hidden_size, n)
                raise CompacterError(
                    ErrorCode.E207,
                    f"phm_dim {n} does not divide the {what}",
                    value=size,
                    expected=f"multiples of {n}",
                    remedy=f"The nearest phm_dim that divides hidden_size {self.hidden_size}: {nearest}; "
                    f"the nearest multiples of {n} to {size}: {nearest_multiples(size, n)}.",
                )

    def _check_backbone(self) -> None:
        if self.backbone is None:
            return
        if self.backbone.hidden_size != self.hidden_size:
            raise CompacterError(
                ErrorCode.E401,
                "hidden_size of the adapter and of its backbone differ",
                value=self.hidden_size,
                expected=str(self.backbone.hidden_size),
            )
        for site in self.sites:
            layers = self.backbone.num_layers.get(site.stack, 0)
            if site.layer >= layers:
                raise CompacterError(
                    ErrorCode.E211,
                    "a site lies outside the backbone",
                    value=site.id,
                    expected=f"layers 0 to {layers - 1} of the {site.stack.value}" if layers else "another stack",
                )


def nearest_divisors(size: int, near: int) -> list[int]:
    """The divisors of `size` closest below and above `near`."""
    divisors = [n for n in range(1, min(size, MAX_PHM_DIM) + 1) if size % n == 0]
    below = [n for n in divisors if n <= near][-1:]
    above = [n for n in divisors if n > near][:1]
    return below + above


def nearest_multiples(size: int, n: int) -> list[int]:
    """The positive multiples of `n` closest below and above `size`."""
    return [m for m in (size // n * n, (size // n + 1) * n) if m > 0]


def _require_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise CompacterError(ErrorCode.E208, f"{what} out of range", value=value, expected=f"{low} to {high}")


def _require_site_id(site_id: str) -> None:
    if not _SITE_ID.fullmatch(site_id):
        raise CompacterError(
            ErrorCode.E211,
            "site id outside the grammar",
            value=site_id,
            expected="(encoder|decoder).<layer>.(self_attn|cross_attn|ffn)",
        )


def _require_size(what: str, value: int | None, high: int, *, wanted: bool, kind: ProjectionKind) -> None:
    if wanted and value is None:
        raise CompacterError(ErrorCode.E203, f"a {kind.value} projection needs {what}")
    if not wanted and value is not None:
        raise CompacterError(ErrorCode.E203, f"a {kind.value} projection has no {what}", value=value)
    if value is not None:
        _require_range(what, value, 1, high)
