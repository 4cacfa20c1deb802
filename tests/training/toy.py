"""A task that a tiny model learns: the class is the kind of word that the text has most of."""

import random

CLASSES = {"animals": ("cat", "dog", "cow"), "colours": ("red", "green", "blue"), "fruit": ("pear", "plum", "fig")}
WORDS = tuple(word for words in CLASSES.values() for word in words)


def toy_rows(count: int, seed: int) -> list[dict[str, str]]:
    """`count` rows, classes in turn; each has more words of its class than of all others."""
    generator = random.Random(seed)  # noqa: S311 (no secret depends on it)
    rows = []
    for index in range(count):
        label = tuple(CLASSES)[index % len(CLASSES)]
        own = generator.choices(CLASSES[label], k=generator.randint(3, 6))
        words = own + generator.choices(WORDS, k=2)
        generator.shuffle(words)
        rows.append({"text": " ".join(words), "label": label})
    return rows
