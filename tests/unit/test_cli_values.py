"""Values and numbers as people write and read them."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.cli.values import choice, integer, seconds
from mapreduce_rq.core.text import count, duration, job_label, plural, short, size
from mapreduce_rq.errors import BadParameter


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("-7", -7), ("1e9", 10**9), ("1_000_000", 10**6), ("1.5e3", 1500), ("0x10", 16), ("6/3", 2), (" 5 ", 5)],
)
def test_integers_as_people_write_them(text: str, value: int) -> None:
    assert integer("--n", text) == value


@pytest.mark.parametrize(
    "text", ["", "1.5", "nan", "inf", "1e999999999", "_1", "1__0", "1_", "one", "1/0", "1" * 2000, "١"]
)
def test_what_is_no_integer_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^--n: [^\n]*$"):
        integer("--n", text)


def test_the_range_is_said() -> None:
    with pytest.raises(BadParameter, match="--n: 0 is out of range: 1 to 9"):
        integer("--n", "0", 1, 9)
    with pytest.raises(BadParameter, match="at least 1"):
        integer("--n", "-3", 1)
    assert integer("--n", "9", 1, 9) == 9


@given(st.integers(), st.booleans())
def test_every_integer_is_read_as_python_reads_it(number: int, grouped: bool) -> None:
    assert integer("--n", f"{number:_}" if grouped else str(number)) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30.0), ("1.5", 1.5), (".5s", 0.5), ("250ms", 0.25), ("5m", 300.0), ("2 h", 7200.0), ("7d", 604_800.0)],
)
def test_times_as_people_write_them(text: str, value: float) -> None:
    assert seconds("--t", text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1e3", "5 weeks", "s", "5mm", "99999999999d"])
def test_what_is_no_time_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadParameter, match=r"^--t: [^\n]*$"):
        seconds("--t", text)


def test_no_time_at_all_where_that_means_something() -> None:
    assert seconds("--t", "0", zero=True) == 0.0


def test_choices() -> None:
    assert choice("--o", "a", ("a", "b")) == "a"
    with pytest.raises(BadParameter, match="--o: 'c' is not one of a, b"):
        choice("--o", "c", ("a", "b"))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (7, "7"), (0.25, "0.25"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (999_999, "1M"), (10**9, "1G")],
)
def test_counts(number: float, text: str) -> None:
    assert count(number) == text


@given(st.integers(0, 10**20))
def test_a_count_is_short_and_within_half_a_percent(number: int) -> None:
    text = count(number)
    assert len(text) <= 6
    match = re.fullmatch(r"([\d.]+)([kMGTPE]?)", text)
    assert match
    shown = Fraction(match[1]) * 1000 ** " kMGTPE".index(match[2] or " ")
    assert abs(shown - number) <= Fraction(number, 200)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0.000_000_1, "0 ms"),
        (0.000_03, "0.030 ms"),
        (0.000123, "0.12 ms"),
        (0.012, "12 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (3.44, "3.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (125, "2:05"),
        (3599.7, "1:00:00"),
        (3725, "1:02:05"),
        (100_000, "1 d 3 h"),
        (8.7e9, "> 1e5 d"),
        (float("inf"), "> 1e5 d"),
    ],
)
def test_durations(amount: float, text: str) -> None:
    assert duration(amount) == text


@given(st.floats(min_value=0, allow_nan=False))
def test_a_duration_fits_its_column(amount: float) -> None:
    assert len(duration(amount)) <= 10


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "0.98 kB"), (1536, "1.5 kB"), (10**6, "977 kB"), (5 * 2**40, "5 TB")],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


def test_words() -> None:
    assert plural(1, "worker") == "1 worker"
    assert plural(0, "entry", "entries") == "0 entries"
    assert short("abcdef", 6) == "abcdef"
    assert short("abcdefg", 6) == "abc..."
    assert job_label("my-exp-abcdefghij") == "my-exp-abcdef"
