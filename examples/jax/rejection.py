"""The one exception of this reader."""


class Rejection(Exception):  # noqa: N818 (it is an answer, not a failure)
    """An input that is refused, with the specification's code (ERR)."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")
