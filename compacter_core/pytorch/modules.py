"""The adapter as PyTorch modules whose parameter names are the tensor names of the file.

Every tensor has one owner: a shared one stands once, under `shared`, and projections borrow it. So the state_dict of an
`AdapterModule` has exactly the names and shapes of `adapter_layout(config)`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compacter_core.adapter import Array
from compacter_core.config import AdapterConfig, Site
from compacter_core.layout import Part, Side, adapter_layout, projection_names
from compacter_core.pytorch import functional
from compacter_core.pytorch.convert import copy_into
from compacter_core.pytorch.factors import Factors
from compacter_core.pytorch.fused import adapt
from compacter_core.pytorch.site_tensors import Options, SiteTensors
from compacter_core.vocabulary import ScalingKind


class Projection(nn.Module):
    """x -> x W + b, with W applied in factors (paper, equations 4 to 6).

    Args:
        config: of the adapter.
        site: the site this projection is part of.
        side: down or up.
        shared: owner of the shared tensors.
        dtype: of the parameters; they are left uninitialised.
        device: of the parameters.

    Shape:
        [..., in] -> [..., out].
    """

    def __init__(
        self,
        config: AdapterConfig,
        site: Site,
        side: Side,
        shared: nn.Module,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.kind = config.projection.kind
        self.side = side
        names = projection_names(config, site, side)
        borrowed: list[tuple[str, nn.Module, str]] = []
        own: list[str] = []
        for short, full in names.tensors.items():
            if full.startswith(f"{Part.SHARED}."):
                owner, _, leaf = full.removeprefix(f"{Part.SHARED}.").rpartition(".")
                borrowed.append((short, shared.get_submodule(owner), leaf))
            else:
                own.append(short)
                self.register_parameter(
                    short, nn.Parameter(torch.empty(names.shapes[short], dtype=dtype, device=device))
                )
        self._own = tuple(own)
        # A tuple, because a module assigned as an attribute would be registered and its tensors listed twice.
        self._borrowed = tuple(borrowed)
        self._weight: Tensor | None = None

    @property
    def is_materialised(self) -> bool:
        """Whether the Kronecker products are carried out."""
        return self._weight is not None

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the tensors."""
        return next(iter(self.tensors().values())).dtype

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by short name, borrowed ones included."""
        tensors: dict[str, Tensor] = {short: getattr(self, short) for short in self._own}
        for short, owner, leaf in self._borrowed:
            tensors[short] = getattr(owner, leaf)
        return tensors

    def forward(self, x: Tensor) -> Tensor:
        """Y = x W + b."""
        tensors = self.tensors()
        weight = self._weight
        y = functional.project(Factors.of(tensors), self.side, x) if weight is None else x @ weight
        return y + tensors["b"] if "b" in tensors else y

    def materialise(self) -> None:
        """Carries out the Kronecker products once, in float64, and uses the result until `release`."""
        with torch.no_grad():
            exact = {short: tensor.double() for short, tensor in self.tensors().items()}
            self._weight = functional.weight(self.kind, exact).to(self.dtype)

    def release(self) -> None:
        """Goes back to the factors."""
        self._weight = None


class SiteAdapter(nn.Module):
    """D at one site: delta = scaling * (act(x Wd + bd) Wu + bu) (FWD-1).

    Works in the data type of its parameters; the result is returned in that of the input.

    Shape:
        [..., d] -> [..., d].
    """

    def __init__(
        self, config: AdapterConfig, site: Site, shared: nn.Module, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        self.non_linearity = config.non_linearity
        self.down = Projection(config, site, Side.DOWN, shared, dtype=dtype, device=device)
        self.up = Projection(config, site, Side.UP, shared, dtype=dtype, device=device)
        self.scaling: nn.Parameter | float
        if isinstance(config.scaling, ScalingKind):
            channels = 1 if config.scaling is ScalingKind.LEARNED else config.hidden_size
            self.scaling = nn.Parameter(torch.empty(channels, dtype=dtype, device=device))
        else:
            self.scaling = config.scaling

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Delta for x [..., d]; skip + delta, of the type of skip [..., d], where there is one (FWD-2)."""
        if not self.down.is_materialised:
            tensors = self.site_tensors()
            return adapt(x, skip, tensors, self._options(x, tensors.down.left.dtype))
        a = functional.activate(self.non_linearity, self.down(x.to(self.down.dtype)))
        delta: Tensor = (self.up(a) * self.scaling).to(x.dtype)
        return delta if skip is None else skip + delta.to(skip.dtype)

    def site_tensors(self) -> SiteTensors:
        """The tensors of both projections, borrowed ones included, and a trained scaling."""
        down, up = self.down.tensors(), self.up.tensors()
        scaling = self.scaling if isinstance(self.scaling, Tensor) else None
        return SiteTensors(Factors.of(down), down.get("b"), Factors.of(up), up.get("b"), scaling)

    def _options(self, x: Tensor, dtype: torch.dtype) -> Options:
        """Products have autocast's type inside autocast, else that of the tensors."""
        kind = x.device.type
        is_cast = torch.is_autocast_enabled(kind) and dtype is not torch.float64
        product_type = torch.get_autocast_dtype(kind) if is_cast else dtype
        scale = self.scaling if isinstance(self.scaling, float) else 1.0
        return Options(self.non_linearity, scale, product_type)


class AdapterModule(nn.Module):
    """All sites of one adapter, and the tensors they share.

    Args:
        config: what to build.
        tensors: initial values by full name, covering `adapter_layout(config)`.
        dtype: of the parameters.
        device: of the parameters.
    """

    def __init__(
        self,
        config: AdapterConfig,
        tensors: Mapping[str, Array],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        device = torch.device(device)
        self.config = config
        self.shared = _shared_tree(config, dtype, device)
        self.site = nn.Module()
        for site in config.sites:
            _plant(self.site, site.id, SiteAdapter(config, site, self.shared, dtype=dtype, device=device))
        self.load_tensors(tensors)

    def at(self, site_id: str) -> SiteAdapter:
        """The module of a site."""
        module = self.site.get_submodule(self.config.site(site_id).id)
        if not isinstance(module, SiteAdapter):
            raise TypeError(f"{site_id} is a {type(module).__name__}")
        return module

    def load_tensors(self, tensors: Mapping[str, Array]) -> None:
        """Copies values in, rounding them to the parameters' data type.

        Raises:
            CompacterError: E301 for a missing tensor, E304 for one of another shape.
        """
        for name, parameter in self.tensor_parameters().items():
            copy_into(parameter, name, tensors)

    def tensor_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters by the tensor's full name, in the layout's order."""
        return {name: self.get_parameter(name) for name in adapter_layout(self.config)}

    @contextmanager
    def materialise(self) -> Iterator[None]:
        """Inside the context, the Kronecker products are carried out once and the forward pass is two plain products.

        For export. Gradients do not reach the factors there.
        """
        projections = [module for module in self.modules() if isinstance(module, Projection)]
        for projection in projections:
            projection.materialise()
        try:
            yield
        finally:
            for projection in projections:
                projection.release()


def _shared_tree(config: AdapterConfig, dtype: torch.dtype, device: torch.device) -> nn.Module:
    root = nn.Module()
    for name, shape in adapter_layout(config).items():
        part, _, path = name.partition(".")
        if part == Part.SHARED:
            owner, _, leaf = path.rpartition(".")
            parameter = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
            _descend(root, owner).register_parameter(leaf, parameter)
    return root


def _plant(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    _descend(root, parent).add_module(leaf, module)


def _descend(root: nn.Module, path: str) -> nn.Module:
    """The submodule at `path`, made of empty modules where it is missing."""
    for part in filter(None, path.split(".")):
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root
