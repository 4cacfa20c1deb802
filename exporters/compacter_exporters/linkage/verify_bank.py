"""Verification of a bank with several adapters in one batch: each row against its own adapter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compacter_core.adapter import Adapter, Array
from compacter_core.layout import Part
from compacter_core.linkage.bank import ADAPTER_ID, BankLayout
from compacter_core.linkage.description import Description, read_description
from compacter_exporters.calls import inline_calls
from compacter_exporters.checks import Check, Numbers, check_sum
from compacter_exporters.fused.apart import observe, take_apart
from compacter_exporters.graph import load_graph
from compacter_exporters.linkage.static import BeforeBias
from compacter_exporters.linkage.static_bank import merge_entry
from compacter_exporters.linkage.verify import OpenVerifier, Probe, values_named
from compacter_exporters.probe import random_inputs, run_twice
from compacter_exporters.regions import inline
from compacter_exporters.verify_report import VerifyReport, joined
from compacter_runtime.bank import Bank

BACKBONE = "no adapter"


@dataclass(frozen=True, slots=True, eq=False)
class _Probed:
    """A run: arrays by name, of the graph as it is and with further outputs.

    Args:
        plain: outputs of the graph as it is.
        values: outputs and observed values.
        batch: rows.
        inputs: what was drawn.
        seed: with which seed.
    """

    plain: Mapping[str, Array]
    values: Mapping[str, Array]
    batch: int
    inputs: Mapping[str, Array]
    seed: int


def verify_bank(probe: Probe, adapters: Sequence[Adapter]) -> VerifyReport:
    """Compare one graph of a bank with the reference: some rows for each adapter and as many for none, mixed.

    Args:
        probe: the graph; its batch counts the rows of each.
        adapters: each has a site in the graph.

    Raises:
        CompacterError: as `verify`, and what adding the adapters to the bank raises.
    """
    real = load_graph(probe.model)
    description = read_description(real.metadata_props)
    inline_calls(real)
    chosen = inline(real, probe.path)
    observe(real)
    bank = Bank(description)
    keys = [bank.add(adapter, name=f"{index}") for index, adapter in enumerate(adapters)]
    choice: list[str | None] = [*keys, None] * probe.batch
    calls = [_calls(probe, description, adapter) for adapter in adapters]
    generator = np.random.default_rng(probe.seed)
    drawn = random_inputs(real.graph, generator, batch=len(choice), length=probe.length)
    drawn.pop(ADAPTER_ID, None)
    inputs = {**drawn, **chosen, **bank.choose(choice, len(choice)).feeds(np.arange(len(choice)))}
    names = set[str]().union(*(verifier.names() for one in calls for verifier in one.values()))
    plain, values = run_twice(real, probe.model, inputs, values_named(real.graph, names), probe.providers)
    probed = _Probed(plain, values, len(choice), drawn, probe.seed)
    reports = {
        f"{index} {adapter.config.name}": joined(
            {call: _report(verifier, probed, _rows(choice, key)) for call, verifier in verifiers.items()}
        )
        for index, (adapter, key, verifiers) in enumerate(zip(adapters, keys, calls, strict=True))
    }
    report, sites = joined(reports), dict[str, Check]()
    for call, verifier in calls[0].items():
        bare = _unchanged(verifier, description, probed, _rows(choice, None))
        sites |= {
            f"{BACKBONE}: {f'{call}: ' if len(calls[0]) > 1 else ''}{site_id}": check for site_id, check in bare.items()
        }
    return replace(report, sites={**report.sites, **sites})


def _calls(probe: Probe, description: Description, adapter: Adapter) -> dict[str, OpenVerifier]:
    """One adapter in each call of the graph's layers."""
    copy = load_graph(probe.model)
    inline(copy, probe.path)
    take_apart(copy)
    merge_entry(copy, BankLayout(description), adapter)
    inline_calls(copy)
    return OpenVerifier.of_calls(copy.graph, adapter)


def _rows(choice: Sequence[str | None], key: str | None) -> list[int]:
    return [row for row, name in enumerate(choice) if name == key]


def _report(verifier: OpenVerifier, probed: _Probed, rows: list[int]) -> VerifyReport:
    """The report of one adapter's rows."""
    layers = verifier.head.layers
    columns = {str(layers[-1].linear.output.name): layers[-1].linear.weight.shape[1]} if layers else {}
    values = {name: _part(array, probed.batch, rows, columns.get(name)) for name, array in probed.values.items()}
    plain = {name: _part(array, probed.batch, rows, columns.get(name)) for name, array in probed.plain.items()}
    return verifier.report(plain, values, {name: array.shape for name, array in probed.inputs.items()}, probed.seed)


def _part(array: Array, batch: int, rows: list[int], columns: int | None) -> Array:
    """Some rows of an array that has the batch first, or batch and tokens together."""
    by_row = array.reshape(batch, array.shape[0] // batch, *array.shape[1:])[rows]
    part = by_row.reshape(-1, *array.shape[1:])
    return part if columns is None else part[..., :columns]


def _unchanged(verifier: OpenVerifier, description: Description, probed: _Probed, rows: list[int]) -> dict[str, Check]:
    """Check that rows without an adapter have none: o is the sublayer's own output at each site."""
    checks = {}
    for site_id, located in verifier.sites.located.items():
        early = verifier.before_bias.get(site_id)
        start = (located.skip if early is None else early.product).name
        base, output = (
            _part(probed.values[str(name)], probed.batch, rows, None) for name in (start, located.output.name)
        )
        added = np.zeros(base.shape[-1]) if early is None else _bias(description, site_id, early)
        checks[site_id] = check_sum(base, added, output, Numbers.of(located.linear.dtype))
    return checks


def _bias(description: Description, site_id: str, early: BeforeBias) -> Array:
    """The backbone's own bias at a site, also where an adapter replaces it."""
    backbone = description.template.backbone
    modules = None if backbone is None else backbone.modules.get(site_id)
    name = None if modules is None else f"{modules.linear}.bias"
    opened = {override.name for override in description.template.overrides}
    return early.bias if name is None or name not in opened else description.replaced(Part.OVERRIDE, name)
