"""Functions of users' own: how they travel, what they may be called with, and all that they can do wrong."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import math
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import date
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Client, Files, Limits, kernel
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.client.leading import Leader
from mapreduce_rq.computations.sum import Sum
from mapreduce_rq.core.job.ends import record_of
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.errors import BadFunction, JobError, JobFailed, Superseded, UsageError
from mapreduce_rq.functions.items import TAKE_SECONDS
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master
from tests.support.commands import KEY, MRQ, Ran, Running, environment, mrq
from tests.support.records import cancelled
from tests.support.servers import RealServer
from tests.support.stage import allowed, until


def run(folder: Path, source: str, *arguments: str) -> Ran:
    """`mrq run own:f` with a module ``own`` of this source."""
    (folder / "own.py").write_text(source)
    return mrq("run", "own:f", "-q", *arguments, env=environment(path=[folder]), seconds=30)


DEADLY_TERM = """
import os, signal
def f(k):
    if k == 7:
        {deed}
    return 1
"""

DEADLY_IMPORT = """
import os, pathlib, signal
flag = pathlib.Path(__file__).with_suffix(".flag")
if flag.exists():
    {deed}
flag.touch()  # whoever imports it first, the master, survives
def f(k):
    return 1
"""


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("os._exit(0)", "WorkerDied: exit code 0"),
        ("os._exit(3)", "WorkerDied: exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "WorkerDied: killed by SIGSEGV"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_term_that_ends_its_worker_ends_the_job(tmp_path: Path, deed: str, how: str) -> None:
    ran = run(tmp_path, DEADLY_TERM.format(deed=deed), "--terms", "20", "--chunk", "1")
    assert ran.code == 1
    assert "own:f failed at term 7" in ran.err
    assert how in ran.err


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("os._exit(0)", "WorkerDied: exit code 0"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "WorkerDied: killed by SIGSEGV"),
        ("raise SystemExit(4)", "BadFunction: own:f: importing own failed: SystemExit: 4"),
    ],
)
def test_a_module_that_ends_whoever_imports_it_ends_the_job(tmp_path: Path, deed: str, how: str) -> None:
    ran = run(tmp_path, DEADLY_IMPORT.format(deed=deed), "--terms", "4", "--chunk", "1")
    assert ran.code == 1
    refused = how.startswith(
        "BadFunction"
    )  # by the worker, for its whole task: the text names the host in place of a term
    assert ("own:f failed on " if refused else "own:f failed at term ") in ran.err
    assert how in ran.err


NAN_TERM = """
import math
def f(k):
    return math.nan if k in (7, 12) else 1.0
"""


@pytest.mark.parametrize("reduce", ["sum", "max", "mean", "histogram:low=0,high=2,bins=2"])
@pytest.mark.parametrize("chunk", ["1", "20"])
def test_nan_is_no_value_of_a_term(tmp_path: Path, reduce: str, chunk: str) -> None:
    ran = run(tmp_path, NAN_TERM, "--terms", "20", "--chunk", chunk, "--reduce", reduce)
    assert (ran.code, ran.out) == (1, "")
    last = ran.err.splitlines()[-1]
    term = re.match(r"mrq: own:f failed at term (7|12) on ", last)
    assert term, last
    assert f"BadValue: term {term[1]} is float nan, and the reducer takes numbers other than nan" in last


def test_terms_that_are_nan_are_left_out_and_listed(tmp_path: Path) -> None:
    ran = run(tmp_path, NAN_TERM, "--terms", "20", "--chunk", "10", "--on-error", "skip", "--json")
    assert ran.code == 3
    assert ran.json["value"] == "18.0"
    assert sorted(one["term"] for one in ran.json["skipped"]) == [7, 12]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise SystemExit(9)", "importing own failed: SystemExit: 9"),
        ("import nosuchmodule", "importing own failed: No module named 'nosuchmodule'"),
        ("def g(k): pass", "own has no f; it has g"),
        ("f = 5", "own:f is an int, not a function: name a function of that module"),
    ],
)
def test_a_function_that_cannot_be_had_is_told_at_once(tmp_path: Path, source: str, message: str) -> None:
    ran = run(tmp_path, source, "--terms", "4")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("mrq: own:f")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_mistake_ends_in_the_background_of_a_script_too(tmp_path: Path) -> None:
    """There QUIT is ignored, by which the workers are ended: perhaps before they have a handler for it."""
    command = f"{shlex.join([*MRQ, 'run', 'own:f', '-q', '--terms', '4'])} & wait $!"
    done = subprocess.run(
        ["sh", "-c", command], env=environment(path=[tmp_path]), capture_output=True, timeout=30, check=False
    )
    assert done.stderr.startswith(b"mrq: own:f: ")
    assert done.returncode == 1


def test_what_functions_print_is_not_in_the_result(tmp_path: Path) -> None:
    ran = run(tmp_path, "def f(k):\n    print(f'hello {k}\\n', end='')\n    return k", "--terms", "5", "-o", "value")
    assert (ran.code, ran.out) == (0, "10\n")
    assert sorted(ran.err.splitlines()) == [f"hello {k}" for k in range(5)]


def test_bytes_that_are_no_text_are_refused_from_standard_input_too() -> None:
    done = subprocess.run(
        [*MRQ, "run", "builtins:len", "--lines", "-", "-q"],
        input=b"fine\n\xff\n", capture_output=True, timeout=30, env=environment({"LC_ALL": "C"}), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"standard input, line 2: its byte 0 is not text in utf-8" in done.stderr


def test_options_of_reducers_as_people_write_numbers() -> None:
    ran = mrq("run", "builtins:abs", "--terms", "5", "--reduce", "topk:k=1e3", "-o", "value", "-q")
    assert ran == (0, "1\t0\n1\t1\n1\t2\n1\t3\n1\t4\n", "")
    assert mrq("run", "builtins:abs", "--terms", "5", "--reduce", "topk:k=2.5", "-q").code == 2
    zeros = mrq("run", "builtins:abs", "--terms", "1", "--reduce", "quantiles:q=0.5", "-o", "value", "-q")
    assert zeros.out == "0.5\t0\n"


# -- from Python -------------------------------------------------------------------------------------------------------


def join(left: list[int], right: list[int]) -> list[int]:
    return left + right


def extend(left: list[int], right: list[int]) -> list[int]:
    left.extend(right)
    return left


def alone(term: int) -> list[int]:
    return [term]


def huge(term: int) -> int:
    return 10**50_000 + term


@kernel
def numbers(lo: int, hi: int) -> list[int]:
    return list(range(lo, hi))


@kernel
def table(lo: int, hi: int) -> Any:
    return np.ones((hi - lo, 2))


@kernel
def gap(lo: int, hi: int) -> Any:
    values = np.ones(hi - lo)
    values[np.arange(lo, hi) == 13] = math.nan
    return values


@kernel(whole=True)
def gap_in_all(lo: int, hi: int) -> float:
    return math.nan if lo <= 13 < hi else float(hi - lo)


def ends_too_soon(k: int) -> int:
    return next(iter([k] if k != 77 else []))


def ends_too_soon_and_slowly(k: int) -> int:
    if 70 <= k <= 77:
        time.sleep(0.6)
    return next(iter([k] if k != 77 else []))


def waits_in_c(k: int) -> int:
    """What a call in C that an interruption would end early has to say."""
    return ctypes.CDLL(None).usleep(900_000) if 50 <= k < 54 else 0


def ends_another(_: int) -> int | None:
    """Forks a process and tells it to end; the signal that it died of."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


class Rude(BaseException):
    """Not of the family that most people catch."""


def raises_cancelled(k: int) -> int:
    if k == 7:
        raise asyncio.CancelledError("not now")
    return k


def raises_rude(k: int) -> int:
    if k == 7:
        raise Rude("not now")
    return k


def slow_patch(k: int) -> int:
    """Sixty slow terms amid quick ones: who computes them."""
    if not 100_000 <= k < 100_060:
        return 0
    time.sleep(0.05)
    return os.getpid()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=2) as made:
        yield made


def test_items_of_any_kind_go_to_a_function_with_a_name(client: Client) -> None:
    assert client.map_reduce(float, [Fraction(1, 4), Fraction(3, 4)]) == 1.0
    assert client.map_reduce(str, [date(2020, 2, 29), Path("a")], reduce="list") == ["2020-02-29", "a"]


@pytest.mark.parametrize("items", [range(300_000), list(range(300_000))], ids=["range", "items"])
def test_slow_terms_amid_quick_ones_are_done_by_all_workers(client: Client, items: Iterable[int]) -> None:
    counts = client.map_reduce(slow_patch, items, reduce="counter")
    assert counts.pop(0) == 300_000 - 60
    assert sum(counts.values()) == 60
    assert min(counts.values()) >= 10
    assert len(counts) == 2


def test_a_deadline_holds_for_an_iterable_that_is_slow(client: Client) -> None:
    def slowly() -> Iterator[int]:
        for k in itertools.count():
            time.sleep(0.01)
            yield k

    job = client.submit_function(abs, slowly(), reduce="list", limits=Limits(deadline=0.7))
    result = job.result(timeout=10)
    assert result.ended == "deadline"
    # What the deadline has room for, the take of items that it falls into, and the last item of that.
    most = (0.7 + TAKE_SECONDS) / 0.01 + 1
    assert 10 <= result.terms_used <= most
    assert result.native == list(range(result.terms_used))


def test_small_tasks_of_a_slow_iterable_reach_the_workers_while_it_goes_on(client: Client, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def noted(k: int) -> int:
        Path(folder, str(k)).touch()
        return k

    def slowly() -> Iterator[int]:
        for k in range(60):  # fewer than may be out
            if k == 55:  # the first item always goes out alone
                until(lambda: len(os.listdir(folder)) > 1, 20, "terms are called whose items came after the first")
            time.sleep(0.002)
            yield k

    assert client.map_reduce(noted, slowly(), reduce="count", limits=Limits(chunk=1)) == 60


def test_after_the_deadline_no_item_is_asked_for(client: Client) -> None:
    asked = 0

    def one_at_a_time() -> Iterator[int]:  # each is more than a master waits for
        nonlocal asked
        for k in itertools.count():
            asked += 1
            time.sleep(0.3)
            yield k

    job = client.submit_function(abs, one_at_a_time(), reduce="list", limits=Limits(deadline=0.7))
    result = job.result(timeout=10)
    assert result.ended == "deadline"
    assert 1 <= result.terms_used <= asked <= 3, "at 0, 0.3 and 0.6 s"


def test_a_function_that_lets_stopiteration_out_is_told_the_term(client: Client) -> None:
    with pytest.raises(JobFailed, match=r"failed at term 77 on .*: StopIteration"):
        client.map_reduce(ends_too_soon, range(10_000))


def test_a_slow_function_that_lets_stopiteration_out_is_told_the_term(client: Client) -> None:
    job = client.submit_function(ends_too_soon_and_slowly, range(10_000))
    with pytest.raises(JobFailed, match=r"failed at term 77 on .*: StopIteration"):
        job.result(timeout=30)


def test_what_waits_in_c_is_not_cut_short(client: Client) -> None:
    assert client.map_reduce(waits_in_c, range(10_000)) == 0


def test_a_process_that_a_function_forks_ends_when_it_is_told_to(client: Client) -> None:
    job = client.submit_function(ends_another, range(4), reduce="list")
    assert job.result(timeout=20).native == [-signal.SIGTERM] * 4


@pytest.mark.parametrize("chunk", [None, 1, 100])
@pytest.mark.parametrize(("function", "said"), [(raises_cancelled, "CancelledError"), (raises_rude, "Rude")])
def test_any_exception_is_told_with_its_term(client: Client, function: Any, said: str, chunk: int | None) -> None:
    with pytest.raises(JobFailed, match=f"failed at term 7 on .*: {said}: not now"):
        client.map_reduce(function, range(100), limits=Limits(chunk=chunk))
    left_out = client.submit_function(function, range(100), limits=Limits(chunk=chunk, on_error="skip")).result()
    assert left_out.value == str(sum(range(100)) - 7)
    assert [one["term"] for one in left_out.skipped] == [7]


def test_modules_are_allowed_one_by_one_or_in_a_row(server: RealServer, queue: str) -> None:
    worker = ("worker", "-u", server.url, "--queue", queue, "-c", "1", "-q")
    with (
        Running(*worker, "--allow", "posixpath", "--allow", "operator,math", env=environment()),
        Client(server.url, queue=queue) as client,
    ):
        for function in ("posixpath:basename", "operator:neg", "math:floor"):
            job = client.submit_function(function, ["a/b"] if "path" in function else [1], reduce="count")
            assert job.result(timeout=20).value == "1"


def test_a_worker_calls_nothing_that_an_allowed_module_has_imported(
    server: RealServer, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imports_os.py").write_text("import os\nfrom os import system\ndef f(k):\n    return k\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    worker = ("worker", "-u", server.url, "--queue", queue, "-c", "1", "-q", "--allow", "imports_os")
    shell: Any = {"items": [f"touch {tmp_path}/shell"], "reduce": "count"}
    with Running(*worker, env=environment(path=[tmp_path])), Client(server.url, queue=queue) as client:
        assert client.submit_function("imports_os:f", range(3)).result(20).value == "3"
        for name, why in (("os.system", "os is a module"), ("system", "system is defined in posix")):
            job = client.submit_function(f"imports_os:{name}", **shell)
            with pytest.raises(JobFailed, match=f"BadFunction: imports_os:{name}: imports_os:{why}"):
                job.result(20)
        folded = client.planner.function("imports_os:f", range(3), reduce=print, zero=0)
        folded[0].params["merge"] = "imports_os:system"
        with pytest.raises(JobFailed, match="imports_os:system is defined in posix"):
            client._start(*folded).result(20)
    assert not (tmp_path / "shell").exists()


def test_a_worker_with_an_older_helper_refuses_and_answers_when_it_is_started_anew(
    server: RealServer, queue: str, tmp_path: Path
) -> None:
    (tmp_path / "helping.py").write_text("def times(k):\n    return k\n")
    (tmp_path / "first.py").write_text("def f(k):\n    import helping\n    return helping.times(k)\n")
    (tmp_path / "second.py").write_text("from helping import times\ndef f(k):\n    return times(k)\n")
    there = environment({"MRQ_KEY": KEY}, path=[tmp_path])
    where = ("-u", server.url, "--queue", queue, "-q")

    def ran(function: str) -> Ran:
        return mrq("run", function, "--terms", "10", "-o", "value", *where, env=there, seconds=30)

    with Running("worker", *where, "-c", "1", env=there):
        assert ran("first:f").out == "45\n"
        (tmp_path / "helping.py").write_text("def times(k):\n    return k * 100\n")
        refused = ran("second:f")
        assert (refused.code, refused.out) == (1, "")
        assert "second:f: helping was edited after this worker had imported it: restart the worker" in refused.err
        (tmp_path / "second.py").write_text("from helping import times\ndef f(k):\n    return times(k) + 0\n")
        assert "second:f: second was edited after this worker had imported it" in ran("second:f").err
    with Running("worker", *where, "-c", "1", env=there):
        assert ran("second:f").out == "4500\n"


def test_a_kernel_is_given_the_spans_of_its_range(client: Client) -> None:
    assert client.map_reduce(numbers, range(5, 1000), reduce="list", limits=Limits(chunk=7)) == list(range(5, 1000))
    assert client.map_reduce(numbers, range(-5, 5)) == -5


@pytest.mark.parametrize("items", [[1, 2], range(0, 10, 3), range(5, 0, -1)])
def test_a_kernel_takes_no_items(client: Client, items: Iterable[int]) -> None:
    with pytest.raises(BadFunction, match=r"numbers is a kernel of spans: give it a range with step 1"):
        client.map_reduce(numbers, items)


def test_a_kernel_gives_one_value_for_each_term(client: Client) -> None:
    with pytest.raises(JobFailed, match=r"table gave 1 by 2 values for 1 term "):
        client.map_reduce(table, range(4), limits=Limits(chunk=1))


def test_a_kernel_with_nan_in_its_array_is_told_the_term(client: Client) -> None:
    with pytest.raises(
        JobFailed, match=r"gap failed at term 13 on .*: BadValue: term 13 is float nan, and the reducer"
    ):
        client.map_reduce(gap, range(40), limits=Limits(chunk=20))
    found = client.submit_function(gap, range(40), limits=Limits(chunk=20, on_error="skip")).result(20)
    assert (found.native, [each["term"] for each in found.skipped]) == (39.0, [13])


def test_a_kernel_with_nan_for_a_whole_span_is_told_the_span_and_the_term_in_it(client: Client) -> None:
    told = r"failed at term 13 on .*gap_in_all gave float nan for the terms \[13, 14\), and the reducer takes numbers"
    with pytest.raises(JobFailed, match=told):
        client.map_reduce(gap_in_all, range(40), limits=Limits(chunk=20))
    found = client.submit_function(gap_in_all, range(40), limits=Limits(chunk=20, on_error="skip")).result(20)
    assert (found.native, [each["term"] for each in found.skipped]) == (39.0, [13])


@pytest.mark.parametrize("function", [join, extend])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_a_function_may_change_the_value_that_it_folds_into(client: Client, function: Any, chunk: int | None) -> None:
    found = client.map_reduce(alone, range(50), reduce=function, zero=[], limits=Limits(chunk=chunk))
    assert found == list(range(50))


@pytest.mark.parametrize("reduce", ["sum", "int_sum", "max"])
def test_integers_of_any_size_stay_integers(client: Client, reduce: str) -> None:
    found = client.map_reduce(huge, range(3), reduce=reduce, limits=Limits(chunk=1))
    assert type(found) is int
    assert found == (10**50_000 + 2 if reduce == "max" else 3 * 10**50_000 + 3)


def test_integers_of_any_size_are_listed_and_counted(client: Client) -> None:
    assert client.map_reduce(huge, range(2), reduce="list") == [huge(0), huge(1)]
    assert client.map_reduce(huge, range(2), reduce="prefix_sums") == [huge(0), huge(0) + huge(1)]
    assert client.map_reduce(huge, range(2), reduce="counter") == {huge(0): 1, huge(1): 1}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"limits": Limits(chunk=0)}, "limits: chunk is 0, and must be from 1 to 1,000,000,000,000,000"),
        ({"chunksize": 0}, "chunksize is 0, and must be at least 1"),
        ({"limits": Limits(deadline=-1)}, "limits: deadline is -1, and must be above 0 and at most 315,360,000"),
        ({"limits": Limits(rel_tol=math.nan)}, "limits: rel_tol is nan, and must be above 0 and at most 1.79769e"),
        ({"limits": Limits(on_error="ignore")}, "limits: on_error is 'ignore', and must be fail or skip"),  # type: ignore[arg-type]
        ({"limits": {"chunk": 5}}, "limits is a dict, and must be a Limits"),
        ({"reduce": None}, "reduce: a NoneType was given: give a name, a Reducer or a function"),
        ({"reduce": max}, "reduce: max needs zero=..."),
        ({"reduce": max, "zero": 0, "law": "any"}, "law: 'any' is not one of ordered, commutative"),
        ({"reduce": max, "zero": 0, "options": {"k": 5}}, "options were given without a reducer's name"),
        ({"reduce": "sum", "zero": 5}, "zero was given, and the reducer sum has its own"),
        ({"items": range(10**30)}, "items: range.* does not fit into 64 bits"),
        ({"items": range(10**16)}, "items: 10000000000000000 are too many"),
    ],
)
def test_mistakes_are_told_before_anything_is_queued(client: Client, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        client.map_reduce(float, **{"items": range(5)} | how)


def test_a_closed_client_says_so() -> None:
    with Client(local=1) as client:
        job = client.submit("primes", to=10**12)
    with pytest.raises(JobError, match="its client was closed: its private server has ended with the client"):
        job.result(10)
    with pytest.raises(UsageError, match="this client is closed"):
        client.map_reduce(float, range(5))


@pytest.mark.parametrize("threads", [False, True])
def test_a_script_that_leaves_its_client_open_ends_in_silence(tmp_path: Path, threads: bool) -> None:
    busy = "threading.Thread(target=threading.Event().wait, daemon=True).start()" if threads else ""
    script = f"""
import threading
from mapreduce_rq import Client
if __name__ == "__main__":
    {busy}
    client = Client(local=2)
    print(client.map_reduce(lambda k: k, range(10)))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=30, env=environment({"TMPDIR": str(tmp_path)}), check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "45\n", "")
    assert list(tmp_path.iterdir()) == []


def first_takes_long(term: int) -> float:
    if term == 0:
        time.sleep(1.5)
    return 1.0


def test_a_value_without_some_terms_has_no_exact_bound(client: Client) -> None:
    found = client.submit_function(failing, range(20), limits=Limits(on_error="skip")).result(20)
    assert (found.native, found.bound, found.bound_kind) == (19, None, "none")
    found = client.submit_function(first_takes_long, range(10**9), limits=Limits(deadline=0.5)).result(20)
    assert (found.ended, found.bound, found.bound_kind) == ("deadline", None, "none")
    assert "no bound: terms are missing" in found.notes


def failing(term: int) -> int:
    if term == 7:
        raise ValueError("seven")
    return 1


def test_a_series_without_its_first_terms_has_no_bound() -> None:
    computation = Sum.create({"series": "zeta2", "terms": 1000})
    for lo, bound in ((0, True), (1, False)):
        spec = Spec(job="j", computation="sum", params={}, total=1000, limits=Limits(), created=0, version="")
        ledger = Ledger(spec, computation, 0.0)
        ledger.tally.count([(lo, 500, computation.map_encoded(lo, 500))])
        outcome = computation.finish(ledger.tally.prefix()[1], 500 - lo)
        assert isinstance(outcome, Outcome)
        record = record_of(spec, ledger, outcome, ended="deadline", workers=1, now=0.0)
        assert (record.bound is not None) is bound
        assert record.bound_kind == ("proven" if bound else "none")


def test_a_tolerance_that_the_result_keeps_is_met(client: Client) -> None:
    assert client.submit("sum", series="zeta2", terms=1000, limits=Limits(rel_tol=1e-2)).result(20).ended == (
        "tolerance met"
    )
    assert client.submit("sum", series="zeta2", terms=10, limits=Limits(rel_tol=1e-2)).result(20).ended == (
        "tolerance not met"
    )


# -- on a shared server ------------------------------------------------------------------------------------------------


def test_a_folding_function_travels_by_its_name(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        assert client.map_reduce(alone, range(20), reduce=join, zero=[]) == list(range(20))
    with (
        Client(server.url, local=1, queue=queue, allow=["builtins"]) as client,
        pytest.raises(JobFailed, match=f"start it with --allow {__name__}"),
    ):
        client.map_reduce(float, range(3), reduce=join, zero=[])


@pytest.mark.parametrize("given", [KEY, KEY.encode(), bytes.fromhex(KEY)])
def test_a_key_may_be_given_as_mrq_key_prints_it(server: RealServer, queue: str, given: str | bytes) -> None:
    with Client(server.url, queue=queue, keys=[given]) as client:
        assert client.keyring.secrets() == [bytes.fromhex(KEY)]


@pytest.mark.parametrize("given", ["no key", KEY, ["no key"], [5]])
def test_what_is_no_key_is_refused_unshown(server: RealServer, queue: str, given: Any) -> None:
    with pytest.raises(UsageError, match=r"^keys(:| is) ") as error:
        Client(server.url, queue=queue, keys=given)
    assert "no key" not in str(error.value)


def test_pickled_items_are_read_only_where_that_is_allowed(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY], allow_pickle=True) as client:
        assert client.map_reduce(float, [Fraction(1, 2)]) == 0.5
    with (
        Client(server.url, local=1, queue=queue, keys=[KEY]),
        Client(server.url, queue=queue, keys=[KEY], allow_pickle=True) as client,
        pytest.raises(JobFailed, match="the items are pickled: start workers with --allow-pickle"),
    ):
        client.map_reduce(float, [Fraction(1, 2)])


def test_several_threads_fold_on_one_client_at_once(client: Client) -> None:
    wrong: list[Any] = []

    def fold(number: int) -> None:
        try:
            for terms in range(100, 130):
                found = client.map_reduce(partial(pow, number), range(terms), reduce="int_sum")
                if found != sum(number**k for k in range(terms)):
                    wrong.append((number, terms, found))
                client.snapshot()
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=fold, args=(number,)) for number in range(2, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_who_loses_a_job_while_another_thread_folds_follows_it_over_a_connection_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(_: Master) -> None:
        raise Superseded("led by another master now")

    followed: list[Jobs | None] = []

    def follow(_: Leader, job: str, *__: Any, verbs: Jobs | None = None) -> Ended:
        followed.append(verbs)
        return Ended(cancelled(job), None)

    monkeypatch.setattr(Master, "run", lost)
    monkeypatch.setattr(Leader, "follow", follow)
    with Client(local=1) as mrq:
        folding = threading.Barrier(2)
        over = threading.Event()

        def fold() -> None:
            with mrq.wires.verbs():
                folding.wait()
                over.wait()

        other = threading.Thread(target=fold)
        other.start()
        folding.wait()
        with pytest.raises(JobError):
            mrq.map_reduce(float, range(3))
        over.set()
        other.join()
        assert followed[0] not in (None, mrq.verbs)


def test_a_partial_over_its_cap_is_halved_and_a_term_over_it_fails_with_both_sizes(client: Client) -> None:
    hundred = partial(str.format, "{:0100d}")  # texts that differ: a pickle writes the same object once
    cap = Limits(chunk=100, max_body=8000)
    halved = client.submit_function(hundred, range(100), reduce="list", limits=cap).result(20)
    assert (halved.native, halved.tasks) == ([f"{k:0100d}" for k in range(100)], 2)
    with pytest.raises(
        JobFailed, match=r"failed at term 0 .*TooLarge: the partial has \d\d\d bytes, and 100 is the most: "
    ):
        client.map_reduce(hundred, range(1), reduce="list", limits=Limits(max_body=100))


def test_a_byte_order_mark_is_none_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes("\ufeffone\ntwo \ufeff\n".encode())
    for source in (str(tmp_path / "lines"), "-"):
        done = subprocess.run(
            [*MRQ, "run", "builtins:len", "--lines", source, "-q", "-o", "value", "--reduce", "list"],
            input=(tmp_path / "lines").read_bytes(), capture_output=True, timeout=30, env=environment(), check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, b"3\n5\n"), done.stderr


@kernel(samples=True)
def dice(lo: int, hi: int) -> Any:
    return np.random.default_rng([lo, hi]).integers(1, 7, hi - lo)


@kernel
def squares(lo: int, hi: int) -> Any:
    return np.arange(lo, hi, dtype=np.float64) ** 2


@pytest.mark.parametrize("reduce", ["mean", "stats"])
def test_a_tolerance_over_an_ordered_range_is_kept_and_ends_alike_for_any_workers(reduce: str) -> None:
    found = set()
    for workers in (1, 3):
        with Client(local=workers) as client:
            how: dict[str, Any] = {"reduce": reduce, "limits": Limits(rel_tol=0.03)}
            result = client.submit_function(float, range(10**6), **how).result(20)
            found.add((result.value, result.digest, result.terms_used, result.bound))
    assert len(found) == 1
    value, _, used, bound = found.pop()
    assert abs(float(value or 0) - 499_999.5) <= float(bound or 0) <= 0.03 * 500_000
    assert used < 10_000


@pytest.mark.parametrize(
    ("function", "items", "message"),
    [
        (float, [1, 2, 3], "a tolerance needs a random sample, and the first lines of a file, or items"),
        (float, iter(range(5)), "a tolerance needs a random sample, and the first lines of a file, or items"),
        (len, Files(__file__), "a tolerance needs a random sample, and the first lines of a file, or items"),
        (len, Files(__file__, ship=True), "a tolerance needs a random sample, and the first lines of a file, or items"),
        (squares, range(10**6), r"a tolerance needs a random sample, and the first spans of a kernel are not one"),
    ],
)
def test_a_tolerance_where_there_is_no_sample_is_refused(
    client: Client, function: Any, items: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        client.map_reduce(function, items, reduce="mean", limits=Limits(abs_tol=0.1))


def test_a_kernel_of_samples_has_a_confidence_interval_and_may_stop(client: Client) -> None:
    result = client.submit_function(dice, range(10**7), reduce="mean", limits=Limits(abs_tol=0.02, chunk=1024)).result(
        20
    )
    assert (result.bound_kind, result.ended) == ("statistical", "tolerance met")
    assert abs(float(result.value or 0) - 3.5) <= 3 * float(result.bound or 0)
    assert result.terms_used < 10**6


def test_a_mean_that_a_deadline_cuts_short_has_no_bound(client: Client) -> None:
    limits = Limits(deadline=2.0, chunk=1, rel_tol=1e-9)
    result = client.submit_function(tenth_of_a_second, range(10**6), reduce="mean", limits=limits).result(20)
    assert (result.ended, result.bound, result.bound_kind) == ("deadline", None, "none")
    assert "no bound: terms are missing" in result.notes


def test_items_that_a_deadline_leaves_uncounted_are_told(client: Client) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for k in itertools.count():
            taken += 1
            yield k

    limits = Limits(deadline=allowed(2.0), chunk=1)
    result = client.submit_function(tenth_of_a_second, endless(), reduce="count", limits=limits).result(allowed(30))
    lost = taken - result.terms_used
    assert (result.ended, result.terms) == ("deadline", None)
    assert lost
    assert [note for note in result.notes if note.startswith(f"{lost:,} further item")]


def tenth_of_a_second(k: int) -> float:
    time.sleep(0.1)
    return float(k)


CYCLES = """
import gc
from mapreduce_rq import Client

with Client(local=1) as client:
    client.map_reduce(abs, range(1))
    gc.collect()
    gc.disable()
    for items in (range(1), range(3000), [1, 2, 3]):
        client.map_reduce(abs, items)
    print(gc.collect())
"""


def test_a_job_leaves_no_cycles_behind() -> None:
    """Else the collector runs every few jobs, which costs a lone job a tenth of its time. A process of its own: what
    earlier tests have left may turn up at any time.
    """
    ran = subprocess.run([sys.executable, "-c", CYCLES], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "0\n"
