"""The quickstart's table."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from compacter_core.pytorch.training import TrainResult
from compacter_exporters.verify import VerifyReport
from examples.quickstart.measure import Agreement

MAX_DIFFERENCE: Final = 2e-5
MAX_SHARE: Final = 0.005


@dataclass(frozen=True, slots=True)
class FullFineTuning:
    """The comparison: every parameter trained on the same rows.

    Args:
        training: its course.
        test_accuracy: of the epoch that was best on the validation rows.
    """

    training: TrainResult
    test_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was found.

    Args:
        adapter: the adapter's training.
        full: full fine-tuning, if it was done.
        agreement: PyTorch against ONNX Runtime, by split: validation and test.
        verification: every site of the graph against the reference.
        latencies: median milliseconds by number of texts and by what ran.
    """

    adapter: TrainResult
    full: FullFineTuning | None
    agreement: Mapping[str, Agreement]
    verification: VerifyReport
    latencies: Mapping[int, Mapping[str, float]]

    @property
    def checks(self) -> dict[str, bool]:
        """What the project promises about this example, and whether it holds here."""
        return {
            f"share of trained parameters below {MAX_SHARE:.1%}": self.adapter.counts.share < MAX_SHARE,
            "same answers in PyTorch and ONNX Runtime": all(one.different == 0 for one in self.agreement.values()),
            f"logits within {MAX_DIFFERENCE:g}": max(one.difference for one in self.agreement.values())
            <= MAX_DIFFERENCE,
            "every site within its bound": self.verification.ok,
        }

    @property
    def ok(self) -> bool:
        """Whether all promises hold."""
        return all(self.checks.values())

    def as_dict(self) -> dict[str, object]:
        """JSON-compatible fields."""
        return {
            "adapter": self.adapter.as_dict(),
            "full": None
            if self.full is None
            else self.full.training.as_dict() | {"test_accuracy": self.full.test_accuracy},
            "agreement": {split: asdict(one) for split, one in self.agreement.items()},
            "verification": self.verification.as_dict(),
            "latency_ms": {str(rows): dict(times) for rows, times in self.latencies.items()},
            "checks": self.checks,
        }

    def as_text(self) -> str:
        """The table."""
        rows = [*self._training(), *self._deployment()]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:<{width}}  {value}".rstrip() for name, value in rows]
        lines += ["", *(f"{'ok    ' if holds else 'FAILED'}  {promise}" for promise, holds in self.checks.items())]
        return "\n".join(lines)

    def _training(self) -> Iterator[tuple[str, str]]:
        adapter, counts = self.adapter, self.adapter.counts
        size = (adapter.output / "adapter_model.safetensors").stat().st_size
        test = self.agreement["test"]
        yield (
            "rows",
            f"{adapter.rows['train']:,} training, {adapter.rows['validation']:,} validation, {test.rows:,} test",
        )
        yield "classes", f"{len(adapter.labels)}"
        yield "backbone parameters", f"{counts.backbone:,}"
        yield "trained: adapter and norms", f"{counts.adapter + counts.replaced:,} ({counts.share:.3%})"
        yield "trained: head", f"{counts.head:,}"
        yield "adapter file", f"{size / 1024:.0f} KiB"
        yield "training time", f"{adapter.seconds:.0f} s, {len(adapter.history.evaluations)} epochs"
        if self.full is not None:
            full = self.full.training
            yield "  full fine-tuning", f"{full.seconds:.0f} s, {len(full.history.evaluations)} epochs"

    def _deployment(self) -> Iterator[tuple[str, str]]:
        worst = max(check.ratio for check in self.verification.sites.values())
        for split, one in self.agreement.items():
            yield f"{split} accuracy, PyTorch", f"{one.torch_accuracy:.4f}"
            yield "  ONNX Runtime", f"{one.runtime_accuracy:.4f}"
            yield "  different answers", f"{one.different} of {one.rows:,}"
            yield "  largest difference of a logit", f"{one.difference:.1e} of the largest logit"
        if self.full is not None:
            points = 100 * (self.agreement["test"].torch_accuracy - self.full.test_accuracy)
            where = f"{abs(points):.1f} points {'behind' if points < 0 else 'ahead'}"
            yield "  full fine-tuning", f"{self.full.test_accuracy:.4f}: Compacter is {where}"
        yield "sites verified", f"{len(self.verification.sites)}, largest error/bound {worst:.2f}"
        for rows, times in self.latencies.items():
            yield f"latency, {rows} text{'s' if rows > 1 else ''}", ""
            for name, milliseconds in times.items():
                yield f"  {name}", f"{milliseconds:.2f} ms"
