"""Text that others wrote commands no terminal, whichever way it gets there."""

from __future__ import annotations

import ast
import io
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mapreduce_rq.cli import streams
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.visible import visible, visible_lines
from mapreduce_rq.errors import BadFunction, BadParameter, JobFailed
from mapreduce_rq.functions.trust import find
from mapreduce_rq.progress.printed import write_printed
from mapreduce_rq.runtime.log import VisibleFormatter

HOSTILE = "\x1b]0;owned\x07\x9b5m\x1b[5m\u202e\u2066\nFAKED\r\x00\x7f"
ROOT = Path(streams.__file__).parents[1]


def commands(text: str, but: str = "") -> set[str]:
    """The characters in a text that a terminal does not show but obeys."""
    return {one for one in text if unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"}} - set(but)


@given(st.text())
def test_one_character_takes_the_place_of_one_and_none_commands(text: str) -> None:
    assert not commands(visible(text))
    assert not commands(visible_lines(text), "\n\t")
    assert len(visible(text)) == len(visible_lines(text)) == len(text)
    assert visible(visible(text)) == visible(text)
    assert visible_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_what_commands_nothing_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_escape_shows_as_its_picture_and_a_turn_of_direction_as_unknown() -> None:
    assert visible("a\x1b[31m\nb\u202ec") == "a␛[31m␊b\ufffdc"
    assert visible_lines("a\x1b\n\tb") == "a␛\n\tb"
    assert visible("می‌خواهم 👩‍🚀 ±") == "می‌خواهم 👩‍🚀 ±", "joiners belong to words"


def test_a_notice_stays_one_line_and_what_is_below_it_lines(capsys: pytest.CaptureFixture[str]) -> None:
    streams.say(HOSTILE)
    assert capsys.readouterr().err.count("\n") == 1
    streams.say("here:", below=f"one{HOSTILE}\ntwo")
    said = capsys.readouterr().err
    assert not commands(said, "\n")
    assert said.splitlines()[1:] == ["  one␛]0;owned␇�5m␛[5m��", "  FAKED␍␀␡", "  two"]


def test_lines_for_people_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    streams.show([HOSTILE, "two"])
    shown = capsys.readouterr().out
    assert not commands(shown, "\n")
    assert shown.count("\n") == 2


def test_a_value_on_a_pipe_is_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    streams.write(HOSTILE)
    assert capsys.readouterr().out == f"{HOSTILE}\n"


def test_a_value_on_a_terminal_keeps_its_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    streams.write(HOSTILE)
    assert not commands(screen.getvalue(), "\n")
    assert screen.getvalue().count("\n") == 2


def test_what_is_drawn() -> None:
    screen = io.StringIO()
    for drawn in (Text(HOSTILE), Text().append(HOSTILE), Text.assemble(HOSTILE, (HOSTILE, "bold"), Text(HOSTILE))):
        Console(file=screen, width=200).print(drawn)
    assert not commands(screen.getvalue(), "\n")
    assert screen.getvalue().count("\n") == 3


def test_what_is_logged() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        record = logging.getLogger("test").makeRecord(
            "test", logging.ERROR, "", 0, "%s", (HOSTILE,), (type(error), error, error.__traceback__)
        )
    logged = VisibleFormatter("mrq: %(message)s").format(record)
    assert not commands(logged, "\n")
    assert logged.startswith("mrq: ␛]0;owned␇")
    assert logged.splitlines()[1] == "Traceback (most recent call last):"


def test_what_functions_print(capsys: pytest.CaptureFixture[str]) -> None:
    write_printed(Printed(HOSTILE, (0, 1), HOSTILE, f"{HOSTILE}\n{HOSTILE}\n"))
    text = capsys.readouterr().err
    assert not commands(text, "\n")
    assert all(line.startswith("[␛") for line in text.splitlines())


def test_nothing_goes_round_the_doors() -> None:
    """No print, no stream written to, no Text of Rich's own, no log set up, anywhere else."""
    doors = {"cli/streams.py", "cli/screen/ink.py", "runtime/log.py", "cli/app.py", "progress/printed.py"}
    wrong = []
    for path in ROOT.rglob("*.py"):
        if str(path.relative_to(ROOT)) in doors:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call | ast.Import | ast.ImportFrom):
                continue
            words = ast.unparse(node)
            forbidden = ("print(", "sys.stdout.write", "sys.stderr.write", "logging.basicConfig", "from rich.text ")
            if words.startswith(forbidden) or (words.startswith("from rich import") and "text" in words):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {words}")
    assert wrong == []


@given(st.text())
def test_an_error_that_repeats_what_was_given_is_one_line_that_commands_nothing(text: str) -> None:
    """Python shows it in a traceback as it is."""
    shown = str(BadParameter(f"{text} is none"))
    assert not commands(shown)
    assert not {one for one in shown if unicodedata.category(one) == "Cf"}
    if not commands(text) and not {one for one in text if unicodedata.category(one) in {"Cf", "Cn", "Co"}}:
        assert shown == f"{text} is none"


@pytest.mark.parametrize("name", [f"math:{HOSTILE}", f"{HOSTILE}:f", "math:a\nb", "math:\udc80", "\u202eabc:f"])
def test_a_functions_name_commands_nothing(name: str) -> None:
    with pytest.raises(BadFunction) as caught:
        find(name)
    assert str(caught.value).isprintable()


def test_the_words_of_a_users_exception_stay_as_they_are() -> None:
    assert str(JobFailed("two\nlines")) == "two\nlines"
