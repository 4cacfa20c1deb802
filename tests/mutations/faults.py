"""Ten faults to seed into the code, each with the test that has to notice it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One change of the source, and the test that fails with it.

    Args:
        name: what goes wrong.
        file: source file, from the repository's root.
        right: text that stands in the file exactly once.
        wrong: what replaces it.
        test: id of the test.
    """

    name: str
    file: str
    right: str
    wrong: str
    test: str


_FUNCTIONAL = "compacter_core/pytorch/functional.py"
_MERGING = "exporters/compacter_exporters/merging.py"
_VALUES = "tests/pytorch/test_values.py::test_delta"
_EXPORT = "tests/exporters/test_exports.py::test_placements_against_pytorch[bert-houlsby-torchscript17]"

FAULTS = (
    Fault(
        "A transposed",
        "compacter_core/pytorch/factors.py",
        "f.rule.reshape(n, n * n, 1)",
        "f.rule.transpose(1, 2).reshape(n, n * n, 1)",
        _VALUES,
    ),
    Fault(
        "Kronecker factors in the other order",
        "compacter_core/reference/projection.py",
        '"iab,ipj->apbj"',
        '"iab,ipj->pajb"',
        "tests/reference/test_projection.py::test_weight_is_a_sum_of_kronecker_products",
    ),
    Fault(
        "the backbone's bias dropped in folding",
        "exporters/compacter_exporters/forms.py",
        "down = b @ dense.Wd",
        "down = 0 * b @ dense.Wd",
        _EXPORT,
    ),
    Fault("gelu for gelu_new", _FUNCTIONAL, 'functional.gelu(z, approximate="tanh")', "functional.gelu(z)", _VALUES),
    Fault(
        "residual dropped",
        "compacter_core/pytorch/placement.py",
        "self._adapter(x, skip)",
        "self._adapter(x, None)",
        "tests/pytorch/test_placement.py::test_sublayer",
    ),
    Fault(
        "norms not replaced", _MERGING, "replaced |= apply_overrides(", "replaced |= {} and apply_overrides(", _EXPORT
    ),
    Fault("head not replaced", _MERGING, "replaced=apply_head(", "replaced={} and apply_head(", _EXPORT),
    Fault(
        "adapters at each other's sites",
        _MERGING,
        "parameters = present.adapter.site(site.id)",
        "parameters = present.adapter.site(config.sites[-1 - config.sites.index(site)].id)",
        _EXPORT,
    ),
    Fault(
        "stale backbone accepted",
        "exporters/compacter_exporters/sites.py",
        "if score >= least(layer)]",
        "if score == max(scores, key=lambda pair: pair[0])[0]]",
        "tests/exporters/test_faults.py::test_stale_backbone_is_refused",
    ),
    Fault(
        "truncated file accepted",
        "compacter_core/format/container.py",
        "if position > available:",
        "if position > available + 8:",
        "tests/format/test_container_errors.py::test_e101_the_header_tells_that_tensors_are_cut",
    ),
)
