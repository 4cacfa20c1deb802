"""Exports of tiny transformers models, made once per session."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.models import tiny_inputs, tiny_model

Exported = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The path of `tiny_model(model_type)` exported by an exporter: `torchscript14`, `torchscript17` or `dynamo`."""
    done: dict[tuple[str, str], Path] = {}

    def export(model_type: str, exporter: str) -> Path:
        if (model_type, exporter) not in done:
            path = tmp_path_factory.mktemp(f"{model_type}-{exporter}") / "model.onnx"
            export_tiny(model_type, exporter, path)
            done[model_type, exporter] = path
        return done[model_type, exporter]

    return export


def export_tiny(model_type: str, exporter: str, path: Path) -> None:
    """Export `tiny_model(model_type)`; arguments as of `exported`."""
    model, inputs = tiny_model(model_type), tiny_inputs()
    names = list(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            dynamic = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in names}
            torch.onnx.export(
                model,
                (),
                str(path),
                kwargs=inputs,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes=dynamic,
                dynamo=True,
                verbose=False,
            )
            return
        torch.onnx.export(
            model,
            (),
            str(path),
            kwargs=inputs,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names} | {"logits": {0: "batch"}},
            opset_version=int(exporter.removeprefix("torchscript")),
            dynamo=False,
        )
