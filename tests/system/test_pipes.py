"""Workers over pipes: the same values and digests as over Redis, whatever dies, and nothing left behind."""

from __future__ import annotations

import math
import operator
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Client, JobCancelled, JobFailed, Limits, ServerFailed, UsageError
from mapreduce_rq.pipes.waiting import COLLECTORS
from tests.support.commands import User
from tests.support.servers import wait_gone
from tests.support.stage import Stage, until
from tests.support.terminal import Terminal
from tests.support.terms import STAGE, brief, gated, megabyte, noted, poisoned, slow, tardy, total, total_without
from tests.system.test_embedded import descendants
from tests.unit.test_catalogue import SMALL

TERMS = 64


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv(STAGE, str(tmp_path))
    return Stage(tmp_path)


@pytest.fixture
def pipes(stage: Stage) -> Iterator[Client]:  # noqa: ARG001  workers are to see it
    with Client("pipes:", local=2) as made:
        yield made


@pytest.fixture
def at(tmp_path: Path) -> Iterator[User]:
    with User(tmp_path) as user:
        yield user


LISTENS = """
import sys


def heard(event, details):
    if event == "tempfile.mkdtemp":
        with open({path!r}, "a") as file:
            print(details[0], file=file)


sys.addaudithook(heard)
"""
"""Which folders a process makes: others beside it make shelves, too, that stay for as long as they live."""


def listened(at: User) -> Path:
    """The file in which commands from here on write the folders that they make."""
    path = at.stage.folder / "folders"
    (at.stage.folder / "sitecustomize.py").write_text(LISTENS.format(path=str(path)))
    return path


# -- the same as over Redis --------------------------------------------------------------------------------------------


def failing(k: int) -> int:
    raise ValueError(k)


def test_nothing_stays_of_a_call_that_has_its_value(pipes: Client) -> None:
    """Nobody else could ask for it. What failed stays, to be looked at by its id."""
    for terms in (1, 200):
        assert pipes.map_reduce(operator.neg, range(terms), reduce="list") == [-k for k in range(terms)]
    assert pipes.site.hub is not None
    store = pipes.site.hub.store
    assert (pipes.verbs.listed(), store.streams, set(store.hashes)) == ([], {}, {pipes.keys.workers})
    with pytest.raises(JobFailed):
        pipes.map_reduce(failing, range(1))
    (failed,) = pipes.verbs.listed()
    state = pipes.job_state(failed)
    assert state is not None
    assert (state.state, state.faults) == ("failed", ())
    assert pipes.map_reduce(operator.neg, range(3)) == -3
    assert pipes.verbs.listed() == [failed]


def results(client: Client) -> dict[str, tuple[str | None, str]]:
    jobs = {name: client.submit(name, **params) for name, params in SMALL.items()}
    found = {name: job.result(60) for name, job in jobs.items()}
    return {name: (result.value, result.digest) for name, result in found.items()}


@pytest.fixture(scope="module")
def expected() -> dict[str, tuple[str | None, str]]:
    with Client("", local=2) as client:
        return results(client)


@pytest.mark.parametrize("collect", COLLECTORS)
def test_all_computations_have_the_digests_that_they_have_over_redis(
    expected: dict[str, tuple[str | None, str]], collect: str
) -> None:
    with Client(f"pipes:?collect={collect}", local=2) as client:
        assert results(client) == expected


def test_functions_kernels_lists_arrays_and_streams(pipes: Client) -> None:
    numbers = range(10_000)
    assert pipes.map_reduce(math.sqrt, numbers) == math.fsum(map(math.sqrt, numbers))
    assert pipes.map_reduce(lambda k: k * k, iter([1, 2, 3]), reduce="list") == [1, 4, 9]
    assert pipes.map_reduce(divmod, range(5), range(1, 6), reduce="list") == [divmod(k, k + 1) for k in range(5)]
    assert pipes.map_reduce(str.split, ["a b", "b"], reduce="counter") == {"a": 1, "b": 2}
    assert pipes.map_reduce(operator.neg, numbers, reduce=operator.add, zero=0) == -sum(numbers)
    found = pipes.map_reduce(megabyte, range(8), reduce="list")
    assert [array[0] for array in found] == list(range(8))
    assert float(pipes.map_reduce(np.sum, [np.ones(200_000)] * 3)) == 600_000
    assert list(pipes.imap(operator.neg, range(100))) == [-k for k in range(100)]
    with pipes.executor() as executor:
        assert [future.result() for future in [executor.submit(pow, k, 2) for k in range(9)]] == [
            k * k for k in range(9)
        ]
    with pytest.raises(UsageError, match="pipes: has no server"):
        pipes.snapshot()


def test_jobs_at_the_same_time_from_threads(pipes: Client) -> None:
    jobs = [pipes.submit_function(noted, range(100 + number)) for number in range(4)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(pipes.map_reduce(noted, range(n), reduce="int_sum")))
        for n in (50, 60, 70)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(total(n) for n in (50, 60, 70))
    assert [int(float(job.result(60).native)) > 0 for job in jobs] == [True] * 4


def test_workers_go_on_while_the_master_computes(pipes: Client, stage: Stage) -> None:
    """The master's thread serves the workers while it waits; while it computes another thread does."""
    master = os.getpid()

    def fold(left: int, right: int) -> int:
        if os.getpid() == master:
            until(lambda: stage.begun_terms() == TERMS, 20, "all terms begun, while the master merges the first two")
        return left + right

    assert pipes.map_reduce(tardy, range(TERMS), reduce=fold, zero=0, limits=Limits(chunk=1)) == total(TERMS)


def test_when_no_job_runs_nothing_of_ours_does(pipes: Client) -> None:
    """Not a thread: the process may be forked, and its next client forks its workers."""
    assert pipes.submit_function(noted, range(TERMS), reduce="list", limits=Limits(chunk=1)).result().native
    until(lambda: not any(thread.name.startswith("mrq") for thread in threading.enumerate()), 5, "no thread left")


# -- death -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("collect", COLLECTORS)
def test_a_killed_worker_s_task_runs_elsewhere_and_is_counted_once(stage: Stage, collect: str) -> None:
    stage.write("gated", "9")
    with Client(f"pipes:?collect={collect}", local=2) as client:
        job = client.submit_function(gated, range(TERMS), reduce="int_sum", limits=Limits(chunk=1))
        victim = stage.begun(9)
        os.kill(victim, signal.SIGKILL)
        stage.begun(9, but=victim)
        stage.open()
        assert job.result(30).native == total(TERMS)
    assert stage.count()[9] == 2


def test_with_its_supervisor_stopped_a_line_s_end_alone_is_the_obituary(pipes: Client, stage: Stage) -> None:
    stage.write("gated", "9")
    job = pipes.submit_function(gated, range(TERMS), reduce="int_sum", limits=Limits(chunk=1))
    victim = stage.begun(9)
    stage.begun(TERMS - 1)  # by the other worker, which is there by now
    supervisor = pipes.supervisor
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(victim, signal.SIGKILL)
        stage.begun(9, but=victim)
        stage.open()
        assert job.result(30).native == total(TERMS)
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_killing_hanging_and_raising_terms_are_named(pipes: Client, stage: Stage) -> None:
    stage.write("poison", "3:raise 5:kill 9:hang")
    limits = Limits(chunk=1, attempts=1, on_error="skip", task_timeout=0.5)
    result = pipes.submit_function(poisoned, range(16), reduce="int_sum", limits=limits).result(30)
    assert result.native == total_without(16, 3, 5, 9)
    stage.write("poison", "5:kill")
    with pytest.raises(JobFailed, match="term 5"):
        pipes.map_reduce(poisoned, range(16), limits=Limits(chunk=4))


def test_a_deadline_ends_a_job(pipes: Client, stage: Stage) -> None:
    stage.write("seconds", "0.01")
    ended = pipes.submit_function(slow, range(1000), limits=Limits(deadline=0.5)).result(10)
    assert ended.record["ended"] == "deadline"


def test_a_cancelled_job_s_workers_are_killed(pipes: Client, stage: Stage) -> None:
    stage.write("seconds", "60")
    job = pipes.submit_function(slow, range(4))
    victim = stage.begun(0)
    assert job.cancel(now=True) == "cancelled"
    with pytest.raises(JobCancelled):
        job.result(10)
    assert wait_gone(victim)


def test_a_killed_supervisor_is_one_clear_error(pipes: Client, stage: Stage) -> None:
    stage.write("gated", "0")
    job = pipes.submit_function(gated, range(4))
    stage.begun(0)
    os.kill(pipes.supervisor, signal.SIGKILL)
    with pytest.raises(ServerFailed, match="the supervisor of the workers over pipes died"):
        job.result(10)
    with pytest.raises(ServerFailed):
        pipes.map_reduce(noted, range(4))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_ends_with_the_master(at: User, number: int) -> None:
    folders = listened(at)
    at.stage.write("gated", "9")
    run = at.start(
        "run", "tests.support.terms:gated", "--terms", "64", "--reduce", "int_sum", "-u", "pipes:", "--local", "2"
    )
    at.stage.begun(9)
    started = descendants(run.pid)
    assert len(started) == 3
    (shelf,) = map(Path, folders.read_text().splitlines())
    assert shelf.is_dir()
    run.signal(number)
    assert run.wait() == (-9 if number == signal.SIGKILL else 128 + number)
    assert all(wait_gone(pid) for pid in started)
    until(lambda: not shelf.exists(), 20, "the shelf removed")
    if number == signal.SIGINT:
        assert run.err[-1].endswith("for its workers over pipes have ended with this command\n")


def test_a_client_is_closed_while_it_computes_and_by_a_fork(stage: Stage) -> None:
    others = descendants(os.getpid())  # the servers of other tests
    stage.write("seconds", "60")
    client = Client("pipes:", local=2)
    job = client.submit_function(slow, range(4))
    stage.begun(0)
    pid = os.fork()
    if pid == 0:
        try:
            client.map_reduce(noted, range(4))
        except UsageError as error:
            os._exit(0 if "fork" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert descendants(os.getpid()) != others
    client.close()
    with pytest.raises(Exception, match="its workers over pipes have ended with the client"):
        job.result(10)
    assert descendants(os.getpid()) == others
    client.close()


def test_ctrl_c_in_python_leaves_a_client_that_works(pipes: Client, stage: Stage) -> None:
    stage.write("seconds", "30")

    def press() -> None:
        stage.begun(0)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        pipes.map_reduce(slow, range(4))
    stage.write("seconds", "0")
    assert pipes.map_reduce(slow, range(TERMS), reduce="int_sum") == total(TERMS)


# -- a process for each term -------------------------------------------------------------------------------------------


def test_a_process_for_each_term_some_of_which_are_killed(at: User) -> None:
    at.stage.write("poison", "3:once-kill 30:once-segfault")
    ran = at.run(
        "run", "tests.support.terms:tardy", "--terms", "40", "--reduce", "int_sum", "-u", "pipes:", "--per-term", "-q",
        "-o", "value",
    )  # fmt: skip
    assert (ran.code, ran.out) == (0, f"{total(40)}\n")
    runs = at.stage.runs()
    assert len({pid for pid, _ in runs}) == len(runs) == 42


def test_a_term_on_its_own_is_the_same_on_a_terminal_and_in_a_pipe(at: User) -> None:
    ran = at.run("term", "exp", "--x", "2", "--k", "7")
    assert (ran.code, ran.out, ran.err) == (0, "8/315\n", "")
    with Terminal("term", "exp", "--x", "2", "--k", "7", env=at.env) as terminal:
        assert terminal.read_all() == "8/315\r\n"
    assert at.run("term", "exp", "--x", "1/3", "--k", "2000").out.count("/") == 1  # longer than Python writes integers


# -- what is said ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "-u", "pipes:"], "pipes: has no server"),
        (["worker", "-u", "pipes:"], "pipes: has no server"),
        (["resume", "exp-1", "-u", "pipes:"], "pipes: has no server"),
        (["compute", "exp", "--x", "2", "-u", "pipes://host"], "pipes lead to no host"),
        (
            ["compute", "exp", "--x", "2", "-u", "pipes:?collect=carrier"],
            "collect: 'carrier': there is no such mechanism",
        ),
        (["compute", "exp", "--x", "2", "--collect", "poll"], "add -u pipes:"),
        (["term", "primes", "--k", "7"], "no such series"),
        (["term", "exp", "--x", "2", "--k", "1e9"], "--k"),
        (["compute", "exp", "--x", "2", "--per-term"], "add -u pipes:"),
        (["compute", "exp", "--x", "2", "-u", "pipes:", "--local", "0"], "--local"),
        (["compute", "sum", "zeta2", "-u", "pipes:", "--per-term", "--terms", "2000", "--collect", "select"], "1024"),
        (["compute", "sum", "zeta2", "-u", "pipes:", "--per-term", "--terms", "9999999"], "RLIMIT_NOFILE"),
    ],
)
def test_what_cannot_be_is_one_line(at: User, arguments: list[str], words: str) -> None:
    ran: Any = at.run(*arguments)
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1


def held(client: Client) -> set[str]:
    """The names of all that stands in a client's store."""
    hub = client.site.hub
    assert hub is not None
    store = hub.store
    return {*store.hashes, *store.lists, *store.streams, *(job for jobs in store.jobs.values() for job in jobs)}


def test_of_calls_that_a_deadline_ends_nothing_stays(pipes: Client) -> None:
    pipes.map_reduce(abs, range(10))
    before = held(pipes)
    for reduce in ("int_sum", "list", "counter"):
        assert pipes.map_reduce(brief, range(100_000), reduce=reduce, limits=Limits(deadline=0.3, chunk=1))
    until(lambda: held(pipes) <= before, 5, "nothing more is there than before")
