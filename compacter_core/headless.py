"""An adapter without its task head, for a base model or for another task."""

from dataclasses import replace

from compacter_core.adapter import Adapter
from compacter_core.format.sketch import POOLER, bias_name, weight_name
from compacter_core.layout import Part


def without_head(adapter: Adapter) -> Adapter:
    """The adapter and the norms that it replaces, without the head and the sketches of the pooler before it."""
    head, pooler = f"{Part.HEAD}.", (weight_name(POOLER), bias_name(POOLER))
    return replace(
        adapter,
        config=replace(adapter.config, head=None),
        tensors={name: array for name, array in adapter.tensors.items() if not name.startswith(head)},
        sketches={name: array for name, array in adapter.sketches.items() if name not in pooler},
    )
