"""Time and memory of grafting a Compacter into a BERT-base-size backbone with external data (random weights).

    python -m benchmarks.graft
    python -m benchmarks.graft --form plain --rounds 20 --json

Every round is a fresh process: what it imports, the graft beside the backbone (external data shared) and the graft into
another directory (external data copied) are timed apart, and its peak resident memory is read from the kernel. The time
of the backbone's export, which a graft saves, stands beside them. The lower bound of a graft is what must be read and
written: the graph and the adapter, and the external data when they are copied.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, save_pretrained
from compacter_exporters.backbone import export_backbone

_CHILD = """
import json, sys, time
start = time.perf_counter()
from pathlib import Path
from compacter_exporters.forms import Form
from compacter_exporters.graft import graft
imported = time.perf_counter()
backbone, adapter, output, form = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Form(sys.argv[4])
report = graft(backbone, adapter, output, form=form)
done = time.perf_counter()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({
    "import_s": imported - start,
    "graft_s": done - imported,
    "peak_mib": int(peak.split()[1]) / 1024,
    "sites": len(report.forms),
}))
"""


def prepare(directory: Path) -> float:
    """Write a random BERT-base, its ONNX export and an adapter for it; returns the seconds the export took."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=8)).eval()
    model.save_pretrained(directory / "bert")
    start = time.perf_counter()
    export_backbone(directory / "bert", directory / "onnx")
    exported = time.perf_counter() - start
    attach(model, create_config(describe_backbone(model)), generator=0)
    save_pretrained(model, directory / "adapter")
    return exported


def measure(directory: Path, form: str, rounds: int) -> dict[str, dict[str, float]]:
    """Median figures of a graft beside the backbone and of one elsewhere, interleaved, each in a fresh process."""
    places = {"shared": directory / "onnx" / "merged.onnx", "copied": directory / "elsewhere" / "merged.onnx"}
    places["copied"].parent.mkdir(exist_ok=True)
    runs: dict[str, list[dict[str, float]]] = {place: [] for place in places}
    for _ in range(rounds):
        for place, output in places.items():
            arguments = [str(directory / "onnx" / "model.onnx"), str(directory / "adapter"), str(output), form]
            command = [sys.executable, "-c", _CHILD, *arguments]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[place].append(json.loads(result.stdout))
    return {
        place: {key: statistics.median(run[key] for run in of_place) for key in of_place[0]}
        for place, of_place in runs.items()
    }


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--form", default="auto", choices=["auto", "fold", "plain"])
    parser.add_argument("--rounds", type=int, default=9, help="processes per place (default: 9)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        export_s = prepare(directory)
        data_mib = sum(path.stat().st_size for path in (directory / "onnx").glob("*.data")) / 2**20
        figures = measure(directory, arguments.form, arguments.rounds)
    if arguments.json:
        print(json.dumps({"export_s": export_s, "data_mib": data_mib, "rounds": arguments.rounds, **figures}))
        return
    print(f"BERT-base, random weights, {data_mib:.0f} MiB of external data, medians of {arguments.rounds} processes")
    print(f"{'external data':<16}{'sites':>6}{'import s':>10}{'graft s':>10}{'peak MiB':>10}{'export / graft':>16}")
    for place, row in figures.items():
        ratio = export_s / row["graft_s"]
        print(
            f"{place:<16}{row['sites']:>6.0f}{row['import_s']:>10.3f}{row['graft_s']:>10.3f}"
            f"{row['peak_mib']:>10.0f}{ratio:>15.0f}x"
        )
    print(f"export of the backbone: {export_s:.1f} s")


if __name__ == "__main__":
    main()
