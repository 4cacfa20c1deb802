"""Equality of JSON values, and where two of them differ first."""


def different(got: object, expected: object, place: str = "") -> str | None:
    """What differs first between two JSON values, or None if they are equal.

    Numbers are equal by value, since JSON has one kind of them: 1 and 1.0 are. True is no number.
    """
    if isinstance(got, dict) and isinstance(expected, dict):
        return _different_objects(got, expected, place)
    if isinstance(got, list) and isinstance(expected, list):
        if len(got) != len(expected):
            return f"{place or 'value'}: got {len(got)} items, expected {len(expected)}: {_shown(got)}"
        pairs = enumerate(zip(got, expected, strict=True))
        found = (different(a, b, f"{place}[{i}]") for i, (a, b) in pairs)
        return next((each for each in found if each is not None), None)
    if _kind(got) == _kind(expected) and got == expected:
        return None
    return f"{place or 'value'}: got {_shown(got)}, expected {_shown(expected)}"


def _different_objects(got: dict[str, object], expected: dict[str, object], place: str) -> str | None:
    for name in sorted({**got, **expected}):
        inner = f"{place}.{name}" if place else name
        if name not in got:
            return f"{inner}: missing, expected {_shown(expected[name])}"
        if name not in expected:
            return f"{inner}: got {_shown(got[name])}, expected no such key"
        if (found := different(got[name], expected[name], inner)) is not None:
            return found
    return None


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)


def _shown(value: object, limit: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
