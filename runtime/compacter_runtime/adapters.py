"""Which adapters a model takes, by what its metadata say."""

from collections.abc import Mapping

from compacter_core.linkage.description import Description, describes_itself, read_description
from compacter_core.linkage.kinds import Linkage
from compacter_runtime.bank import Bank
from compacter_runtime.choosing import Adapters, NoAdapters, Swappable


def description_of(metadata: Mapping[str, str]) -> Description | None:
    """What a model says of the adapters it takes; None if it takes none.

    Raises:
        CompacterError: E601 if the metadata are damaged.
    """
    return read_description(metadata) if describes_itself(metadata) else None


def open_adapters(description: Description | None, device: str) -> Adapters:
    """The adapters a model can take: none, one at a time, or a bank on that device."""
    if description is None:
        return NoAdapters()
    return (Bank if description.linkage is Linkage.BANK else Swappable)(description, device)
