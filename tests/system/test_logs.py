"""What functions print comes to the client that asks for it: over Redis and over pipes, whole, bounded and harmless."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import mapreduce_rq
from mapreduce_rq import AsyncClient, BadParameter, Client, JobFailed, Limits, Printed
from tests.support.commands import User

SOURCE = """
import logging, os, subprocess, sys, threading

def noisy(k):
    print("out", k)
    print("err", k, file=sys.stderr)
    logging.getLogger("theirs").warning("record %d", k)
    return k

def failing(k):
    print("just before", k)
    return 1 / (3 - k)

def much(k):
    for line in range(5000):
        print("line", line)
    return k

def hostile(k):
    print("\\x1b]0;title\\x07 \\u202e" + "mrq: done")
    sys.stdout.buffer.write(b"\\xff bytes\\n")
    return k

def forking(k):
    if os.fork() == 0:
        print("from the child", flush=True)
        os._exit(0)
    os.wait()
    thread = threading.Thread(target=print, args=("from a thread",))
    thread.start(), thread.join()
    return k

def pairs(k):
    print("pair", k)
    return k % 2, k
"""


@pytest.fixture(scope="module", params=["", "pipes:"], ids=["redis", "pipes"])
def mrq(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "noisy_theirs.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        with Client(request.param, local=2) as made:
            yield made


def _of(found: list[Printed], stream: str) -> dict[int | None, str]:
    texts: dict[int | None, str] = {}
    for one in found:
        if one.stream == stream:
            texts[one.term] = texts.get(one.term, "") + one.text
    return texts


def test_each_line_has_its_stream_and_its_term(mrq: Client) -> None:
    found: list[Printed] = []
    assert mrq.map_reduce("noisy_theirs:noisy", range(40), logs=found.append) == 780
    assert _of(found, "stdout") == {k: f"out {k}\n" for k in range(40)}
    assert _of(found, "stderr") == {k: f"err {k}\n" for k in range(40)}
    assert _of(found, "log") == {k: f"WARNING theirs: record {k}\n" for k in range(40)}
    assert {one.where.partition(":")[0] for one in found} == {found[0].where.partition(":")[0]}


def test_every_door_takes_it(mrq: Client) -> None:
    found: list[Printed] = []
    job = mrq.submit_function("noisy_theirs:noisy", iter(range(5)), logs=found.append, limits=Limits(chunk=2))
    job.result()
    assert set(_of(found, "stdout")) == set(range(5))
    found.clear()
    assert list(mrq.imap("noisy_theirs:noisy", iter(range(5)), logs=found.append)) == [0, 1, 2, 3, 4]
    assert set(_of(found, "stdout")) == set(range(5))
    found.clear()
    assert mrq.reduce_by_key("noisy_theirs:pairs", range(4), logs=found.append) == {0: 2, 1: 4}
    assert _of(found, "stdout") == {k: f"pair {k}\n" for k in range(4)}
    found.clear()
    shown: list[int] = []
    mrq.map_reduce(
        "noisy_theirs:noisy", range(3), logs=found.append, progress=lambda report: shown.append(report.counted)
    )
    assert (shown[-1], set(_of(found, "stdout"))) == (3, {0, 1, 2})


def test_a_computation_a_pool_and_an_executor_take_it(mrq: Client) -> None:
    from noisy_theirs import noisy  # type: ignore[import-not-found]  # its folder is on the path

    found: list[Printed] = []

    def lines() -> list[str]:
        made = sorted(line for one in found if one.stream == "stdout" for line in one.text.splitlines())
        found.clear()
        return made

    with mrq.executor(logs=found.append) as executor:
        assert executor.submit(noisy, 7).result(30) == 7
        assert list(executor.map(noisy, range(3), chunksize=2)) == [0, 1, 2]
    assert lines() == ["out 0", "out 1", "out 2", "out 7"]
    with mrq.pool(logs=found.append) as pool:
        assert pool.map(noisy, range(3)) == [0, 1, 2]
        assert pool.apply(noisy, (9,)) == 9
        assert lines() == ["out 0", "out 1", "out 2", "out 9"]
        shown: list[int] = []
        assert list(pool.imap(noisy, range(3), progress=lambda report: shown.append(report.counted))) == [0, 1, 2]
        assert (lines(), shown[-1]) == (["out 0", "out 1", "out 2"], 3)
        assert sorted(pool.imap_unordered(noisy, range(2))) == [0, 1]
        assert lines() == ["out 0", "out 1"]
    with mrq.pool() as quiet:
        assert quiet.map(noisy, range(2)) == [0, 1]
    mrq.submit("exp", x="2", terms=5, logs=found.append).result(30)
    assert lines() == []
    for door in (mrq.executor, mrq.pool):
        with pytest.raises(BadParameter, match="logs: a str can show nothing"):
            door(logs="all")  # type: ignore[arg-type]


def test_an_executor_of_its_own_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noisy_own.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    from noisy_own import noisy  # type: ignore[import-not-found]  # its folder is on the path

    found: list[Printed] = []
    with mapreduce_rq.executor(1, logs=found.append) as executor:
        assert executor.submit(noisy, 1).result(30) == 1
    assert _of(found, "stdout") == {0: "out 1\n"}


def test_what_a_failing_term_printed_is_there(mrq: Client) -> None:
    found: list[Printed] = []
    with pytest.raises(JobFailed):
        mrq.map_reduce("noisy_theirs:failing", range(3, 4), logs=found.append)
    assert [one.text for one in found if one.term == 0] == ["just before 3\n"]


def test_much_is_cut_to_its_end(mrq: Client) -> None:
    found: list[Printed] = []
    mrq.map_reduce("noisy_theirs:much", range(3), logs=found.append, chunksize=1)
    texts = _of(found, "stdout")
    assert set(texts) == {0, 1, 2}
    assert all(len(text) == 8192 and text.endswith("line 4999\n") for text in texts.values())
    assert sum(one.cut for one in found) > 3 * 40_000


def test_nothing_in_it_controls_the_terminal(mrq: Client, capsys: pytest.CaptureFixture[str]) -> None:
    mrq.map_reduce("noisy_theirs:hostile", range(1), logs=True)
    text = capsys.readouterr().err
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert all(line.startswith("[") and "term 0" in line for line in text.splitlines())
    assert "bytes" in text


def test_threads_are_heard_and_forks_keep_the_workers_streams(mrq: Client) -> None:
    found: list[Printed] = []
    mrq.map_reduce("noisy_theirs:forking", range(1), logs=found.append)
    assert [one.text for one in found] == ["from a thread\n"]


def test_who_does_not_ask_is_given_nothing(mrq: Client) -> None:
    class Observer:
        heard: list[Printed] = []  # noqa: RUF012  one test

        def progressed(self, report: object) -> None:
            pass

        def noticed(self, text: str) -> None:
            pass

        def printed(self, printed: Printed) -> None:
            self.heard.append(printed)

    mrq.map_reduce("noisy_theirs:noisy", range(3), observer=Observer())
    assert Observer.heard == []


def test_what_it_may_be_is_said(mrq: Client) -> None:
    with pytest.raises(BadParameter, match="logs: a str can show nothing"):
        mrq.map_reduce("noisy_theirs:noisy", range(3), logs="all")  # type: ignore[arg-type]


def test_a_loop_hears_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "noisy_loop.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    found: list[Printed] = []

    async def main() -> int:
        async with AsyncClient("pipes:", local=1) as made:
            return int(await made.map_reduce("noisy_loop:noisy", range(3), logs=found.append))

    assert asyncio.run(main()) == 3
    assert set(_of(found, "stdout")) == {0, 1, 2}


def test_the_command_shows_it_beside_its_value(tmp_path: Path) -> None:
    (tmp_path / "noisy_run.py").write_text(SOURCE)
    with User(tmp_path) as at:
        ran = at.run("run", "noisy_run:noisy", "--terms", "3", "--logs", "-q", "-o", "value", "--local", "1")
        assert (ran.code, ran.out) == (0, "3\n")
        lines = [line.partition("] ") for line in ran.err.splitlines()]
        assert {(head.partition(" ")[2], text) for head, _, text in lines} == {
            (f"term {k}{stream}", f"{text} {k}")
            for k in range(3)
            for stream, text in (("", "out"), (" stderr", "err"), (" log", "WARNING theirs: record"))
        }
        refused = at.run("run", "noisy_run:noisy", "--terms", "3", "--logs", "--detach", "-u", "redis://127.0.0.1:1")
        assert (refused.code, "--logs needs a command that stays" in refused.err) == (2, True)
