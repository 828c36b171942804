from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from mapreduce_rq.computations.wordcount import WordCount
from mapreduce_rq.core.computation import TermError
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files import lines
from tests.support.folding import fold

WORDS = ["alpha", "the", "The", "é", "naïve", "日本", "a", "\N{NO-BREAK SPACE}"] + [str(k) for k in range(300)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Lines of all lengths and ends, one longer than many blocks, an empty file, bytes that are no text."""
    rng = random.Random(5)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(0, 20))) for _ in range(2000)]
    first, second, third = (tmp_path / name for name in ("first.txt", "empty.txt", "odd.txt"))
    first.write_text("".join(line + rng.choice(["\n", "\n\n", "\r\n", "\t\n"]) for line in lines) + "no newline")
    second.write_bytes(b"")
    third.write_bytes(b"\xff\xfe odd \n\n" + b"long " * 60_000 + b"\nlast\n")
    return [first, second, third]


def job_of(files: list[Path], **params: object) -> WordCount:
    made = WordCount.create({"files": [str(file) for file in files], **params})
    assert isinstance(made, WordCount)
    return made


def by_sort_and_uniq(files: list[Path]) -> dict[bytes, int]:
    found: Counter[bytes] = Counter()
    for file in files:
        text = subprocess.run(
            "tr -s '[:space:]' '\\n' | sort | uniq -c",
            shell=True,
            check=True,
            capture_output=True,
            input=file.read_bytes(),
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
        for line in text.splitlines():
            count, _, word = line.strip().partition(b" ")
            if word:
                found[word] += int(count)
    return found


@pytest.mark.parametrize("piece", [1, 7, 100, 4096, lines.PIECE])
def test_words_are_those_of_sort_and_uniq(files: list[Path], piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    job = job_of(files if piece > 7 else [files[0]])
    _, whole, _ = fold(job, max(1, job.corpus.sizes[0] // 50), seed=1)
    assert job.reducer.decode(whole) == {"b": by_sort_and_uniq(files if piece > 7 else [files[0]])}


def test_compressed_files_have_the_words_of_what_is_in_them(files: list[Path]) -> None:
    for path, library in zip(files, (gzip, bz2, lzma), strict=True):
        path.with_suffix(".packed").write_bytes(library.compress(path.read_bytes()))
    job = job_of([path.with_suffix(".packed") for path in files])
    assert job.total == 3
    assert job.reducer.decode(fold(job, 1)[1]) == {"b": by_sort_and_uniq(files)}
    assert fold(job, 1)[0].value == fold(job_of(files), 1000)[0].value


def test_the_outcome(files: list[Path]) -> None:
    outcome, _, _ = fold(job_of(files, top=2), 30_000)
    expected = by_sort_and_uniq(files)
    assert outcome.details == {"words": sum(expected.values()), "distinct": len(expected), "files": 3}
    assert outcome.value.splitlines()[0] == "60000\tlong"
    assert len(outcome.value.splitlines()) == 2
    assert outcome.native["naïve"] == expected["naïve".encode()]
    assert outcome.native["\\xff\\xfe"] == 1


def test_lower_case(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("The the THE\n")
    assert fold(job_of([path], lower=True))[0].native == Counter(the=3)


@pytest.mark.parametrize("block", [1, 3, 8, 65_536])
def test_lower_case_is_that_of_every_alphabet_and_leaves_odd_bytes(tmp_path: Path, block: int) -> None:
    path = tmp_path / "text"
    words = ["École école ÉCOLE\n", "ΣΊΣΥΦΟΣ σίσυφος Σίσυφος\n", "ПРИВЕТ Привет\n", "STRASSE Straße\n", "\u0130 日本\n"]
    path.write_bytes("".join(words).encode() + b"\xc9COLE \xc3\x89\xff \xed\xa0\x80A\n")
    found = fold(job_of([path], lower=True), block)[0].native
    assert found == {
        "école": 3,
        "σίσυφος": 3,
        "привет": 2,
        "strasse": 1,
        "straße": 1,
        "i\u0307": 1,
        "日本": 1,
        "\\xc9cole": 1,
        "é\\xff": 1,
        "\\xed\\xa0\\x80a": 1,
    }


@pytest.mark.parametrize("block", [1, 2, 4, 65_536])
def test_a_byte_order_mark_is_none_of_the_first_word(tmp_path: Path, block: int) -> None:
    for number, text in enumerate(["\ufeffone two\none\n", "\ufeffone", "one \ufeffone\n", "\ufeff\n", "\ufeff"]):
        (tmp_path / str(number)).write_bytes(text.encode())
    found = fold(job_of(sorted(tmp_path.iterdir())), block)[0].native
    assert found == {"one": 4, "two": 1, "\ufeffone": 1}


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("one two\n")
    job = job_of([path])
    assert job.params.sizes == [8]
    path.write_text("one two three\n")
    with pytest.raises(TermError, match="has 14 bytes now and had 8"):
        job.map(0, 1)
    again = WordCount.create({"files": [str(path)], "sizes": job.params.sizes, "units": job.params.units})
    with pytest.raises(TermError, match="has 14 bytes now and had 8"):
        again.map(0, 1)
    path.unlink()
    with pytest.raises(TermError, match="No such file"):
        again.map(0, 1)


@pytest.mark.parametrize("files", ["", "/nowhere/at/all"])
def test_bad_parameters(files: str) -> None:
    with pytest.raises(BadParameter, match="wordcount: files: "):
        WordCount.create({"files": files})
