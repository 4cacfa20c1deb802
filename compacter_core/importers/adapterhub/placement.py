"""What AdapterHub's placement options compute, as an `Attach` of this format."""

from collections.abc import Mapping
from typing import Final

from compacter_core.config import ATTACH_PRESETS, Attach
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.importers.adapterhub.options import CONFIG_FILE, Options
from compacter_core.vocabulary import Input, Skip

POST_ADD: Final = "post_add"

SEQUENTIAL: Final[Mapping[tuple[bool, bool, bool | str], Attach]] = {
    # original_ln_before, original_ln_after, residual_before_ln
    (False, True, True): ATTACH_PRESETS["houlsby"],
    (False, True, False): ATTACH_PRESETS["houlsby"],
    (True, True, True): ATTACH_PRESETS["pfeiffer"],
    (True, False, False): ATTACH_PRESETS["adapter_plus"],
    (True, False, POST_ADD): Attach(input=Input.NORMED_SUM, skip=Skip.RESIDUAL_SUM, post=False),
}
"""The combinations that add the residual r once. The others add it twice or never, or fail in the library itself."""


def placement(options: Options) -> Attach:
    """The placement in a model that the library supports itself.

    Raises:
        CompacterError: E502 for a combination that adds r twice or never.
    """
    key = (options.original_ln_before, options.original_ln_after, options.residual_before_ln)
    if options.is_parallel:
        found = ATTACH_PRESETS["parallel"] if options.original_ln_after else None
    else:
        found = SEQUENTIAL.get(key)
    if found is None:
        raise CompacterError(
            ErrorCode.E502,
            f"the placement of {CONFIG_FILE} adds the residual stream twice or never, or the library cannot compute it",
            value=dict(zip(("original_ln_before", "original_ln_after", "residual_before_ln"), key, strict=True)),
            expected="one of " + ", ".join(map(str, SEQUENTIAL)),
        )
    return found
