"""`mrq run --stream`: a function of one's own in a shell's pipeline."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import MRQ, environment, mrq
from tests.support.servers import ROOT, RealServer

OWN = """
import os, signal
def number(line): return int(line)
def pair(line): return [line, len(line)]
def double(k): return 2 * k
def odd(k): return k if k % 2 else 1j
def stop(k): raise StopIteration if k else TimeoutError("of its own")
"""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    return environment({"MRQ_LOCAL": "2"}, path=[folder])


@pytest.fixture
def open_pipe(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*MRQ, "run", "own:number", "--lines", "-", "--stream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    ) as running:
        yield running
        running.kill()


def test_a_value_is_there_before_the_next_line_is(open_pipe: subprocess.Popen[str]) -> None:
    assert open_pipe.stdin is not None
    assert open_pipe.stdout is not None
    for line in ("7\n", "11\n"):
        open_pipe.stdin.write(line)
        open_pipe.stdin.flush()
        assert open_pipe.stdout.readline() == line
    open_pipe.stdin.close()
    assert open_pipe.wait() == 0


def test_ctrl_c_ends_it_while_it_waits_for_a_line(open_pipe: subprocess.Popen[str]) -> None:
    assert open_pipe.stdin is not None
    assert open_pipe.stdout is not None
    assert open_pipe.stderr is not None
    open_pipe.stdin.write("7\n")
    open_pipe.stdin.flush()
    assert open_pipe.stdout.readline() == "7\n"
    open_pipe.send_signal(signal.SIGINT)
    assert open_pipe.wait(10) == 130
    (line,) = open_pipe.stderr
    assert line.startswith("mrq: stopped: function-")


def test_a_reader_that_ends_early_ends_an_endless_input(env: dict[str, str]) -> None:
    line = f"yes 5 | {' '.join(MRQ)} run own:number --lines - --stream | head -2; echo ${{PIPESTATUS[1]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert (done.stdout, done.stderr) == ("5\n5\n0\n", "")


def piped(env: dict[str, str], text: str | bytes, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*MRQ, "run", *words, "--stream"],
        input=text if isinstance(text, bytes) else text.encode(),
        capture_output=True,
        cwd=ROOT,
        env=env,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_line_that_fails_ends_it_behind_the_values_before(env: dict[str, str]) -> None:
    code, out, err = piped(env, "1\n2\nx\n4\n", "own:number", "--lines", "-")
    assert (code, out) == (1, "1\n2\n")
    *traceback, last = err.splitlines()
    assert last == "mrq: own:number failed at term 2: ValueError: invalid literal for int() with base 10: 'x'"
    assert traceback[:2] == ["mrq: the worker's traceback:", "  Traceback (most recent call last):"]


def test_lines_that_fail_can_be_left_out(env: dict[str, str]) -> None:
    code, out, err = piped(env, "1\n2\nx\n4\n", "own:number", "--lines", "-", "--on-error", "skip")
    assert (code, out) == (3, "1\n2\n4\n")
    (line,) = err.splitlines()
    assert line.startswith("mrq: left out: own:number failed at term 2: ValueError")


def test_what_is_no_text_or_no_json_or_looks_like_an_end_fails_as_a_term(env: dict[str, str]) -> None:
    code, out, err = piped(env, b"ab\nc\n\xff\nd\n", "own:pair", "--lines", "-")
    assert (code, [json.loads(line) for line in out.splitlines()]) == (1, [["ab", 2], ["c", 1]])
    assert "own:pair failed at term 2: standard input, line 3: its byte 0 is not text in utf-8" in err
    code, out, err = piped(env, "", "own:odd", "--terms", "4", "--on-error", "skip")
    assert (code, out) == (3, "1\n3\n")
    assert "term 2: its value cannot be JSON: TypeError: a complex has no form in JSON" in err
    code, out, err = piped(env, "", "own:stop", "--terms", "2", "--on-error", "skip")
    assert (code, out, len(err.splitlines())) == (3, "", 2)


def test_records_of_files_and_ranges(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    found = mrq("run", "builtins:len", "--files", str(tmp_path / "*.csv"), "--stream", env=env)
    assert (found.code, found.out) == (0, "2\n2\n")
    found = mrq("run", "own:double", "--terms", "20000", "--stream", env=env)
    assert (found.code, found.out) == (0, "".join(f"{2 * k}\n" for k in range(20_000)))


def test_what_is_about_one_result_is_refused(env: dict[str, str]) -> None:
    for option in ("--reduce", "--by-key", "--out", "--deadline"):
        found = mrq("run", "own:double", "--terms", "2", "--stream", option, "1", env=env)
        assert found.code == 2
        assert f"{option} is about one result, and --stream prints each value" in found.err


def test_on_a_server_without_workers_it_does_not_wait_for_ever(env: dict[str, str]) -> None:
    with RealServer("valkey") as server:
        more = env | {"MRQ_LOCAL": "0"}
        found = mrq("run", "own:double", "--terms", "2", "--stream", "-u", server.url, "--wait-workers", "0", env=more)
    assert found.code == 75
    assert "no worker" in found.err
