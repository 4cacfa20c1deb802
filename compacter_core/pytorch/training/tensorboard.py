"""TensorBoard's event files, written by tensorboardX, which needs no TensorFlow and no TensorBoard."""

from typing import Any

from transformers.integrations import TensorBoardCallback

from compacter_core.errors import CompacterError, ErrorCode


def tensorboard_callback(directory: str) -> Any:
    """Writes what the Trainer logs, losses and scores by step, into event files in `directory`.

    Raises:
        CompacterError: E004 if tensorboardX is missing.
    """
    try:
        from tensorboardX import SummaryWriter  # noqa: PLC0415 (optional package)
    except ModuleNotFoundError as error:
        raise CompacterError(
            ErrorCode.E004,
            "TensorBoard's event files need the package tensorboardX",
            remedy='Install it with: pip install "compacter-core[tensorboard]".',
        ) from error
    return TensorBoardCallback(SummaryWriter(logdir=directory))
