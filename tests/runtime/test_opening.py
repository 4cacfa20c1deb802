"""Which models write and which answer, and what a session or a generator says when neither can be."""

from pathlib import Path

import pytest

from compacter_core.errors import CompacterError, ErrorCode
from compacter_runtime import Generator, Session
from compacter_runtime.opening import open_model
from tests.support.served import write_served
from tests.support.writing import write_decoder, write_encoder_decoder


def test_models_are_opened_as_what_they_are(tmp_path: Path) -> None:
    served = write_served(tmp_path / "served")
    decoder = write_decoder(tmp_path / "decoder", {})
    both = write_encoder_decoder(tmp_path / "both", {})
    for path in (served, served.parent):
        assert isinstance(open_model(path), Session)
    for path in (decoder, decoder / "model.onnx", both):
        assert isinstance(open_model(path, providers=["cpu"], intra_op_threads=1), Generator)
    assert isinstance(open_model(both / "encoder_model.onnx"), Session)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    both = write_encoder_decoder(tmp_path / "both", {})
    (both / "decoder_with_past_model.onnx").unlink()
    for path in (tmp_path, tmp_path / "no.onnx", both):
        with pytest.raises(CompacterError) as caught:
            open_model(path)
        assert caught.value.code is ErrorCode.E704
