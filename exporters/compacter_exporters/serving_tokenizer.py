"""A tokenizer.json that the tokenizers library alone can serve: padding and truncation are written into it."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer


def write_tokenizer(tokenizer: Any, max_length: int | None, path: Path) -> None:
    """Write the transformers tokenizer `tokenizer` to `path`.

    Checkpoints carry leftovers of their training here (all-MiniLM-L6-v2: always pad to 128, truncate at 128), which
    transformers overrides at each call. What is written instead is what the model allows: padding to the longest
    text of a batch, truncation at `max_length` tokens, special ones included, the longest text of a pair first.
    """
    serving = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    serving.enable_padding(
        direction=tokenizer.padding_side,
        pad_id=tokenizer.pad_token_id,
        pad_type_id=tokenizer.pad_token_type_id,
        pad_token=tokenizer.pad_token,
    )
    if max_length is None:
        serving.no_truncation()
    else:
        serving.enable_truncation(max_length, strategy="longest_first")
    path.write_text(serving.to_str(pretty=True), encoding="utf-8")
