"""How many values of a function a task holds at a time: by their number, and by their bytes where they are large."""

from __future__ import annotations

import gzip
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer as reducer_named
from mapreduce_rq.core.reducers.per_key import partials
from mapreduce_rq.core.reducers.per_key.choice import column_of
from mapreduce_rq.core.reducers.per_key.column import Rows
from mapreduce_rq.files.files import Files
from mapreduce_rq.functions.blocks import BLOCK, HELD_BYTES, WIDE_BLOCK, block_after
from mapreduce_rq.functions.files import FilesComputation, source_of_lines
from tests.properties.test_file_records import job_of, written


class Value:
    """A value that tells when it is freed."""


class Watch:
    """A function of a line that counts how many of its values are alive."""

    def __init__(self, make: Callable[[Value], Any]) -> None:
        self.make = make
        self.held: list[weakref.ref[Value]] = []
        self.most = 0

    def __call__(self, line: str) -> Any:
        value = Value()
        self.held.append(weakref.ref(value))
        if len(self.held) % 128 == 0:
            self.held = [one for one in self.held if one() is not None]
            self.most = max(self.most, len(self.held))
        return self.make(value)


LINES = 3 * BLOCK


@pytest.mark.parametrize("way", ["cut", "gzip", "shipped"])
@pytest.mark.parametrize(
    ("reduce", "make", "most"),
    [
        ({"reduce": "count"}, lambda value: value, BLOCK),
        ({"by_key": {"folds": {"": {"reduce": "count"}}}}, lambda value: ("a", value), WIDE_BLOCK),
    ],
)
def test_a_task_over_files_holds_one_block_of_values(
    way: str, reduce: dict[str, Any], make: Callable[[Value], Any], most: int
) -> None:
    watch = Watch(make)
    body = b"\n" * LINES  # a piece has many lines
    with written(gzip.compress(body) if way == "gzip" else body) as paths:
        if way == "shipped":
            corpus, pieces = Files(*paths).shipment()
            about = {"function": "tests.support.mapped:same", "label": "same", **reduce}
            job: Any = FilesComputation.create({**about, "corpus": msgspec.structs.asdict(corpus)})
            job.function = watch
            block, got, _ = source_of_lines(pieces, clock=lambda: 0.0)(LINES)
            assert got == LINES
            job.map_body(0, LINES, block)
        else:
            job = job_of(Files(*paths), **reduce)
            job.function = watch
            job.map(0, job.total or 0)
    assert BLOCK // 8 < watch.most <= most


def test_a_block_has_the_bytes_that_are_in_its_values() -> None:
    wide, narrow = reducer_named("counter"), reducer_named("count")
    large = np.zeros(1 << 17)  # 1 MB
    for value in (
        large,
        ("a", large),
        {"a": large},
        [("a", large)],
        ("a", {"x": large}),
        "x" * (1 << 20),
        b"x" * (1 << 20),
    ):
        assert block_after(wide, value) <= HELD_BYTES >> 20
        assert block_after(narrow, value) <= HELD_BYTES >> 20
    assert block_after(wide, ("a", "text")) == WIDE_BLOCK
    assert block_after(narrow, {"a": [1.0] * 100}) == BLOCK
    row: list[Any] = []
    row.append(row)
    assert block_after(narrow, row) == BLOCK


def test_values_by_key_wait_for_their_fold_by_their_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partials, "MOST_WAITING_BYTES", 10 * 8000)
    column: Any = column_of(reducer_named("sum"))
    if not isinstance(column, partials.PartialColumn):
        column = partials.PartialColumn(reducer_named("sum"))
    state = column.zero()

    def rows() -> Iterator[Any]:
        for number in range(40):
            pairs = [("a", np.ones(1000)), ("b", np.ones(1000))]
            yield Rows(pairs, [2 * number, 2 * number + 1])

    for each in rows():
        column.add(state, each)
        assert state.number <= 12
    a, b = column.results(state, ["a", "b"])
    assert a.tolist() == b.tolist() == [40.0] * 1000


@pytest.mark.parametrize("reduce", ["mean", "max", "argmax", "distinct", "sum", "list", "count", "prefix_sums"])
@pytest.mark.parametrize("way", ["cut", "gzip", "shipped"])
def test_values_of_many_blocks_are_folded_by_key(way: str, reduce: str) -> None:
    numbers = [number % 7 for number in range(2 * WIDE_BLOCK + 10)]
    body = "".join(f"{number}\n" for number in numbers).encode()
    fold = {"by_key": {"folds": {"": {"reduce": reduce}}}}
    expected = ByKey({"": reducer_named(reduce)})
    with written(gzip.compress(body) if way == "gzip" else body) as paths:
        if way == "shipped":
            corpus, pieces = Files(*paths).shipment()
            about = {"function": "tests.support.mapped:even_or_odd", "label": "same", **fold}
            job: Any = FilesComputation.create({**about, "corpus": msgspec.structs.asdict(corpus)})
            found = job.map_body(0, len(numbers), source_of_lines(pieces, clock=lambda: 0.0)(len(numbers))[0])
        else:
            job = job_of(Files(*paths), function="tests.support.mapped:even_or_odd", **fold)
            found = job.map(0, job.total)
    terms = {
        "cut": [2 * at for at in range(len(numbers))],
        "gzip": [0] * len(numbers),
        "shipped": list(range(len(numbers))),
    }
    whole = expected.fold_at(terms[way], [(number % 2, number) for number in numbers])
    assert job.reducer.finish_native(found) == expected.finish_native(whole)
