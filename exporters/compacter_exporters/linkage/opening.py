"""Opening a backbone's files for adapters at run time, and writing them: one file, or a directory of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from compacter_core.adapter import Adapter
from compacter_core.errors import CompacterError, ErrorCode
from compacter_core.format.reader import load_adapter
from compacter_core.linkage.description import Description
from compacter_core.linkage.kinds import Linkage
from compacter_exporters.forms import Form
from compacter_exporters.graph_set import load_set
from compacter_exporters.linkage.opened import Places, describe, find_places
from compacter_exporters.loaded_graph import load_one
from compacter_exporters.optimise.sums import sums_before_norms, write_apart
from compacter_exporters.saving import save_beside


@dataclass(frozen=True, slots=True)
class Opener:
    """How a linkage opens models.

    Args:
        linkage: swappable or bank.
        open: changes the models of one backbone so that they take adapters; none is open before.
        can_call: whether all sites of a model can be calls.
    """

    linkage: Linkage
    open: Callable[[Sequence[Places], Description], None]
    can_call: Callable[[Places], bool]


@dataclass(frozen=True, slots=True)
class OpenReport:
    """What was opened.

    Args:
        linkage: swappable or bank.
        output: the model written.
        sites: the ids of the sites in it.
        inputs: names of the inputs for adapters.
        fingerprint: of the graph; adapters packed for it carry it.
        model_bytes: size of the .onnx file, external data not counted.
        data_files: external data files of the model, by name.
        shared: whether the model shares them with the backbone.
    """

    linkage: str
    output: str
    sites: tuple[str, ...]
    inputs: tuple[str, ...]
    fingerprint: str
    model_bytes: int
    data_files: tuple[str, ...]
    shared: bool

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class OpenSetReport:
    """What was opened in a directory.

    Args:
        linkage: swappable or bank.
        output: the directory written.
        fingerprint: of all its graphs: an adapter packed for one is packed for each.
        graphs: what was done to each, by its file's name.
        untouched: graphs without a site of the template, copied as they are.
    """

    linkage: str
    output: str
    fingerprint: str
    graphs: Mapping[str, OpenReport]
    untouched: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """The report as JSON-compatible fields."""
        graphs = {name: report.as_dict() for name, report in self.graphs.items()}
        whole = {"linkage": self.linkage, "output": self.output, "fingerprint": self.fingerprint}
        return {**whole, "graphs": graphs, "untouched": list(self.untouched)}


def check_form(form: Form) -> None:
    """Refuse a form that open graphs do not have.

    Raises:
        CompacterError: E001.
    """
    forms = (Form.AUTO, Form.SUBLAYER)
    if form not in forms:
        raise CompacterError(
            ErrorCode.E001,
            "graphs that take adapters at run time do not have this form",
            value=str(form),
            expected=" or ".join(forms),
            remedy="Leave --form out, or use the linkage merged.",
        )


def open_file(
    backbone: Path,
    template: Path | Adapter,
    output: Path,
    opener: Opener,
    *,
    sums_apart: bool = False,
    form: Form = Form.AUTO,
) -> OpenReport:
    """Open one model that holds the whole template; arguments and errors as `graft_swappable`."""
    check_form(form)
    loaded = template if isinstance(template, Adapter) else load_adapter(template)
    places = find_places(load_one(Path(backbone), loaded), loaded)
    inputs = len(places.model.graph.inputs)
    description = _open([places], opener, sums_apart=sums_apart, form=form)
    return _write(places, description, Path(backbone), Path(output), before=inputs)


def open_set(
    backbone: Path,
    template: Path | Adapter,
    output: Path,
    opener: Opener,
    *,
    sums_apart: bool = False,
    form: Form = Form.AUTO,
) -> OpenSetReport:
    """Open the models of a directory that hold the template together.

    Args:
        backbone: a directory of exported graphs.
        template: as `graft_swappable`.
        output: the directory to write, created as a whole or not at all.
        opener: of the linkage.
        sums_apart: as `graft_swappable`, in the graphs that hold a site.
        form: as `graft_swappable`; all graphs have it, or none.

    Raises:
        CompacterError: as `graft_swappable` and `load_set`.
    """
    check_form(form)
    loaded = template if isinstance(template, Adapter) else load_adapter(template)
    target = Path(output)
    graphs = load_set(Path(backbone), loaded)
    models = [find_places(graph, loaded) for graph in graphs.holders]
    before = [len(places.model.graph.inputs) for places in models]
    whole = _open(models, opener, sums_apart=sums_apart, form=form)
    reports: dict[str, OpenReport] = {}
    with graphs.copied_to(target) as directory:
        for graph, places, inputs in zip(graphs.holders, models, before, strict=True):
            name = graph.path.name
            description = replace(whole, stacks=places.stacks)
            report = _write(places, description, graph.path, directory / name, before=inputs)
            reports[name] = replace(report, output=str(target / name))
    return OpenSetReport(opener.linkage.value, str(target), whole.fingerprint, reports, graphs.untouched)


def _open(models: Sequence[Places], opener: Opener, *, sums_apart: bool, form: Form) -> Description:
    """Open models, write the sums that norms read as they are to be written, and describe what was done.

    These are looked for before, since a norm's gain is a constant only then.
    """
    has_calls = form is Form.SUBLAYER and all(map(opener.can_call, models))
    description = describe(models, opener.linkage, has_calls=has_calls)
    sums = [node for places in models for node in sums_before_norms(places.model)] if sums_apart else []
    opener.open(models, description)
    write_apart(node for node in sums if node.graph is not None)  # some are within calls now
    return description


def _write(places: Places, description: Description, backbone: Path, output: Path, *, before: int) -> OpenReport:
    """Write an opened model, whose inputs behind the first few are for adapters."""
    model = places.model
    model.graph.sort()
    model.metadata_props.update(description.as_metadata())
    saved = save_beside(model, backbone, output)
    return OpenReport(
        linkage=description.linkage.value,
        output=str(output),
        sites=tuple(site.id for site in description.here.sites),
        inputs=tuple(str(value.name) for value in model.graph.inputs[before:]),
        fingerprint=description.fingerprint,
        model_bytes=saved.model_bytes,
        data_files=saved.data_files,
        shared=saved.shared,
    )
