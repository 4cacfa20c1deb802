"""AdapterHub's own way to a graph, for the inference benchmark: its model with its Compacter, exported by PyTorch.

    .venv-interop/bin/python -m benchmarks.adapterhub_export build/inference-base

The directory is the one of `benchmarks.inference --directory`, after `--prepare`: the backbone is the same, and so are
the bottlenecks' sizes and the adapters' places. Needs AdapterHub, which works with transformers 4.57.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import adapters
import onnx_ir
import torch
from adapters import CompacterConfig
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from benchmarks.inference_choices import Arm
from compacter_core.config import AdapterConfig
from compacter_core.format.reader import load_adapter
from compacter_exporters.optimise.choices import Precision
from compacter_exporters.quiet import quiet

_SHAPE = (2, 8)


def export(directory: Path) -> Path:
    """Write the graph of the checkpoint in `directory/source`, with AdapterHub's adapters of the sizes of ours."""
    model = AutoModelForSequenceClassification.from_pretrained(directory / "source", attn_implementation="eager")
    ours = load_adapter(directory / "adapter").config
    adapters.init(model)
    model.add_adapter("a", config=_config(ours))
    model.set_active_adapters("a")
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: torch.ones(_SHAPE, dtype=torch.int64) for name in names}
    path = directory / Precision.FP32 / Arm.ADAPTERHUB.file
    with tempfile.TemporaryDirectory() as scratch, quiet():
        plain = str(Path(scratch) / path.name)
        torch.onnx.export(
            _Logits(model).eval(),
            tuple(inputs.values()),
            plain,
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names} | {"logits": {0: "batch"}},
            dynamo=False,
        )
        onnx_ir.save(onnx_ir.load(plain), path, external_data=f"{path.name}.data")
    return path


class _Logits(nn.Module):
    """A model with the arguments that are exported, and no others: AdapterHub adds some to those of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """The logits."""
        inputs = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        logits: Tensor = self.model(input_ids=input_ids, **inputs).logits
        return logits


def _config(ours: AdapterConfig) -> CompacterConfig:
    reduction = ours.hidden_size // ours.sites[0].bottleneck_size
    return CompacterConfig(reduction_factor=reduction, phm_dim=ours.projection.phm_dim)


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    print(export(parser.parse_args().directory))


if __name__ == "__main__":
    main()
