"""Tasks that a tiny model learns: about the kinds of words of a text."""

import random

CLASSES = {"animals": ("cat", "dog", "cow"), "colours": ("red", "green", "blue"), "fruit": ("pear", "plum", "fig")}
WORDS = tuple(word for words in CLASSES.values() for word in words)


KIND = {word: kind for kind, words in CLASSES.items() for word in words}


def toy_rows(count: int, seed: int) -> list[dict[str, object]]:
    """`count` rows, classes in turn; each has more words of its class than of all others.

    A row is one of every kind of task: `label` and `target` are the class, `number` is the share of animals, `tokens`
    are the words with their kinds in `labels`.
    """
    generator = random.Random(seed)  # noqa: S311 (no secret depends on it)
    rows: list[dict[str, object]] = []
    for index in range(count):
        label = tuple(CLASSES)[index % len(CLASSES)]
        own = generator.choices(CLASSES[label], k=generator.randint(3, 6))
        words = own + generator.choices(WORDS, k=2)
        generator.shuffle(words)
        kinds = [KIND[word] for word in words]
        rows.append(
            {
                "text": " ".join(words),
                "label": label,
                "target": label,
                "number": kinds.count("animals") / len(kinds),
                "tokens": words,
                "labels": kinds,
            }
        )
    return rows
