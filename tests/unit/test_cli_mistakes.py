"""Every mistake on a command line is one clear line, and nothing is started for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mapreduce_rq.cli.app import main

pytestmark = pytest.mark.usefixtures("no_server_starts")


def says(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """Exit code 2, nothing on standard output, one line with these words."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("mrq: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--x", "nan"], "x: nan is not a finite number"),
        (["--x", "inf"], "x: inf is not a finite number"),
        (["--x", ""], "x: it is empty"),
        (["--x", "1/0"], "x: 1/0 divides by zero"),
        (["--x", "1e999999999"], "x: the exponent 999999999 is out of range"),
        (["--x", "two"], "x: 'two' is not a number"),
        ([], "--x is missing: see `mrq compute exp --help`"),
        (["--x", "2", "--terms", "0"], "--terms: 0 is out of range: 1 to"),
        (["--x", "2", "--terms", "-5"], "--terms: -5 is out of range"),
        (["--x", "2", "--terms", "1e30"], "--terms: 1e30 is out of range"),
        (["--x", "2", "--terms", "1.5"], "--terms: '1.5' is not a whole number"),
        (["--x", "2", "--tems", "5"], "--tems"),
        (["--x", "2", "stray"], "stray"),
        (["--x", "2", "--chunk", "0"], "--chunk: 0 is out of range"),
        (["--x", "2", "--local", "0"], "--local: 0 is out of range"),
        (["--x", "2", "-o", "xml"], "--output: 'xml' is not one of text, value, json"),
        (["--x", "2", "--on-error", "panic"], "--on-error: 'panic' is not one of fail, skip"),
        (["--x", "2", "--deadline", "soon"], "--deadline: 'soon' is not a time"),
        (["--x", "2", "-u", "http://host"], "unknown URL scheme http://"),
        (["--x", "2", "-u", "localhost"], "the URL cannot be read"),
        (["--x", "2", "-u", "redis://host:99999"], "cannot read the redis:// URL"),
        (["--x", "2", "-u", "redis://h", "--queue", "a{b}"], "queue 'a{b}'"),
        (["--x", "2", "--key-file", "/nowhere"], "/nowhere: No such file or directory: make one with `mrq key`"),
    ],
)
def test_of_a_computation(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    says(capsys, ["compute", "exp", *arguments], words)


LATIN = "caf\udce9"  # bytes of Latin-1, as Python gives them in its arguments


def test_of_a_name_that_is_not_utf_8(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / LATIN
    file.write_bytes(b"a b a")
    says(capsys, ["compute", "const", LATIN], "const: name: 'caf\\udce9' is not UTF-8, and cannot be sent")
    says(capsys, ["compute", "wordcount", str(file)], "caf\\udce9' is not UTF-8, and cannot be sent")
    says(
        capsys, ["worker", "-u", "redis://h", "--name", LATIN], "--name: 'caf\\udce9' is not UTF-8, and cannot be sent"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compute", "exq", "--x", "2"], "did you mean exp?"),
        (["compte"], "did you mean compute?"),
        (["--nothing"], "--nothing"),
        (["compute", "--nothing"], "--nothing"),
        (["worker"], "`mrq worker` needs a Redis: give -u redis://host or set MRQ_URL"),
        (["worker", "-u", "redis://h", "-c", "0"], "--concurrency: 0 is out of range"),
        (["worker", "-u", "redis://h", "-c", "two"], "'two' is not a whole number such as 8 or 1e6, or auto"),
        (["worker", "-u", "redis://h", "--max-tasks", ""], "--max-tasks: '' is not a whole number such as 8 or 1e6\n"),
        (["compute", "nqueens", "--n", "many"], "--n: 'many' is not a whole number such as 8 or 1e6\n"),
        (["compute", "exp", "2", "--out", "a\0b"], "--out: 'a\\x00b' cannot be the name of a file"),
        (["compute", "exp", "2", "--out", "\ud800"], "--out: '\\ud800' cannot be the name of a file"),
        (["run", "math:sqrt", "--lines", "a\0b"], "--lines: 'a\\x00b' cannot be the name of a file"),
        (["dashboard", "-u", "redis://h", "--svg", "a\0b"], "--svg: 'a\\x00b' cannot be the name of a file"),
        (["compute", "exp", "2", "3"], "extra argument(s) (3)"),
        (["worker", "-q", "gpu", "-q", "low"], "(gpu low): -q is --quiet, and --queue NAME names a queue"),
        (["submit", "exp", "--x", "2"], "--detach submits a job and returns: mrq compute NAME … --detach"),
        (["compute", "exp", "2", "--x", "3"], "2"),
        (["compute", "exp", "two"], "x: 'two' is not a number"),
        (["help", "compte"], "did you mean compute?"),
        (["worker", "-u", "redis://h", "--max-tasks", "0"], "--max-tasks: 0 is out of range"),
        (["worker", "-u", "redis://h", "--allow", "../x"], "--allow '../x' cannot be read: write foo"),
        (["worker", "-u", "redis://h", "--allow-pickle"], "--allow-pickle needs a signing key"),
        (["dashboard", "--svg", "a.svg", "--json"], "--svg writes a picture, and --json prints data: give one of them"),
        (["dashboard", "-u", "redis://h", "-i", "0"], "--interval: '0' is not a time above 0: write 30"),
        (["status"], "`mrq status` needs a Redis"),
        (["result", "-u", "redis://h"], "JOB is missing"),
        (["resume", "exp-a"], "`mrq resume` needs a Redis"),
        (["cancel", "exp-a"], "`mrq cancel` needs a Redis"),
        (["doctor", "-u", "redis://h", "--watch", "long"], "--watch: 'long' is not a time"),
    ],
)
def test_of_a_command(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    says(capsys, arguments, words)


def test_a_key_is_never_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_KEY", "geheim")
    says(capsys, ["status", "-u", "redis://h"], "MRQ_KEY is not hexadecimal: make a key with `mrq key`")
    monkeypatch.setenv("MRQ_KEY", "abcd")
    says(capsys, ["status", "-u", "redis://h"], "a signing key has 16 to 64 bytes")


def test_a_fresh_key_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 0
    first = capsys.readouterr().out
    assert main(["key"]) == 0
    assert len(bytes.fromhex(first)) == 32
    assert capsys.readouterr().out != first
