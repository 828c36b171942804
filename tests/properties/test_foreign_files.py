"""Files as other programs write them: each record once whatever the cuts, or one line that says what is wrong."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.computation import TermError
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files.files import Files, Stream, shipment
from mapreduce_rq.files.lines import PIECE, lines_between, pieces_of
from tests.properties.test_file_records import job_of, mapped, shipped, written

EVERYWHERE = list(range(0, 400, 3))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"1\n2 3\n", "byte 2|line 2"),
        (b'1\n{\n"a": 1}\n', "byte 2|line 2"),
        (b'1\n{"a": 1}{"b": 2}\n', "byte 2|line 2"),
        (b"1\n2 3\n[4,\n5]\n", "byte 2|line 2"),  # as many values as lines
    ],
)
def test_a_line_of_json_is_one_value(tmp_path: Path, body: bytes, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(body)
    for cuts in ([], EVERYWHERE):
        with pytest.raises(TermError, match=f"{says}.*it is not JSON"):
            mapped(job_of(Files(path)), cuts)
    with pytest.raises(TermError, match=f"{says}.*it is not JSON"):
        shipped(Files(path), [])


@given(
    st.lists(st.sampled_from([math.nan, math.inf, -math.inf, "\ud83d", {"a": math.nan}, 1e308, 7]), max_size=8),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_what_python_writes_beyond_json_is_read_as_python_reads_it(values: list[Any], cuts: list[int]) -> None:
    body = "".join(json.dumps(value) + "\n" for value in values).encode() + b"1e400\n"
    with written(body, ending=".jsonl") as paths:
        expected = [*map(repr, values), "inf"]
        assert list(map(repr, mapped(job_of(Files(*paths)), cuts))) == expected
        assert list(map(repr, shipped(Files(*paths), cuts))) == expected


LINES = ["한국", "表ソ", "a", "ソソ"]


@pytest.mark.parametrize(
    "encoding", ["iso2022_kr", "iso2022_jp", "iso2022_jp_2", "hz", "utf-7", "utf-16", "shift_jis", "gb18030"]
)
def test_text_is_not_cut_where_what_came_before_it_counts(tmp_path: Path, encoding: str) -> None:
    lines = [line for line in LINES if line.encode(encoding, "ignore").decode(encoding) == line] * 3
    assert len(lines) > 3
    path = tmp_path / "a.txt"
    path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
    files = Files(path, encoding=encoding)
    assert mapped(job_of(files), EVERYWHERE) == lines
    assert shipped(files, [1] * 20) == lines


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("how", [{}, {"format": "csv"}, {"format": "jsonl"}])
def test_utf_16_without_its_mark_is_told_as_no_text(tmp_path: Path, name: str, how: dict[str, Any]) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"x,y\n") if name.endswith("gz") else b"x,y\n")
    with pytest.raises(TermError, match=f"{name}: after line 0 are bytes that are not text in utf-16"):
        mapped(job_of(Files(path, encoding="utf-16", **how)), [])


@pytest.mark.parametrize("encoding", ["idna", "punycode", "utf8\0"])
def test_what_is_no_encoding_of_files_is_refused(encoding: str) -> None:
    with pytest.raises(BadParameter, match="is not a text encoding"):
        Files("a.txt", encoding=encoding)


@pytest.mark.parametrize("size", [131_073, 1 << 20])
@pytest.mark.parametrize("how", [{}, {"whole": True}])
def test_a_field_of_csv_has_any_length(tmp_path: Path, size: int, how: dict[str, Any]) -> None:
    path = tmp_path / "a.csv"
    head = "x" * size
    path.write_text(f"{head},y\n1,{'z' * size}\n")
    assert mapped(job_of(Files(path, **how)), EVERYWHERE) == [{head: "1", "y": "z" * size}]
    if not how:
        assert shipped(Files(path), []) == [{head: "1", "y": "z" * size}]


SKIPPED = b"\x5a\x2a\x4d\x18\x04\0\0\0abcd"  # a frame that zstd skips
ALONE = lzma.compress(b"a\nb\n", format=lzma.FORMAT_ALONE)


@pytest.mark.parametrize("name", ["bz2", "xz"])
def test_a_member_that_is_damaged_does_not_hide_the_rest(tmp_path: Path, name: str) -> None:
    compress = bz2.compress if name == "bz2" else lzma.compress
    first, second = compress(b"a\nb\n"), compress(b"c\nd\n")
    path = tmp_path / f"a.txt.{name}"
    for body in (first + second, first + bytes(8) + second, first + second + bytes(4)):
        path.write_bytes(body)
        assert mapped(job_of(Files(path)), []) == shipped(Files(path), []) == ["a", "b", "c", "d"]
    for body in (first + b"\xff" + second[1:], first + second[:5], first + second + b"rubbish", first[:-1], first[:7]):
        path.write_bytes(body)
        with pytest.raises(TermError, match=f"truncated or damaged \\({name}\\)"):
            mapped(job_of(Files(path)), [])
        with pytest.raises(BadParameter, match="cannot be read"):
            shipped(Files(path), [])


def test_every_beginning_of_a_compressed_file_is_known_and_text_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a"
    zstandard: Any = pytest.importorskip("zstandard")
    packed = zstandard.ZstdCompressor().compress(b"a\nb\n")
    for body in (ALONE, SKIPPED + packed, SKIPPED + packed + SKIPPED, bz2.compress(b"a\nb\n", 1)):
        path.write_bytes(body)
        assert mapped(job_of(Files(path)), []) == shipped(Files(path), []) == ["a", "b"]
    path.write_bytes(bz2.compress(b""))
    assert mapped(job_of(Files(path)), []) == []
    for text in ("BZhang", "BZh9", "]", "P*M"):
        path.write_text(f"{text}\nb\n")
        assert mapped(job_of(Files(path)), EVERYWHERE) == shipped(Files(path), []) == [text, "b"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"PK\x03\x04", "a zip archive"),
        (b"\x04\x22\x4d\x18", "compressed by lz4"),
        (b"\x1f\x9d\x90", "compressed by compress"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    ],
)
def test_an_archive_is_not_taken_for_text(tmp_path: Path, body: bytes, says: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(body + b"abc\n")
    with pytest.raises(BadParameter, match=f"a.txt.*{says}.*unpack it first"):
        Files(path, encoding="latin-1").corpus()
    with pytest.raises(BadParameter, match=f"a.txt.*{says}.*unpack it first"):
        shipped(Files(path, encoding="latin-1"), [])


def test_a_long_line_of_a_stream_is_copied_once() -> None:
    class Counting(bytes):
        """Bytes that count what is added to them."""

        added = 0

        def __add__(self, other: Any) -> Any:
            Counting.added += 1
            return Counting(bytes.__add__(self, other))

    class Source:
        """A stream of one long line."""

        left = 64

        def read(self, size: int) -> bytes:
            self.left -= 1
            return Counting(b"x" * size) if self.left >= 0 else b""

    ((at, piece),) = pieces_of(Source())  # type: ignore[arg-type]
    assert at == 0
    assert len(piece) == 64 << 18
    assert Counting.added < 4


def test_a_long_line_is_read_once_by_all_the_tasks_that_it_has() -> None:
    body = b"a\n" + b"x" * 50_000 + b"\nb\n"
    read = 0

    class Counting(io.BytesIO):
        """A file that counts what is read of it."""

        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            found = super().read(size)
            read += len(found)
            return found

        def readline(self, size: int | None = -1) -> bytes:
            nonlocal read
            found = super().readline(size)
            read += len(found)
            return found

    file = Counting(body)
    found = []
    for lo in range(0, len(body), 100):
        found += [piece for _, piece in lines_between(file, lo, min(lo + 100, len(body)), len(body))]
    assert b"".join(found) == body
    assert read < 3 * len(body)


# -- Parquet -------------------------------------------------------------------------------------------------------


def table(path: Path, columns: dict[str, Any], **how: Any) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    made = arrow.Table.from_arrays([arrow.array(*column) for column in columns.values()], names=list(columns))
    parquet.write_table(made, path, **how)


def test_a_column_of_parquet_that_is_there_twice_is_not_lost(tmp_path: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.Table.from_arrays([arrow.array([1]), arrow.array([2])], names=["a", "a"]), path)
    with pytest.raises(BadParameter, match=r"a\.parquet: it names a column twice: a, a"):
        Files(path).corpus()


def test_an_empty_file_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"")
    with pytest.raises(BadParameter, match=r"a\.parquet: is not a Parquet file"):
        Files(path).corpus()


def test_times_in_nanoseconds_are_pythons_whatever_is_installed(tmp_path: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    moment, lapse, time = dt.datetime(2020, 1, 2, 3, 4, 5, 6), dt.timedelta(microseconds=7), dt.time(1, 2, 3, 4)  # noqa: DTZ001  without a zone, as in the file
    zoned = arrow.timestamp("ns", tz="UTC")
    row = {"a": moment, "b": lapse, "c": time, "d": [moment], "e": {"x": lapse}, "f": moment.replace(tzinfo=dt.UTC)}
    kinds = [
        *(arrow.timestamp("ns"), arrow.duration("ns"), arrow.time64("ns"), arrow.list_(arrow.timestamp("ns"))),
        *(arrow.struct([("x", arrow.duration("ns"))]), zoned),
    ]
    table(path, {name: ([value], kind) for (name, value), kind in zip(row.items(), kinds, strict=True)})
    (found,) = mapped(job_of(Files(path)), [])
    assert found == row
    assert [type(found[name]) for name in "abc"] == [dt.datetime, dt.timedelta, dt.time]


def test_nanoseconds_that_a_time_of_python_has_not_are_not_dropped(tmp_path: Path) -> None:
    arrow: Any = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    table(path, {"a": ([1_001], arrow.time64("ns"))})
    with pytest.raises(TermError, match=r"a\.parquet, row group 0: .*column a.*nanoseconds"):
        mapped(job_of(Files(path)), [])


def test_a_row_group_that_is_damaged_is_told_by_its_own_number(tmp_path: Path) -> None:
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    table(path, {"a": (list(range(3000)),)}, row_group_size=1000, write_page_checksum=True, compression="none")
    column = parquet.ParquetFile(path).metadata.row_group(1).column(0)
    body = bytearray(path.read_bytes())
    at = column.dictionary_page_offset + 200
    body[at] ^= 1  # a bit of a value: only the checksum of its page tells
    path.write_bytes(body)
    job = job_of(Files(path))
    with pytest.raises(TermError, match=r"a\.parquet, row group 1: cannot be read") as caught:
        job.map(0, 3)
    assert caught.value.term == 1


def test_a_stream_in_an_encoding_with_states_is_sent_as_its_text() -> None:
    corpus, pieces = shipment([("a", io.BytesIO("한국\n한\n".encode("iso2022_kr")))], encoding="iso2022_kr")
    assert corpus.encoding == "utf-8"
    assert b"".join(piece.lines for piece in pieces).decode() == "한국\n한\n"


def changed(path: Path, change: Callable[[], object], files: Files | None = None) -> list[str]:
    """The lines of a file that changes after its first lines were read."""
    pieces = iter((files or Files(path)).shipment()[1])
    found = [next(pieces).lines]
    change()
    return (b"".join([*found, *(piece.lines for piece in pieces)])).decode().splitlines()


@pytest.mark.parametrize("left", [0, 4, PIECE + 3, 3 * PIECE])
@pytest.mark.parametrize("how", ["file", "stream", "utf-16", "gz"])
def test_a_file_that_is_cut_while_it_is_sent_is_refused(tmp_path: Path, how: str, left: int) -> None:
    path = tmp_path / ("lines.gz" if how == "gz" else "lines")
    text = "".join(f"{k} {random.random()}\n" for k in range(120_000))
    with (
        gzip.open(path, "wt") if how == "gz" else path.open("w", encoding="utf-16" if how == "utf-16" else None) as out
    ):
        out.write(text)
    size = path.stat().st_size
    assert size > 3 * PIECE
    with path.open("rb") as file:
        files = (
            Stream("lines", file) if how == "stream" else Files(path, encoding="utf-16" if how == "utf-16" else "utf-8")
        )
        with pytest.raises(BadParameter, match=rf"had {size}: a file must not change|damaged|ended|cannot be read"):
            changed(path, lambda: os.truncate(path, left), files)


@pytest.mark.parametrize("left", [0, 4, 1000])
@pytest.mark.parametrize("how", ["file", "stream", "utf-16"])
def test_a_file_that_is_cut_and_grows_again_while_it_is_sent_is_refused(tmp_path: Path, how: str, left: int) -> None:
    path = tmp_path / "lines"
    encoding = "utf-16-le" if how == "utf-16" else "utf-8"
    path.write_text("".join(f"{k} {random.random()}\n" for k in range(120_000)), encoding)
    other = "".join(f"{k} other\n" for k in range(400_000)).encode(encoding)
    size = path.stat().st_size
    assert size > 3 * PIECE

    def change() -> None:
        os.truncate(path, left)
        with path.open("ab") as file:
            file.write(other)
        assert path.stat().st_size > size

    with path.open("rb") as file:
        files = Stream("lines", file) if how == "stream" else Files(path, encoding=encoding)
        with pytest.raises(BadParameter, match=r"lines was changed: a file must not change while a job reads it"):
            changed(path, change, files)


def test_a_file_that_is_overwritten_while_it_is_sent_is_refused_and_one_that_was_touched_is_not(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [str(k) for k in range(100_000)]
    path.write_text("\n".join(lines) + "\n")

    def overwrite() -> None:
        with path.open("r+") as file:
            file.write("7")

    assert changed(path, lambda: os.utime(path, (1, 1))) == lines
    with pytest.raises(BadParameter, match="was changed"):
        changed(path, overwrite)


def test_a_file_that_grows_or_is_removed_while_it_is_sent_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    lines = [str(k) for k in range(100_000)]
    path.write_text("\n".join(lines) + "\n")

    def grow() -> None:
        with path.open("a") as file:
            file.write("one more\n")

    assert changed(path, grow) == [*lines, "one more"]
    assert changed(path, path.unlink) == [*lines, "one more"]


def test_a_stream_that_is_not_at_its_beginning_is_read_from_there(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("head\na\nb\n")
    with path.open("rb") as file:
        file.readline()
        assert list(Stream("-", file)) == ["a", "b"]
    with open("/proc/self/status", "rb") as file:  # a regular file, they say, of no bytes
        assert next(iter(Stream("-", file))).startswith("Name:")
