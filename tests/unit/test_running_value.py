"""What stands with a bar: digits that are certain apart from others, and events, bounded in number."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mapreduce_rq.core.job.gathered import LONGEST_PAUSE, Gathered
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.progress.bar import Bar
from mapreduce_rq.progress.few_events import AT_ONCE, EACH_SECONDS, MOST, FewEvents
from mapreduce_rq.progress.words import MOST as MOST_CHARACTERS
from mapreduce_rq.progress.words import marked, so_far

PI = Report(counted=3, total=10, value="3.141592653589793", error=1e-4, bound_kind="proven")


def drawn(report: Report, **screen: object) -> str:
    into = io.StringIO()
    bar = Bar("pi", Console(file=into, force_terminal=True, width=100, **screen))  # type: ignore[arg-type]
    bar.draw(report)
    bar.stop()
    return into.getvalue()


def test_on_a_colour_terminal_a_style_tells_them_apart() -> None:
    found = drawn(PI, color_system="truecolor")
    assert "\x1b[1;32m3.141\x1b[0m\x1b[2m592653589793\x1b[0m" in found
    assert "(proven)" in found
    assert "~" not in found


@pytest.mark.parametrize("screen", [{"color_system": None}, {"color_system": "truecolor", "no_color": True}])
def test_without_colour_a_mark_does(screen: dict[str, object]) -> None:
    found = drawn(PI, **screen).replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")
    assert "3.141~592653589793 ± 0.0001 (proven)" in found


@pytest.mark.parametrize(
    ("value", "error", "kind", "shown"),
    [
        ("3.141592653589793", 1e-4, "statistical", "3.141~592653589793 ± 0.0001 (statistical)"),
        ("3.141592653589793", 9.0, "proven", "~3.141592653589793 ± 9 (proven)"),
        ("3.141592653589793", 1e-4, "estimated", "3.141592653589793 ± 0.0001"),
        ("3.141592653589793", 1e-4, "\x1b[2J", "3.141592653589793 ± 0.0001"),
        ("3.141592653589793", None, "none", "3.141592653589793"),
        ("7 primes in 10 integers", None, "none", "7 primes in 10 integers"),
        ("3.14159265358979 (12 digits)", 1e-12, "proven", "3.1415926535~8979 (12 digits) ± 1e-12 (proven)"),
        (None, 1e-4, "proven", ""),
    ],
)
def test_in_words(value: str | None, error: float | None, kind: str, shown: str) -> None:
    assert marked(so_far(Report(value=value, error=error, bound_kind=kind))) == shown


@pytest.mark.parametrize("error", [1e-60, 1e-30, 1.0])
def test_a_long_value_is_cut(error: float) -> None:
    found = so_far(Report(value="3." + "1" * 300, error=error, bound_kind="proven"))
    assert len(found.certain) + len(found.moving) <= MOST_CHARACTERS
    assert found.certain.startswith("3" if error < 1 else "")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_few_events_are_shown_and_the_number_of_the_others() -> None:
    clock = Clock()
    events = FewEvents(clock)
    for number in range(AT_ONCE + 7):
        events.add(str(number))
    assert events.take() == [str(number) for number in range(AT_ONCE)]
    assert events.take() == []
    clock.now += EACH_SECONDS
    events.add("later")
    assert events.take() == ["7 more events left out here", "later"]


def test_they_end() -> None:
    clock = Clock()
    events, lines = FewEvents(clock), []
    for number in range(10 * MOST):
        clock.now += EACH_SECONDS
        events.add(str(number))
        lines += events.take()
    assert lines == [*map(str, range(MOST)), "no more events are shown here"]


def test_what_happens_often_is_told_rarely() -> None:
    gathered, told = Gathered(), []
    for tick in range(36_000):  # an hour, ten a second
        gathered.note("term retried", str(tick))
        told += [(tick / 10, text) for _, text in gathered.due(tick / 10)]
    assert told[0] == (0.0, "0")
    assert told[1] == (1.0, "1 (and 9 more)")
    assert len(told) < 5 + 3600 / LONGEST_PAUSE + 5
    gathered.note("poison", "at once, for it is of another kind")
    assert gathered.due(3600.0)[-1] == ("poison", "at once, for it is of another kind")
    gathered.note("poison", "the last")
    assert ("poison", "the last") in gathered.due(3600.0, all_of_them=True)
