"""Records of files: the same as Python reads them, however their terms are cut, and each at its place."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.computation import TermError
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files import lines as lines_module
from mapreduce_rq.files.files import Files, shipment
from mapreduce_rq.functions.blocks import WIDE_BLOCK
from mapreduce_rq.functions.files import BLOCK, FilesComputation, source_of_lines
from tests.support import mapped as mapped_functions

LETTERS = st.sampled_from(["a", "b", " ", ",", '"', "é", "日", "\u2028", "\x0b", "\x85", "\t"])
LINE = st.text(LETTERS, max_size=9)
TEXT = st.lists(st.tuples(LINE, st.sampled_from(["\n", "\n", "\r\n"])), max_size=12).flatmap(
    lambda rows: LINE.map(lambda last: "".join(line + end for line, end in rows) + last)
)
FIELD = st.text(st.sampled_from(["a", "b", ",", '"', "é", " "]), max_size=4)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.integers(-(2**60), 2**60), st.text(max_size=3)),
    lambda each: st.one_of(st.lists(each, max_size=2), st.dictionaries(st.text(max_size=2), each, max_size=2)),
    max_leaves=4,
)
COMPRESSORS = [None, gzip.compress, bz2.compress, lzma.compress]


@contextmanager
def written(*bodies: bytes, ending: str = "") -> Iterator[list[str]]:
    """Files of these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}{ending}" for number in range(len(bodies))]
        for path, body in zip(paths, bodies, strict=True):
            path.write_bytes(body)
        yield list(map(str, paths))


def job_of(files: Files, **params: Any) -> FilesComputation:
    """Lists the records themselves."""
    given = {"function": "tests.support.mapped:same", "label": "same", "reduce": "list", **params}
    made = FilesComputation.create({**given, "corpus": msgspec.structs.asdict(files.corpus())})
    assert isinstance(made, FilesComputation)
    return made


def mapped(job: FilesComputation, cuts: list[int]) -> Any:
    """The result of a job whose terms are cut there, its partials sent as bytes."""
    reducer = job.reducer
    total = reducer.zero()
    assert job.total is not None
    for lo, hi in pairwise(sorted({0, job.total, *(cut % (job.total + 1) for cut in cuts)})):
        while lo < hi:
            body = job.map_encoded(lo, hi)
            reached = job.reached or hi
            total = reducer.merge(total, reducer.decode(body))
            lo = reached  # noqa: PLW2901
    return reducer.finish_native(total)


def lines_as_python_has_them(body: bytes) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="\n")
    return [line.removesuffix("\n").rstrip("\r") for line in text]


@given(
    st.lists(st.tuples(TEXT, st.sampled_from(COMPRESSORS)), min_size=1, max_size=3),
    st.lists(st.integers(0, 400), max_size=6),
    st.sampled_from([1, 2, 5, 1 << 18]),
)
def test_lines_are_those_of_python_however_they_are_cut(texts: list[Any], cuts: list[int], piece: int) -> None:
    bodies = [text.encode() for text, _ in texts]
    packed = [compress(body) if compress else body for body, (_, compress) in zip(bodies, texts, strict=True)]
    expected = [line for body in bodies for line in lines_as_python_has_them(body)]
    with written(*packed) as paths, mock.patch.object(lines_module, "PIECE", piece):
        files = Files(*paths)
        assert list(files) == expected
        assert mapped(job_of(files), cuts) == expected
        assert mapped(job_of(files, reduce="count"), cuts) == len(expected)
        assert shipped(files, cuts) == expected


def shipped(files: Files, sizes: list[int]) -> Any:
    """As it comes through Redis, in blocks of at most so many lines, some of them cut once more."""
    corpus, pieces = files.shipment()
    given = {"function": "tests.support.mapped:same", "label": "same", "reduce": "list"}
    job = FilesComputation.create({**given, "corpus": msgspec.structs.asdict(corpus)})
    take = source_of_lines(pieces, clock=lambda: 0.0)
    total, at, over = job.reducer.zero(), 0, False
    wanted = iter(sizes)
    while not over:
        body, got, over = take(1 + next(wanted, 100))
        if not got:
            continue
        assert bytes(body[:1]) == BLOCK
        middle = at + got // 2
        for lo, hi in ((at, middle), (middle, at + got)):
            if lo < hi:
                part = job.map_body(lo, hi, job.cut_body(body, at, lo, hi))
                total = job.reducer.merge(total, job.reducer.decode(job.reducer.encode(part)))
        at += got
    return job.reducer.finish_native(total)


@given(
    st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=8),
    st.lists(st.integers(0, 400), max_size=5),
    st.sampled_from([None, gzip.compress]),
    st.fixed_dictionaries(
        {
            "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
            "whole": st.booleans(),
            "delimiter": st.sampled_from([",", ";"]),
        }
    ),
)
def test_rows_of_csv_are_those_of_python(
    rows: list[list[str]], cuts: list[int], compress: Any, how: dict[str, Any]
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=how["delimiter"]).writerows([["x", "y"], *rows])
    body = text.getvalue().encode(how["encoding"])
    expected = [{"x": x, "y": y} for x, y in rows]
    with written(compress(body) if compress else body, ending=".csv") as paths:
        files = Files(*paths, **how)
        assert mapped(job_of(files), cuts) == expected
        if not how["whole"]:
            assert shipped(files, cuts) == expected


@given(
    st.lists(JSON, max_size=8),
    st.lists(st.integers(0, 200), max_size=5),
    st.sampled_from([None, lzma.compress]),
    st.booleans(),
)
def test_values_of_json_lines_are_those_of_python(
    values: list[Any], cuts: list[int], compress: Any, blank: bool
) -> None:
    body = "".join(json.dumps(value, ensure_ascii=False) + "\n" + (" \n" if blank else "") for value in values).encode()
    with written(compress(body) if compress else body, ending=".jsonl") as paths:
        files = Files(*paths)
        assert mapped(job_of(files), cuts) == values
        assert shipped(files, cuts) == values


@given(TEXT, st.data())
def test_a_record_is_the_term_of_its_first_byte_and_can_be_left_out_alone(text: str, data: st.DataObject) -> None:
    body = text.encode()
    lines = lines_as_python_has_them(body)
    if not lines:
        return
    starts = [0]
    for line in body.split(b"\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    at = data.draw(st.integers(0, len(lines) - 1))
    with written(body) as paths:
        job = job_of(Files(*paths), reduce="argmax", function="tests.support.mapped:size")
        sizes = list(map(len, lines))
        largest = sizes.index(max(sizes))
        assert mapped(job, data.draw(st.lists(st.integers(0, 200), max_size=5))) == starts[largest]
        apart = job_of(Files(*paths))
        total = apart.reducer.zero()
        for lo, hi in ((0, starts[at]), (starts[at] + 1, len(body))):
            if lo < hi:
                total = apart.reducer.merge(total, apart.map(lo, hi))
            if lo == 0:
                total = apart.reducer.merge(total, apart.reducer.gap(starts[at], starts[at] + 1))
        assert apart.reducer.finish_native(total) == lines[:at] + lines[at + 1 :]


@pytest.mark.parametrize(
    ("name", "body", "how", "says"),
    [
        ("a.txt", b"fine\nb\xffd\n", {}, "the line at byte 5: its byte 1 is not text in utf-8"),
        ("a.txt.gz", gzip.compress(b"fine\nb\xffd\n", mtime=0), {}, "line 2: its byte 1 is not text in utf-8"),
        ("a.txt.gz", gzip.compress(b"fine\n" * 9999, mtime=0)[:-20], {}, "truncated or damaged \\(gzip\\)"),
        ("a.txt.bz2", bz2.compress(b"fine\n" * 9999)[:-20], {}, "truncated or damaged \\(bz2\\)"),
        ("a.txt.xz", lzma.compress(b"fine\n" * 9999)[:-20], {}, "truncated or damaged \\(xz\\)"),
        ("a.txt.gz", gzip.compress(b"fine\n" * 99, mtime=0)[:-8] + b"01234567", {}, "truncated or damaged \\(gzip\\)"),
        ("a.txt", "ab\n".encode("utf-16")[:-1], {"encoding": "utf-16"}, "not text in utf-16"),
        ("a.csv", b"x,y\n1,2\n3\n", {}, "the line at byte 8: it has 1 field for 2 columns"),
        ("a.csv", b'x,y\n1,"2\n3",4\n', {}, "the line at byte 4: a field .* must not be cut"),
        ("a.csv", b'x,y\n1,"2"3\n', {}, "the line at byte 4: it is not CSV"),
        ("a.csv", b"x,x\n1,2\n", {}, "its first line: it names no columns, or one of them twice"),
        ("a.csv", b"\xef\xbb\xbf", {}, "its first line: it names no columns"),
        ("a.csv", b"x,x\n1,2\n", {"whole": True}, "line 1: it names no columns, or one of them twice"),
        ("a.csv", b"x,y\n1,2\n3\n", {"whole": True}, "line 3: it has 1 field for 2 columns"),
        ("a.jsonl", b'{"a": 1}\n\n{"a":\n', {}, "the line at byte 10: it is not JSON"),
        ("a.jsonl", b'[1]\n"\xff"\n', {}, "the line at byte 4: it is not JSON"),
        ("a.jsonl", b"[" * 100_000 + b"\n", {}, "the line at byte 0: it is not JSON"),
    ],
)
def test_what_cannot_be_read_is_told_by_file_and_place(
    tmp_path: Path, name: str, body: bytes, how: dict[str, Any], says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    job = job_of(Files(path, **how))
    assert job.total is not None
    with pytest.raises(TermError, match=says) as caught:
        job.map(0, job.total)
    assert str(caught.value).startswith(str(path))
    assert 0 <= caught.value.term < job.total


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
@pytest.mark.parametrize(("body", "records"), [(b"", 0), (b"\n", 1)])
def test_a_file_with_nothing_behind_its_mark_has_no_record(
    tmp_path: Path, name: str, body: bytes, records: int
) -> None:
    path = tmp_path / name
    marked = b"\xef\xbb\xbf" + body
    path.write_bytes(gzip.compress(marked) if name.endswith("gz") else marked)
    assert mapped(job_of(Files(path)), []) == ([] if name == "a.jsonl" else [""] * records)


def test_fields_with_line_ends_are_read_from_files_that_are_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'x,y\r\n1,"2\r\n3"\r\n4,5\r\n')
    assert mapped(job_of(Files(path, whole=True)), []) == [{"x": "1", "y": "2\r\n3"}, {"x": "4", "y": "5"}]


@pytest.mark.parametrize("change", ["gone", "grown", "cut off"])
def test_a_file_that_changes_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n")
    job = job_of(Files(path))
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"one\ntwo\nthree\n" if change == "grown" else b"one\n")
    with pytest.raises(TermError, match="No such file" if change == "gone" else "must not change"):
        job.map(0, 8)


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\n")
    job = job_of(Files(path), function="tests.support.mapped:appending")
    monkeypatch.setattr(mapped_functions, "growing", [path])
    with pytest.raises(TermError, match="has 14 bytes now and had 8"):
        job.map(0, 8)


@pytest.mark.parametrize(
    ("paths", "how", "says"),
    [
        (["nowhere"], {}, "nowhere: No such file"),
        (["no*where"], {}, "no file matches no\\*where"),
        ([], {}, "no file is given"),
        ([""], {}, "the name of a file is empty"),
        (["."], {}, "is not a regular file"),
        (["a.csv", "b.txt"], {}, "look like csv and text"),
        (["a"], {"format": "xml"}, "'xml' is not a format"),
        (["a"], {"encoding": "utf-9"}, "'utf-9' is not a text encoding"),
        (["a"], {"encoding": "zlib_codec"}, "is not a text encoding"),
        (["a"], {"errors": "surrogateescape"}, "errors is 'surrogateescape'"),
        (["a"], {"delimiter": ",,"}, "delimiter"),
        (["a.txt"], {"delimiter": ";"}, "between the fields of CSV, and the format is text"),
        (["a.csv"], {"delimiter": ";", "format": "jsonl"}, "between the fields of CSV, and the format is jsonl"),
        (["a.parquet"], {"encoding": "latin-1"}, "leave out encoding and errors"),
        (["a.parquet"], {"errors": "replace"}, "leave out encoding and errors"),
        (["a.parquet"], {"whole": True}, "leave out whole"),
    ],
)
def test_mistakes_are_told_before_anything_is_queued(paths: list[str], how: dict[str, Any], says: str) -> None:
    with pytest.raises(BadParameter, match=says):
        Files(*paths, **how).corpus()


def test_files_that_are_shipped_have_the_same_columns() -> None:
    streams = [(name, io.BytesIO(body)) for name, body in (("a", b"x,y\n1,2\n"), ("b", b"y,x\n1,2\n"))]
    _, pieces = shipment(streams, format="csv")
    with pytest.raises(BadParameter, match="columns y, x, and another has x, y"):
        list(pieces)


def test_the_lines_of_damaged_files_are_not_shipped() -> None:
    damaged = gzip.compress(b"fine\n" * 9999)[:-20]
    _, pieces = shipment([("a.gz", io.BytesIO(damaged))])
    with pytest.raises(BadParameter, match=r"a\.gz: from line 1 on it cannot be read"):
        list(pieces)


def test_a_file_with_no_byte_in_it_has_no_records_compressed_or_not(tmp_path: Path) -> None:
    for name, body in (("a.csv", b""), ("a.csv.gz", gzip.compress(b""))):
        (tmp_path / name).write_bytes(body)
        files = Files(tmp_path / name)
        assert list(files) == []
        assert mapped(job_of(files), []) == []
        assert list(Files(tmp_path / name, ship=True).shipment()[1]) == []


def packed_by_zstd(body: bytes) -> bytes:
    zstandard: Any = pytest.importorskip("zstandard")
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    unsized = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(body)
    return zstandard.compress(body) + skipped + unsized + zstandard.compress(b"")  # type: ignore[no-any-return]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, packed_by_zstd])
def test_a_compressed_file_that_was_cut_off_never_passes_for_a_shorter_one(tmp_path: Path, compress: Any) -> None:
    """Wherever it was cut; zstandard's own reader takes any end for the end."""
    body = b"".join(b"line %d %s\n" % (k, b"x" * (k * k % 90)) for k in range(400))
    times = 2 if compress is packed_by_zstd else 1
    whole, path = compress(body), tmp_path / "a"
    path.write_bytes(whole)
    assert len(list(Files(path))) == 400 * times
    first = len(whole) // 2 if times == 2 else 0  # a cut between two frames makes a whole file
    for end in sorted({*range(first + 20, len(whole) - 20, max(1, len(whole) // 40)), len(whole) // 3}):
        path.write_bytes(whole[:end])
        with pytest.raises(TermError, match=r"a: near byte \d+ it is truncated or damaged"):
            list(Files(path))
        with pytest.raises(BadParameter, match=r"a: from line \d+ on it cannot be read"):
            list(Files(path, ship=True).shipment()[1])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, packed_by_zstd])
def test_a_damaged_compressed_file_is_named(tmp_path: Path, compress: Any) -> None:
    """Each library has an error of its own for that."""
    whole = bytearray(compress(bytes(range(256)) * 300))
    whole[8:40] = bytes(32)
    (tmp_path / "a").write_bytes(whole)
    with pytest.raises(TermError, match="a: near byte"):
        list(Files(tmp_path / "a", encoding="latin-1"))


def test_a_line_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "LONGEST", 1000)
    monkeypatch.setattr(lines_module, "PIECE", 100)
    path = tmp_path / "a"
    for body in (b"fine\n" + b"x" * 5000, gzip.compress(b"fine\n" + b"x" * 5000)):
        path.write_bytes(body)
        job = job_of(Files(path))
        assert job.total is not None
        with pytest.raises(TermError, match="a line of more than 1000 bytes begins at byte 5") as caught:
            job.map(0, job.total)
        assert caught.value.term == (5 if job.total > 1 else 0)


class Pairs(list[tuple[str, int]]):
    """Pairs that a weak reference can be made to."""


def test_a_task_holds_one_block_of_values_at_a_time() -> None:
    held: list[weakref.ref[Pairs]] = []
    most = 0

    def pairs(line: str) -> Pairs:
        nonlocal most
        value = Pairs([(line, 1)])
        held.append(weakref.ref(value))
        if len(held) % 128 == 0:
            most = max(most, sum(one() is not None for one in held))
        return value

    with written(b"some\n" * (3 * WIDE_BLOCK)) as paths:
        job = job_of(Files(*paths), by_key={"folds": {"": {"reduce": "sum"}}})
        job.function = pairs  # in place of what its name would find
        total = job.map(0, job.total or 0)
    assert job.reducer.finish_native(total) == {"some": 3 * WIDE_BLOCK}
    assert most <= WIDE_BLOCK
