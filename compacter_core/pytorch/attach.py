"""Attach an adapter to a transformers model.

The model keeps its class and its state_dict keys; adapters are one more submodule, `model.compacter`, and act through
hooks. The backbone is frozen; its norms and its head train with the adapter (paper, section 4.1) and belong to it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from compacter_core.adapter import Adapter, Array
from compacter_core.compatibility import check_structure
from compacter_core.config import AdapterConfig, Override
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.headless import without_head
from compacter_core.pytorch.adapters import Adapters
from compacter_core.pytorch.attached import AttachedAdapter
from compacter_core.pytorch.binding_files import Binding
from compacter_core.pytorch.compatibility import check_fit, check_replaceable
from compacter_core.pytorch.sketches import sketches_of
from compacter_core.reference.initialise import initialise
from compacter_core.vocabulary import OverrideKind, Pooling


def attach(
    model: nn.Module,
    config: AdapterConfig,
    *,
    name: str | None = None,
    generator: torch.Generator | int = 0,
    train_norms: bool = True,
    train_head: bool = True,
    train_pooler: bool = False,
    pooling: Pooling | None = None,
    sketches: Mapping[str, Array] | None = None,
    binding: Binding | None = None,
) -> AttachedAdapter:
    """Puts a freshly initialised adapter into a transformers model, makes it active, and freezes the backbone.

    Args:
        model: a base model or a task model of a bound architecture (see `known_model_types`).
        config: for example from `create_config(describe_backbone(model))`.
        name: under which the model knows the adapter; that of the configuration by default.
        generator: source of the initial values: a seed, or a generator to draw the seed from.
        train_norms: train all norms of the backbone and save them with the adapter.
        train_head: train the task head and save it with the adapter. A base model has none.
        train_pooler: train and save the pooler with the head too: for a checkpoint that has no pooler of its own, whose
            random one would be another at each load.
        pooling: what the head reads in place of the pooler's output: for a backbone that was trained with it.
        sketches: for a quantised backbone, those of the original (`sketch_backbone`), so that the adapter fits both.
        binding: of an architecture that has none here; the same for `describe_backbone`.

    Returns:
        The adapter, which is also `model.compacter.get(name)`.

    Raises:
        CompacterError: E804 if there is an adapter of that name already, E001 for a name that cannot be, for a pooler
            that trains beside a pooling, and for a pooling without a head, E803 for an unknown architecture or head,
            E401 and E402 if `config.backbone` describes another model, E211 for a site that the model lacks, E003 for a
            quantised backbone that has no sketch or a quantised head, E403 for `sketches` of another model. The model
            is unchanged then.
    """
    if pooling is not None and train_pooler:
        raise CompacterError(
            ErrorCode.E001,
            "train_pooler",
            value=True,
            expected=f"False, since the pooling {pooling} leaves it out",
            remedy="Leave one of the two out.",
        )
    adapters = Adapters.of(model, binding)
    name = name or config.name
    adapters.check_new(name)
    bound = adapters.backbone
    check_structure(config.backbone, bound.description)
    overrides = bound.norm_parameters() if train_norms else {}
    with adapters.bare():
        head = bound.task_head.describe(with_pooler=train_pooler, pooling=pooling) if train_head else None
        if pooling is not None and head is None:
            raise CompacterError(
                ErrorCode.E001,
                "pooling",
                value=str(pooling),
                expected="None, since the adapter has no head to train",
                remedy="Leave the pooling out, or attach to a model with a head and train that.",
            )
        config = replace(
            config,
            backbone=config.backbone or bound.description,
            overrides=tuple(Override(name=norm, kind=OverrideKind.NORM) for norm in overrides),
            head=head,
        )
        found = sketches_of(bound, config, sketches)
        check_replaceable(config, bound)
        tensors = initialise(config, np.random.default_rng(_seed(generator)))
        attached = AttachedAdapter(bound, config, tensors, found, adapters.state)
    attached.set_trainable(True)
    adapters.add(name, attached)
    return attached


def attach_adapter(
    model: nn.Module,
    adapter: Adapter,
    *,
    name: str | None = None,
    trainable: bool = False,
    with_head: bool = True,
    binding: Binding | None = None,
) -> AttachedAdapter:
    """Puts a trained adapter with its norms and head into a model, and makes it active.

    Args:
        model: the backbone that the adapter was trained on.
        adapter: for example from `compacter_core.format.reader.load_adapter`.
        name: under which the model knows the adapter; that of its configuration by default.
        trainable: go on training; otherwise every parameter of the model is frozen.
        with_head: take over the adapter's head too. Without it, an adapter fits a base model or one for another task.
        binding: as for `attach`.

    Raises:
        CompacterError: E804 if there is an adapter of that name already, E001 for a name that cannot be, E401 to E405
            if the adapter does not fit. The model is unchanged then.
    """
    adapters = Adapters.of(model, binding)
    name = name or adapter.config.name
    adapters.check_new(name)
    bound = adapters.backbone
    adapter = adapter if with_head else without_head(adapter)
    check_structure(adapter.config.backbone, bound.description)
    with adapters.bare():
        sketches = sketches_of(bound, adapter.config)
        check_fit(adapter, bound, sketches)
        check_replaceable(adapter.config, bound)
        config = replace(adapter.config, backbone=adapter.config.backbone or bound.description)
        attached = AttachedAdapter(bound, config, adapter.tensors, sketches, adapters.state)
        attached.take(adapter)
    attached.set_trainable(trainable)
    adapters.add(name, attached)
    return attached


def _seed(generator: torch.Generator | int) -> int:
    if isinstance(generator, int):
        return generator
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
