"""The files of an AdapterHub directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.options import CONFIG_FILE, Options, parse_options
from compacter_core.importers.checkpoint import find_file, read_state
from compacter_core.importers.options import read_json_object
from compacter_core.importers.stored import StoredTensors

WEIGHTS: Final = ("adapter.safetensors", "pytorch_adapter.bin")
HEAD_WEIGHTS: Final = ("model_head.safetensors", "pytorch_model_head.bin")
INTERFACE_FILE: Final = "adapter_interface.json"
FUSION_FILES: Final = ("adapter_fusion_config.json", "adapter_setup.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """`adapter_config.json`.

    Args:
        name: of the adapter, as in the keys of its tensors.
        model_type: the architecture.
        hidden_size: d.
        version: of the library, or None before it wrote one.
        options: of the adapter.
    """

    name: str
    model_type: str
    hidden_size: int
    version: str | None
    options: Options


def read_config(directory: Path) -> HubConfig:
    """The configuration of the adapter in a directory.

    Raises:
        CompacterError: E501 if there is none, E502 for what this format cannot express.
    """
    for name in FUSION_FILES:
        if (directory / name).exists():
            raise CompacterError(
                ErrorCode.E502,
                f"the directory has {name}: several adapters that act together, which this format cannot express",
                value=str(directory),
                remedy="Save one adapter alone, with save_adapter.",
            )
    data = read_json(directory, CONFIG_FILE)
    options = data.get("config")
    if not isinstance(options, Mapping):
        raise CompacterError(
            ErrorCode.E501,
            f"config of {CONFIG_FILE}",
            value=options,
            expected="the adapter's options",
            remedy="Is this a directory that AdapterHub's save_adapter wrote?",
        )
    for key, kind in (("name", str), ("model_type", str), ("hidden_size", int)):
        if not isinstance(data.get(key), kind):
            raise CompacterError(ErrorCode.E501, f"{key} of {CONFIG_FILE}", value=data.get(key), expected=kind.__name__)
    version = data.get("version")
    return HubConfig(
        name=data["name"],
        model_type=data["model_type"],
        hidden_size=data["hidden_size"],
        version=None if version is None else str(version),
        options=parse_options(options),
    )


def read_json(directory: Path, name: str) -> Mapping[str, Any]:
    """A JSON object of the directory.

    Raises:
        CompacterError: E501 if the file is missing or no JSON object, E104 for a duplicate key.
    """
    return read_json_object(directory, name, remedy="Give the directory that AdapterHub's save_adapter wrote.")


def read_interface(directory: Path) -> Mapping[str, Any] | None:
    """The interface through which the library reaches a model that it does not know; None if it knows the model.

    Raises:
        CompacterError: E501 for a file that is none.
    """
    if not (directory / INTERFACE_FILE).exists():
        return None
    interface = read_json(directory, INTERFACE_FILE).get("interface")
    if not isinstance(interface, Mapping):
        raise CompacterError(ErrorCode.E501, f"interface of {INTERFACE_FILE}", value=interface, expected="an object")
    return interface


def read_head_weights(directory: Path, *, allow_pickle: bool) -> StoredTensors | None:
    """The head's tensors, or None if no head was saved.

    Raises:
        CompacterError: as `compacter_core.importers.checkpoint.read_state`.
    """
    file = find_file(directory, HEAD_WEIGHTS)
    return None if file is None else read_state(file, allow_pickle=allow_pickle)
