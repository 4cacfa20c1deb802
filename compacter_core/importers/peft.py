"""Directories of Hugging Face's PEFT: its methods are no bottleneck adapters, and this project's own profile loads.

PEFT changes weights (LoRA, LoKr and their like: W + delta W, which merges into the model) or puts something before the
input (prompts, prefixes). A bottleneck adapter is neither, so no conversion exists. This project's hub profile has the
same file names and is read as it is.
"""

from pathlib import Path
from typing import Final, NoReturn

from compacter_core.compatibility import check_sites, check_structure
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.format.writer import CONFIG_FILE
from compacter_core.headless import without_head
from compacter_core.importers.options import ForeignOptions, read_options
from compacter_core.importers.result import ImportedAdapter, KnownBackbone

_TYPE: Final = "peft_type"
_OURS: Final = "spec_version"
_PROMPTS: Final = frozenset(
    {
        "ADAPTION_PROMPT",
        "CARTRIDGE",
        "CPT",
        "MULTITASK_PROMPT_TUNING",
        "PREFIX_TUNING",
        "PROMPT_TUNING",
        "P_TUNING",
    }
)
"""Methods that put something before the input and change no weight."""


_MERGE_REMEDY: Final = (
    "If the method changes weights, as LoRA does, merge it into the model with PEFT (merge_and_unload, then "
    "save_pretrained) and export that model: compacter export."
)
_PROMPT_REMEDY: Final = "It puts something before the model's input, so it cannot be merged into the weights either."


def from_peft(
    directory: Path | str,
    *,
    backbone: KnownBackbone | None = None,
    allow_pickle: bool = False,
    with_head: bool = True,
) -> ImportedAdapter:
    """The adapter in this project's hub profile; what PEFT itself saved is refused, with the way to use it.

    Args:
        directory: with `adapter_config.json` and `adapter_model.safetensors`.
        backbone: checked against what the profile says of its backbone, if it is given.
        allow_pickle: changes nothing, since a profile is never pickled; it is here because all importers have it.
        with_head: keep the head, if there is one.

    Raises:
        CompacterError: E502 for a method of PEFT; E501 for what is no such directory; E401, E402 or E211 for another
            backbone; and the codes of `compacter_core.format.reader.load_adapter`.
    """
    folder = Path(directory)
    options = read_options(folder, CONFIG_FILE, remedy="Give the directory that save_pretrained wrote.")
    if _TYPE in options.values:
        _refuse_method(options)
    if _OURS not in options.values:
        raise CompacterError(
            ErrorCode.E501,
            f"{CONFIG_FILE} is neither PEFT's nor this project's",
            value=sorted(options.values)[:8],
            expected=f"{_TYPE} or {_OURS}",
            remedy="An AdapterHub directory is imported with: compacter import adapterhub.",
        )
    adapter = load_adapter(folder)
    if backbone is not None:
        check_structure(adapter.config.backbone, backbone.description)
        check_sites(adapter.config, backbone.description)
    return ImportedAdapter(adapter=adapter if with_head else without_head(adapter))


def _refuse_method(options: ForeignOptions) -> NoReturn:
    name = options.text(_TYPE).upper()
    raise CompacterError(
        ErrorCode.E502,
        f"{_TYPE} of {CONFIG_FILE} is no bottleneck adapter, so this format cannot express it",
        value=name,
        expected="a hub profile of this project",
        remedy=_PROMPT_REMEDY if name in _PROMPTS else _MERGE_REMEDY,
    )
