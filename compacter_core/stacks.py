"""An adapter cut to some stacks of its backbone, for a graph that holds these alone."""

from collections.abc import Collection
from dataclasses import replace

from compacter_core.adapter import Adapter
from compacter_core.config import AdapterConfig
from compacter_core.vocabulary import Stack


def restrict(adapter: Adapter, stacks: Collection[Stack]) -> Adapter:
    """The adapter without the sites, norms and overrides of other stacks; its tensors stay as they are.

    Raises:
        CompacterError: as `restrict_config`.
    """
    config = restrict_config(adapter.config, stacks)
    return adapter if config is adapter.config else replace(adapter, config=config)


def restrict_config(config: AdapterConfig, stacks: Collection[Stack]) -> AdapterConfig:
    """The configuration without the sites, norms and overrides of other stacks.

    In an encoder-decoder the name of every module of a stack begins with the stack's.

    Raises:
        CompacterError: E211 if no site is left.
    """
    if config.backbone is None or set(config.backbone.num_layers) <= set(stacks):
        return config
    others = tuple(f"{stack.value}." for stack in Stack if stack not in stacks)
    return replace(
        config,
        sites=tuple(site for site in config.sites if site.stack in stacks),
        overrides=tuple(one for one in config.overrides if not one.name.startswith(others)),
        backbone=replace(
            config.backbone, norms=tuple(name for name in config.backbone.norms if not name.startswith(others))
        ),
    )
