"""What all graphs of the inference benchmark are made from: one random backbone, its export, and an adapter."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from compacter_core.adapter import Adapter
from compacter_core.format.reader import load_adapter
from compacter_core.methods import create_config
from compacter_core.pytorch import attach, describe_backbone, save_pretrained
from compacter_exporters.backbone import export_backbone

SIZES: Final = {
    "minilm": BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=8
    ),
    "base": BertConfig(num_labels=8),
    "tiny": BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256, num_labels=8
    ),
}
"""The last one's times say nothing: it is there to see that everything runs."""
VOCABULARY: Final = 1000
"""Tokens that inputs are drawn from."""


class Source:
    """A random checkpoint with an adapter beside it, and its export, each made when it is first asked for.

    Args:
        directory: where they are kept.
        size: key of `SIZES`.
    """

    def __init__(self, directory: Path, size: str) -> None:
        self.directory = directory
        self.config = SIZES[size]

    @property
    def file(self) -> Path:
        """The adapter's file, with norms and head."""
        self._checkpoint()
        return self.directory / "adapter" / "adapter_model.safetensors"

    def adapter(self) -> Adapter:
        """The adapter."""
        return load_adapter(self.file)

    def without_norms(self) -> Adapter:
        """The adapter with its head and without norms: the rows of a bank then share the backbone's."""
        adapter = self.adapter()
        kept = {name: array for name, array in adapter.tensors.items() if not name.startswith("override.")}
        return replace(adapter, config=replace(adapter.config, overrides=()), tensors=kept)

    def exported(self) -> Path:
        """The export in float32."""
        folder = self.directory / "exported"
        if not folder.exists():
            export_backbone(self._checkpoint(), folder)
        return folder / "model.onnx"

    def _checkpoint(self) -> Path:
        checkpoint = self.directory / "source"
        if not (self.directory / "adapter").exists():
            torch.manual_seed(0)
            model = BertForSequenceClassification(self.config).eval()
            model.save_pretrained(checkpoint)
            attach(model, create_config(describe_backbone(model)), generator=0)
            with torch.no_grad():
                for parameter in filter(lambda one: one.requires_grad, model.parameters()):
                    parameter.add_(0.02 * torch.randn(parameter.shape))
            save_pretrained(model, self.directory / "adapter")
        return checkpoint


def another(adapter: Adapter, index: int) -> Adapter:
    """An adapter like the given one, with other values."""
    tensors = {name: array * np.float32(1 + index / 64) for name, array in adapter.tensors.items()}
    return replace(adapter, config=replace(adapter.config, name=f"n{index}"), tensors=tensors)
