"""An option that is given is obeyed, or refused in one line: none is ignored beside another."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapreduce_rq.cli.app import main
from mapreduce_rq.cli.registry import main_group
from mapreduce_rq.cli.together import RULES, check_together

KEY = "6b" * 32
SHARED = ["-u", "redis://127.0.0.1:1"]


pytestmark = pytest.mark.usefixtures("no_server_starts")


def says(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line that a wrong command line gives."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mrq: ")
    assert err.count("\n") == 1
    return err


EXP = ["compute", "exp", "2"]
RUN = ["run", "math:sqrt", "--terms", "3"]
WORKER = ["worker", *SHARED]
WORDS = [
    ([*EXP, "--json", "-o", "value"], "another -o"),
    ([*EXP, "--json", "-o", "text"], "another -o"),
    (["result", "exp-a", *SHARED, "-o", "text", "--json"], "another -o"),
    (["attach", "exp-a", *SHARED, "-o", "value", "--json"], "another -o"),
    (["resume", "exp-a", *SHARED, "-o", "value", "--json"], "another -o"),
    ([*RUN, "--stream", "-o", "text"], "leave out -o"),
    ([*RUN, "--stream", "-o", "value"], "leave out -o"),
    ([*EXP, "--rq-queue", "default"], "give --on-rq, too"),
    ([*WORKER, "--rq-queue", "high"], "give --on-rq, too"),
    ([*RUN, "-u", "pipes:", "--per-term", "--chunk", "2"], "leave out --chunk"),
    ([*RUN, "-u", "pipes:", "--per-term", "--local", "2"], "leave out --local"),
    ([*EXP, "--key-file", "KEYS"], "give -u redis://host"),
    ([*RUN, "-u", "pipes:", "--key-file", "KEYS"], "give -u redis://host"),
    (["dashboard", "--once", "--key-file", "KEYS"], "give -u redis://host"),
    (["dashboard", "--once", "--queue", "low"], "give -u redis://host"),
    (["dashboard", *SHARED, "--once", "-i", "2"], "this is one"),
    (["dashboard", *SHARED, "--json", "-i", "2"], "this is one"),
    (["dashboard", *SHARED, "--svg", "a.svg", "-i", "2"], "this is one"),
    (["dashboard", *SHARED, "--html", "a.html", "-i", "2"], "this is one"),
    ([*WORKER, "-v", "-q"], "give one of them"),
    ([*WORKER, "--on-rq", "2", "--name", "a"], "leave out --name"),
    ([*WORKER, "--on-rq", "2", "--log-format", "json"], "leave out --log-format"),
    ([*WORKER, "--on-rq", "2", "-v"], "leave out --verbose"),
    (["run", "math:sqrt", "--lines", "-", "--whole"], "is not read whole"),
    (["run", "math:sqrt", "--lines", "-", "--delimiter", ";"], "the format is text"),
    (["run", "math:sqrt", "--files", "pyproject.toml", "--delimiter", ";"], "the format is text"),
]


@pytest.mark.parametrize(("arguments", "words"), WORDS)
def test_what_says_nothing_beside_another_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    assert words in says(capsys, [str(keys) if word == "KEYS" else word for word in arguments])


def test_each_rule_is_tried_and_is_about_parameters_that_there_are() -> None:
    """So a parameter that gets another name cannot leave its rule behind without effect."""
    group = main_group()
    commands = [group.load(name) for name in group.listed() if name not in {"compute", "term"}]
    commands.append(group.load("compute").load("exp"))  # type: ignore[attr-defined]
    for rule in RULES:
        names = {rule.name, *filter(None, (rule.only, rule.against))}
        assert any(names <= {param.name for param in command.params} for command in commands), rule
        assert any(words in rule.why for _, words in WORDS), rule


def test_a_variable_is_a_default_and_need_not_have_a_meaning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    for name, value in (
        ("MRQ_RQ_QUEUE", "high"),
        ("MRQ_OUTPUT", "value"),
        ("MRQ_CHUNK", "7"),
        ("MRQ_LOCAL", "1"),
        ("MRQ_KEY_FILE", str(keys)),
        ("MRQ_QUEUE", "low"),
    ):
        monkeypatch.setenv(name, value)
    assert main(["compute", "exp", "2", "--json", "-u", "pipes:"]) == 0
    assert '"value":"7.38905609893065"' in capsys.readouterr().out
    assert main(["run", "math:sqrt", "--terms", "3", "--per-term", "-u", "pipes:", "--reduce", "count"]) == 0
    assert capsys.readouterr().out == "3\n"


def test_what_is_given_twice_the_same_is_no_contradiction() -> None:
    check_together({"output": "json", "json": True, "stream": True}, {"output", "json", "stream"})
