"""A message stays short, whatever a user gave; what was wrong and what helps stays in it."""

from __future__ import annotations

import copy
import pickle

import pytest

from mapreduce_rq.cli.app import main
from mapreduce_rq.errors import LONGEST_TEXT, BadParameter, JobFailed, MrqError, NoSuchJob, TooLarge, WrongType, brief

LONG = "x" * 5000
MOST = LONGEST_TEXT + 100


@pytest.mark.parametrize(
    "arguments",
    [
        [LONG],
        [f"--{LONG}"],
        ["help", LONG],
        ["compute", LONG],
        ["compute", "exp", "--x", LONG],
        ["compute", "exp", "--x", "2", "--terms", LONG],
        ["compute", "exp", "--x", "2", "--deadline", "1" * 5000],
        ["compute", "exp", "--x", "2", "--out", f"/nowhere/{LONG}"],
        ["term", LONG],
        ["run", LONG, "--terms", "3"],
        ["status", "-u", "redis://h", LONG, LONG],
        ["status", "-u", LONG],
        ["status", "-u", "redis://h", "--queue", LONG],
        ["status", "-u", "redis://h", "--key-file", LONG],
        ["worker", "-u", "redis://h", "-c", LONG],
        ["worker", "-u", "redis://h", "--max-idle-time", LONG],
        ["worker", "-u", "redis://h", "--log-format", LONG],
        ["worker", "-u", "redis://h", "--files", "a b " * 2000],
        ["worker", "-u", "redis://h", "--on", LONG],
        ["worker", "-u", "redis://h", "--metrics-port", LONG],
        ["master", "-u", "redis://h", "--metrics-port", "1" * 5000],
        ["web", "-u", "redis://h", "--port", "1" * 5000],
        ["metrics", "-u", "redis://h", "--port", "1" * 5000],
        ["jobs", "-u", "redis://h", "--state", LONG],
        ["jobs", "-u", "redis://h", f"--{LONG}"],
        ["purge", "-u", "redis://h", "--dry-run", "--older", LONG],
        ["dashboard", "-u", "redis://h", "--svg", LONG],
    ],
    ids=lambda arguments: " ".join(word[:12] for word in arguments),
)
def test_of_a_command(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) in {1, 2}
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("mrq: ")
    assert len(err) < MOST


def test_the_begin_and_the_end_stay() -> None:
    error = BadParameter(f"queue {LONG!r} is no name for a queue: use letters")
    assert str(error) == f"queue '{'x' * 39} ... (5,002 characters) ... {'x' * 39}' is no name for a queue: use letters"
    many = str(BadParameter("say " + "a b " * 2000 + "or c"))
    assert many.startswith("say a b ")
    assert many.endswith("or c")
    assert len(many) < MOST


@pytest.mark.parametrize("kind", [BadParameter, WrongType, NoSuchJob])
def test_of_an_error_that_travels(kind: type[MrqError]) -> None:
    error = kind(f"no {LONG}")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), again.args) == (kind, error.args)
    assert len(str(error)) < MOST


def test_what_is_usual_is_not_changed() -> None:
    for text in ("", "short", "a path of /some/hundred" + "/characters" * 60):
        assert brief(text) == text
    assert MrqError().args == ()
    assert MrqError("a", 5).args == ("a", 5)


def test_the_words_of_a_function_are_its_own() -> None:
    assert str(JobFailed(LONG)) == LONG


def test_too_large_is_read_from_its_message() -> None:
    for error in (TooLarge("item 3", 3_000_010, 1_040_384, "cut it up: or not"), TooLarge("a has 5 bytes", 7, 5)):
        again = TooLarge.read(str(error))
        assert again is not None
        assert (again.args, again.size, again.limit, again.__reduce__()) == (
            error.args, error.size, error.limit, error.__reduce__(),
        )  # fmt: skip
    for text in ("", "item 3 has many bytes", "item 3 has 7 bytes, and ٥ is the most", "x" * 100_000):
        assert TooLarge.read(text) is None
