"""The steps of the quickstart. Each keeps its product in a directory and does nothing where that product is there.

What was trained lies under a key made of the settings and the data, so that a change of either trains afresh.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from compacter_core.pytorch.training import (
    LOG_FILE,
    AdapterRecipe,
    FullRecipe,
    Recipe,
    Schedule,
    TrainResult,
    TrainSettings,
    load_result,
    train,
)
from compacter_core.vocabulary import Pooling
from compacter_exporters.backbone import export_backbone
from compacter_exporters.choices import MODEL_FILE
from compacter_exporters.graft import graft
from examples.quickstart import docstrings
from examples.quickstart.backbone import provide_backbone

MAX_LENGTH: Final = 64
POOLING: Final = Pooling.MEAN
"""The backbone was trained to average its tokens."""

# Fresh weights take larger steps than pretrained ones.
ADAPTER: Final = AdapterRecipe(pooling=POOLING, head_learning_rate=5e-3, pretrained_learning_rate=1e-3)
FULL: Final = FullRecipe(pooling=POOLING)
SCHEDULE: Final = Schedule(epochs=3, batch_size=16)


class Stages:
    """Directories of one quickstart, and what fills them.

    Args:
        directory: where everything goes.

    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def backbone(self) -> Path:
        """The pretrained model and its tokenizer."""
        return provide_backbone(self.directory / "backbone")

    def data(self) -> dict[str, Path]:
        """Training, validation and test rows."""
        folder = self.directory / "data"
        paths = docstrings.split_paths(folder)
        if all(path.is_file() for path in paths.values()):
            return paths
        return docstrings.write(docstrings.build(), folder)

    def adapter(self) -> TrainResult:
        """The trained adapter with its norms and head."""
        return self.trained(self.settings(ADAPTER))

    def fine_tuned(self) -> TrainResult:
        """The backbone with every parameter trained, for comparison."""
        return self.trained(self.settings(FULL))

    def exported(self) -> Path:
        """The backbone as an ONNX model."""
        model = self.directory / "onnx" / MODEL_FILE
        return model if model.is_file() else export_backbone(self.backbone(), model.parent, pooling=POOLING)

    def merged(self) -> Path:
        """The exported backbone with the adapter in it; both share the external data."""
        adapter = self.adapter().output
        model = self.exported().parent / f"{adapter.name}.onnx"
        if not model.is_file():
            graft(self.exported(), adapter, model)
        return model

    def settings(self, recipe: Recipe, *, schedule: Schedule = SCHEDULE, data: Path | None = None) -> TrainSettings:
        """A run on the docstrings, or on the splits in the directory `data`."""
        paths = self.data() if data is None else docstrings.split_paths(data)
        return TrainSettings(
            backbone=str(self.backbone()),
            train=str(paths["train"]),
            validation=str(paths["validation"]),
            max_length=MAX_LENGTH,
            recipe=recipe,
            schedule=schedule,
        )

    def output(self, settings: TrainSettings) -> Path:
        """Where a run's result lies, or would lie."""
        return self.directory / f"{settings.recipe.label}-{_key(settings)}"

    def trained(self, settings: TrainSettings) -> TrainResult:
        """The result of a run, from an earlier time if it is there; one that was interrupted goes on."""
        output = self.output(settings)
        if (output / LOG_FILE).is_file():
            return load_result(output)
        interrupted = any(output.glob("checkpoints/checkpoint-*/trainer_state.json"))
        if output.is_dir() and not interrupted:
            shutil.rmtree(output)
        return train(replace(settings, resume=interrupted), output)


def _key(settings: TrainSettings) -> str:
    """Some digits of a hash of what decides the result of a training."""
    digest = hashlib.sha256(json.dumps(settings.as_dict(), sort_keys=True).encode())
    for path in (settings.train, settings.validation):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:8]
