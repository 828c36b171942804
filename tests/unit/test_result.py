from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mapreduce_rq.core.foreign_errors import RemoteError
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.outcome import Deferred, Outcome
from mapreduce_rq.core.reducers.sequence import ListReducer

RECORD = {
    "schema": 1,
    "job": "exp-00ff",
    "computation": "exp",
    "params": {"x": "2"},
    "value": "7.389",
    "float": 7.389,
    "bound": "5e-4",
    "bound_kind": "proven",
    "terms": 50,
    "terms_used": 49,
    "tasks": 7,
    "workers": 2,
    "elapsed_s": 0.25,
    "digest": "c8" * 16,
    "ended": "deadline",
    "skipped": [{"term": 3, "kind": "ValueError", "message": "no", "where": "host:1"}],
    "details": {"x": "2"},
    "notes": ["ended early"],
}


def result_of(native: Any) -> Result:
    return Result(RECORD, Outcome(value="7.389", native=native))


def test_attributes_are_the_keys_of_the_record() -> None:
    result = result_of(7.389)
    found = {name: getattr(result, name) for name in RECORD if name != "schema"}
    (skipped,) = found["skipped"]
    error = skipped.pop("exception")
    assert type(error) is RemoteError
    assert str(error) == f"{skipped['kind']}: {skipped['message']}"
    assert found == {name: value for name, value in RECORD.items() if name != "schema"}
    assert result.record is RECORD


def test_what_a_result_of_a_text_or_an_iterable_lacks_is_none() -> None:
    result = Result(RECORD | {"float": None, "bound": None, "bound_kind": "none", "terms": None}, None)
    assert (result.float, result.bound, result.bound_kind, result.terms) == (None, None, "none", None)


def test_a_misspelt_attribute_is_none_of_it() -> None:
    with pytest.raises(AttributeError, match="valeu"):
        Result(RECORD, None).valeu  # type: ignore[attr-defined]  # noqa: B018


def test_the_native_object_is_made_once_when_it_is_asked_for() -> None:
    made: list[str] = []

    def make(text: str) -> Decimal:
        made.append(text)
        return Decimal(text)

    result = result_of(Deferred(make, "7.389"))
    assert not made
    assert [result.native, result.native] == [Decimal("7.389")] * 2
    assert made == ["7.389"]


def test_a_file_holds_bytes_as_they_are_and_anything_else_as_a_line() -> None:
    assert result_of(b"\x89PNG").content == b"\x89PNG"
    assert result_of(7.389).content == b"7.389\n"


def test_it_shows_its_value_and_its_job_in_one_short_line() -> None:
    assert repr(Result(RECORD, None)) == "<Result 7.389 of exp-00ff>"
    assert len(repr(Result(RECORD | {"value": "7" * 5000}, None))) < 100


def test_a_notebook_shows_what_it_is_worth_and_nothing_of_it_is_markup() -> None:
    shown = result_of(7.389)._repr_html_()
    for there in (
        "7.389",
        "5e-4 (proven)",
        "49 of 50",
        "deadline",
        "1 of the terms has no value",
        "ended early",
        "exp-00ff",
    ):
        assert there in shown
    hostile = Result(RECORD | {"value": "<script>\x1b[2J" + "9" * 10**6, "notes": ["<b>"], "bound": None}, None)
    shown = hostile._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "&lt;b&gt;" in shown
    assert "none is known" in shown
    assert "\x1b" not in shown
    assert len(shown) < 3000


def test_a_large_value_is_written_in_pieces_and_taken_once() -> None:
    reducer = ListReducer()
    row = [bytes([k % 256]) * 1000 for k in range(300)]
    partial = reducer.zero()
    for k, value in enumerate(row):
        partial = reducer.merge(partial, reducer.decode(reducer.encode(reducer.fold(k, [value]))))
    outcome = reducer.describe(partial)
    result = Result(RECORD | {"value": None, "digest": None}, outcome)
    pieces = list(result.written())
    assert len(pieces) > 50
    assert b"".join(pieces) == result.content == "\n".join(map(str, row)).encode() + b"\n"
    assert isinstance(outcome.native, Deferred)
    assert Result(result.record, outcome).take() == row
    assert outcome.native.given == []  # nothing of what it was made of is held any more
