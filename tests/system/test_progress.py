"""Progress as people have it: a bar of ours, a callable, a tqdm bar, a Rich Progress; on each door."""

from __future__ import annotations

import asyncio
import io
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rich.progress
from rich.console import Console
from tqdm import tqdm

from mapreduce_rq import AsyncClient, BadParameter, Client, Report
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.progress.bar import Bar
from tests.support.commands import environment
from tests.support.servers import ROOT
from tests.support.stage import until
from tests.support.terminal import Terminal

SECONDS = 30.0
COUNT = 60


def slow(k: int) -> int:
    time.sleep(0.003)
    return k


def pair(k: int) -> tuple[int, int]:
    return k % 3, slow(k)


def inverse(k: int) -> int:
    return 1 // (5 - k)


@pytest.fixture(autouse=True, scope="module")
def no_monitor() -> Iterator[None]:
    """tqdm watches its bars in a thread for the rest of the process, and beside a thread no worker is forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tqdm, "monitor_interval", 0)
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=2) as made:
        yield made


def by_pool(client: Client, name: str, **more: Any) -> Callable[[Any], Any]:
    def call(progress: Any) -> Any:
        with client.pool() as pool:
            found = getattr(pool, name)(slow, *more.get("items", (range(COUNT),)), progress=progress)
            return found.get(SECONDS) if hasattr(found, "get") else list(found)

    return call


def by_executor(client: Client, **more: Any) -> Callable[[Any], Any]:
    def call(progress: Any) -> Any:
        with client.executor() as executor:
            return list(executor.map(slow, range(COUNT), progress=progress, **more))

    return call


def in_a_loop(progress: Any) -> Any:
    async def folded() -> Any:
        async with AsyncClient(local=2) as mrq:
            return await mrq.map_reduce(slow, range(COUNT), progress=progress)

    return asyncio.run(folded())


def doors(client: Client) -> dict[str, Callable[[Any], Any]]:
    """Each with 60 calls."""
    items, rows = range(COUNT), [(k,) for k in range(COUNT)]
    return {
        "map_reduce": lambda p: client.map_reduce(slow, items, progress=p),
        "of an iterator": lambda p: client.map_reduce(slow, iter(items), progress=p),
        "reduce_by_key": lambda p: client.reduce_by_key(pair, items, progress=p),
        "submit": lambda p: client.submit("exp", x="2", terms=COUNT, progress=p).result(SECONDS),
        "submit_function": lambda p: client.submit_function(slow, items, progress=p).result(SECONDS),
        "imap": lambda p: list(client.imap(slow, items, progress=p)),
        "imap_unordered": lambda p: list(client.imap_unordered(slow, items, progress=p)),
        "starmap": lambda p: list(client.starmap(slow, rows, progress=p)),
        "pool.map": by_pool(client, "map"),
        "pool.map_async": by_pool(client, "map_async"),
        "pool.starmap": by_pool(client, "starmap", items=(rows,)),
        "pool.imap": by_pool(client, "imap"),
        "pool.imap_unordered": by_pool(client, "imap_unordered"),
        "executor.map": by_executor(client),
        "its chunks": by_executor(client, chunksize=7),
        "its buffer": by_executor(client, buffersize=5),
        "asyncio": in_a_loop,
    }


@pytest.mark.parametrize("door", doors(None))  # type: ignore[arg-type]
def test_it_is_told_how_far_it_is_and_that_all_is_done(client: Client, door: str) -> None:
    heard: list[Report] = []
    bar: Any = tqdm(file=io.StringIO(), disable=False)
    rows = rich.progress.Progress(console=Console(file=io.StringIO()))
    for progress in (heard.append, bar, rows, False):
        doors(client)[door](progress)
    counts = [report.counted for report in heard]
    assert counts == sorted(counts)
    assert counts[-1] == COUNT
    assert len(counts) < 2 + heard[-1].elapsed_s * 11  # ten a second, the first at once, and the last
    assert bar.n == COUNT
    (task,) = rows.tasks
    assert task.completed == COUNT
    assert heard[-1].total == bar.total == task.total == COUNT
    assert task.finished
    assert not bar.disable  # it is not closed: it may be told of the next call, too
    doors(client)["map_reduce"](bar)
    assert bar.n == 2 * COUNT
    bar.close()


class Enough(Exception):
    """Raised by a callable that was told of progress."""


@pytest.mark.parametrize("door", ["map_reduce", "submit_function", "imap", "pool.imap"])
def test_what_the_callable_raises_ends_the_job(client: Client, door: str) -> None:
    def stop(report: Report) -> None:
        raise Enough(report.counted)

    with pytest.raises(Enough):
        doors(client)[door](stop)
    until(lambda: not any(job.state == "running" for job in client.snapshot().jobs), SECONDS, "the job has ended")
    assert client.map_reduce(slow, range(4)) == 6.0


@pytest.mark.parametrize("door", ["pool.map", "executor.map"])
def test_calls_without_a_job_of_their_own_go_on(client: Client, door: str, caplog: pytest.LogCaptureFixture) -> None:
    def stop(report: Report) -> None:
        raise Enough(report.counted)

    assert doors(client)[door](stop) == list(range(COUNT))
    assert caplog.text.count("progress is not shown any more") == 1


def test_a_job_whose_running_value_cannot_be_had_goes_on(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def progress(_: Ledger) -> None:
        raise ValueError("not yet")

    class Watching:
        """An observer that keeps what it is told."""

        def __init__(self) -> None:
            self.said: list[str] = []
            self.values: set[str | None] = set()

        def progressed(self, report: Callable[[], Report]) -> None:
            self.values.add(report().value)

        def noticed(self, text: str) -> None:
            self.said.append(text)

    monkeypatch.setattr(Ledger, "progress", progress)
    watching = Watching()
    assert client.map_reduce(abs, range(1000), observer=watching) == 499_500
    assert "no running value: not yet" in watching.said
    assert watching.values <= {None, "499500"}


@pytest.mark.parametrize(
    ("progress", "said"),
    [(7, "progress is 7, and must be True"), (tqdm, "progress: tqdm is a class"), ("x", "progress is 'x', and must")],
)
@pytest.mark.parametrize("door", ["map_reduce", "submit", "imap", "pool.map", "executor.map"])
def test_what_cannot_show_any_is_refused(client: Client, door: str, progress: Any, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        doors(client)[door](progress)


def test_a_job_that_fails_leaves_the_bars_of_others_in_order(client: Client) -> None:
    bar: Any = tqdm(file=io.StringIO())
    rows = rich.progress.Progress(console=Console(file=io.StringIO()))
    for progress in (bar, rows):
        with client.imap(inverse, itertools.count(), progress=progress) as values, pytest.raises(ZeroDivisionError):
            list(values)
        with client.executor() as executor, pytest.raises(ZeroDivisionError):
            list(executor.map(inverse, itertools.count(), buffersize=2, progress=progress))
    assert [(task.finished, task.stop_time is None) for task in rows.tasks] == [(False, False)] * 2
    bar.close()


PROGRAM = """
import sys, time
from mapreduce_rq import Client
def slow(k):
    time.sleep(0.02)
    return k
with Client(local=2) as mrq:
    print(mrq.map_reduce(slow, range(100), progress={progress}))
    print(sum(mrq.imap(slow, range(100), progress={progress})))
print([name for name in sys.modules if name in ("rich", "mapreduce_rq.progress.shown")])
"""


@pytest.mark.parametrize(("progress", "imported"), [("None", []), ("True", ["mapreduce_rq.progress.shown"])])
def test_nothing_is_written_into_a_pipe_and_without_it_nothing_is_imported(progress: str, imported: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(progress=progress)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["4950", "4950", str(imported)]
    assert not done.stderr


def test_on_a_terminal_it_is_a_bar_that_stays() -> None:
    command = [sys.executable, "-c", PROGRAM.format(progress="True")]
    with Terminal(env=environment({"TERM": "xterm"}), command=command) as terminal:
        drawn = terminal.read_all()
        assert terminal.wait() == 0
        assert terminal.as_before
    last = drawn.partition("4950")[0].rpartition("slow")[2]
    assert "━" in last
    assert "100%" in last
    assert "100/100" in last
    assert "2 workers" in drawn


def test_a_dumb_terminal_gets_no_bar() -> None:
    command = [sys.executable, "-c", PROGRAM.format(progress="True")]
    with Terminal(env=environment({"TERM": "dumb"}), command=command) as terminal:
        shown = terminal.read_all()
    assert "\x1b" not in shown
    notices = "mrq: part answer: "  # of a machine so busy that one term is long
    assert [line for line in shown.split("\r\n") if not line.startswith(notices)][:2] == ["4950", "4950"]


def test_what_others_wrote_does_not_steer_the_terminal() -> None:
    into = io.StringIO()
    bar = Bar("[red]\x1b[2J", Console(file=into, force_terminal=True, color_system=None, width=80))
    bar.draw(Report(counted=3, total=10, value="[blink]\x1b]0;x\x07", workers=1))
    bar.say("[bold]\x1b[5m")
    bar.stop()
    assert "\x1b[2J" not in into.getvalue()
    assert "\x1b]0" not in into.getvalue()
    assert "\x1b[5m" not in into.getvalue()
    for there in ("[red]", "[blink]", "[bold]", "3/10", "1 worker"):
        assert there in into.getvalue()
