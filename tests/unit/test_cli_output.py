"""A record as people and programs read it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.cli.screen.output import about, as_json, progress_line
from mapreduce_rq.cli.session import exit_code
from mapreduce_rq.core.job.record import Report, Skipped
from tests.support.records import done

RECORD: dict[str, Any] = {
    "schema": 1,
    "job": "exp-abc",
    "computation": "exp",
    "params": {"x": "2", "terms": 50},
    "value": "7.38905609893065",
    "float": 7.38905609893065,
    "bound": "3.853e-50",
    "bound_kind": "proven",
    "terms": 50,
    "terms_used": 50,
    "tasks": 13,
    "workers": 2,
    "elapsed_s": 0.0123,
    "digest": "c8762c6ebbf0a053d258d343181336e4",
    "ended": "all",
    "skipped": [],
    "details": {"x": "2", "overflow": False, "underflow": False},
    "notes": [],
}


def rows(record: dict[str, Any]) -> dict[str, str]:
    """The lines under the value, by what they begin with."""
    return {line[2:15].strip(): line[15:].strip() for line in about(record)}


def test_what_is_to_be_known_of_it_follows() -> None:
    assert rows(RECORD) == {
        "error bound": "3.853e-50 (proven)",
        "x": "2 (exact)",
        "terms": "50",
        "tasks": "13",
        "workers": "2",
        "seconds": "0.012",
        "digest": "c8762c6ebbf0a053d258d343181336e4",
    }


def test_the_columns_are_aligned() -> None:
    lines = about(RECORD)
    assert {line[:15].rstrip() + line[15:] == line or line[13:15] == "  " for line in lines} == {True}


def test_a_missing_bound_is_said_with_its_reason_and_no_number() -> None:
    note = "no bound: 3 terms, too few for x = 9: the terms still grow there"
    record = RECORD | {"bound": None, "bound_kind": "none", "notes": [note, "and another"]}
    assert rows(record)["error bound"] == note
    assert rows(record)["note"] == "and another"
    assert "".join(about(record)).count("no bound") == 1
    assert rows(record | {"notes": []})["error bound"].startswith("no bound: ")


def test_unusual_ends_show() -> None:
    record = RECORD | {
        "terms": 1000,
        "ended": "deadline",
        "details": {"x": "1/3", "overflow": True},
        "skipped": [{"term": k, "kind": "ValueError", "message": "no", "where": "h:1"} for k in range(7)],
    }
    shown = rows(record)
    assert shown["terms"] == "50 used, 1000 asked"
    assert shown["ended by"] == "deadline"
    assert shown["overflow"] == "yes"
    assert shown["skipped"] == "7 of the terms have no value"
    assert "term 4: ValueError: no" in "".join(about(record))
    assert "and 2 more" in "".join(about(record))


def test_a_long_exact_number_does_not_bury_the_rest() -> None:
    record = RECORD | {"details": {"x": "1" * 900 + "/7"}}
    assert max(map(len, about(record))) < 140
    assert json.loads(as_json(record))["details"]["x"] == "1" * 900 + "/7"


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_what_json_has_no_number_for_is_null(number: float) -> None:
    assert json.loads(as_json(RECORD | {"float": number}))["float"] is None


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # surrogates cannot come out of a message, which is UTF-8
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)


@given(json_values)
def test_json_is_one_ascii_line_that_reads_back(data: Any) -> None:
    line = as_json(data)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == data


def test_no_two_keys_become_one_where_json_has_no_form_for_a_text() -> None:
    half, written = "\udc80", "\\udc80"
    for data in ({half: 1, written: 2}, {written: 2, half: 1}):
        assert json.loads(as_json(data)) == {f"{written}'": 1, written: 2}
    assert json.loads(as_json({"a": {half: 1, written: 2, f"{written}'": [half]}})) == {
        "a": {f"{written}''": 1, written: 2, f"{written}'": [written]}
    }
    assert json.loads(as_json({half: 1, "whole": None})) == {written: 1, "whole": None}


def test_a_progress_line() -> None:
    report = Report(counted=142, total=1000, rate=310.2, value="7.389", error=3.2e-9)
    assert progress_line(report) == "142/1000 14.2% 310/s ETA 2.8 s est=7.389 +-3.2e-09"
    assert progress_line(Report(counted=5)) == "5 terms 0/s"
    assert progress_line(Report()) == "0 terms 0/s"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"skipped": [Skipped(1, "ValueError", "no", "h:1")]}, 3),
        ({"ended": "deadline"}, 124),
        ({"ended": "tolerance"}, 0),
    ],
)
def test_the_exit_code_of_a_job_with_a_value(change: dict[str, Any], code: int) -> None:
    assert exit_code(done(**change)) == code
