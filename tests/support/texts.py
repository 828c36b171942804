"""The map functions of the MIT 6.5840 exercises, and texts for them."""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.support.terms import STAGE

WORD = re.compile(r"[A-Za-z]+")


def write_texts(folder: Path, count: int = 8, words: int = 3000) -> list[str]:
    """Texts of words that are distributed about as words are; the same every time."""
    folder.mkdir()
    rng = random.Random(6.5840)
    vocabulary = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(1, 9))) for _ in range(800)]
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    paths = []
    for number in range(count):
        path = folder / f"pg-{number}.txt"
        text = rng.choices(vocabulary, weights, k=words)
        path.write_text("\n".join(" ".join(text[at : at + 12]) for at in range(0, words, 12)))
        paths.append(str(path))
    return paths


def words_of(path: str) -> Counter[str]:
    """Word count's map."""
    return Counter(WORD.findall(Path(path).read_text()))


def places_of(path: str) -> set[tuple[str, str]]:
    """The indexer's map: (word, document) pairs."""
    name = Path(path).name
    return {(word, name) for word in words_of(path)}


def index_of(path: str) -> dict[str, list[str]]:
    """The indexer's map, as an index of one document."""
    return {word: [Path(path).name] for word in words_of(path)}


def joined(left: dict[str, list[str]], right: dict[str, list[str]]) -> dict[str, list[str]]:
    """The index of the documents of both."""
    return {word: sorted({*left.get(word, ()), *right.get(word, ())}) for word in {*left, *right}}


def index(paths: Iterable[str]) -> dict[str, list[str]]:
    """The index of these documents, one after the other."""
    found: dict[str, list[str]] = {}
    for path in paths:
        for word in words_of(path):
            found.setdefault(word, []).append(Path(path).name)
    return {word: sorted(names) for word, names in found.items()}


def meeting(_: int) -> int:
    """Waits until as many of these run at the same time as the file ``party`` says; 0 if they do not within a while."""
    stage = Path(os.environ[STAGE])
    (stage / f"here-{os.getpid()}").touch()
    deadline = time.monotonic() + 10
    party = int((stage / "party").read_text())
    while len(list(stage.glob("here-*"))) < party:
        if time.monotonic() > deadline:
            return 0
        time.sleep(0.005)
    return 1


def reckless(path: str) -> Counter[str]:
    """Word count by a worker that dies in one of three tasks, and dawdles in another."""
    dice = random.SystemRandom().random()
    if dice < 1 / 3:
        os._exit(1)
    if dice < 2 / 3:
        time.sleep(0.2 * random.SystemRandom().random())
    return words_of(path)
