"""Which adapters a model takes, by what its metadata say."""

from collections.abc import Mapping

from compacter_core.linkage.description import describes_itself, read_description
from compacter_core.linkage.kinds import Linkage
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Adapters, NoAdapters, Swappable


def open_adapters(metadata: Mapping[str, str], device: str) -> Adapters:
    """The adapters a model can take: none, one at a time, or a bank on that device.

    Raises:
        CompacterError: E601 if the metadata are damaged.
    """
    if not describes_itself(metadata):
        return NoAdapters()
    description = read_description(metadata)
    return (Bank if description.linkage is Linkage.BANK else Swappable)(description, device)
