"""joblib's Parallel, and scikit-learn on it, with our backend."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from math import sqrt
from pathlib import Path
from pickle import PicklingError
from types import SimpleNamespace
from typing import Any

import pytest

from mapreduce_rq import BadFunction, BadParameter, Client, UsageError, register_joblib
from tests.support.servers import RealServer
from tests.support.stage import until

joblib: Any = pytest.importorskip("joblib")
from joblib.externals.loky.process_executor import TerminatedWorkerError  # noqa: E402  it may not be installed
from joblib.parallel import AutoBatchingMixin  # noqa: E402  as above

from mapreduce_rq.client.calls import Calls  # noqa: E402  as above
from mapreduce_rq.client.joblib_backend import MrqBackend  # noqa: E402  as above
from mapreduce_rq.client.joblib_run import Line  # noqa: E402  as above


def picky(k: int) -> int:
    if k == 7:
        raise LookupError(k)
    return k


def nested(k: int) -> tuple[str, float]:
    inner = joblib.Parallel(n_jobs=2)
    found = sum(inner(joblib.delayed(sqrt)(i) for i in range(k)))
    return type(inner._backend).__name__, found


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    register_joblib()
    with Client(local=2) as client:
        yield client


@pytest.fixture
def here(private: Client) -> Iterator[Client]:
    with joblib.parallel_config("mrq", client=private, n_jobs=-1):
        yield private


@pytest.mark.usefixtures("here")
def test_values_come_in_order_from_batches_of_any_size() -> None:
    for size in ("auto", 1, 7):
        found = joblib.Parallel(batch_size=size)(joblib.delayed(sqrt)(k) for k in range(500))
        assert found == [sqrt(k) for k in range(500)]
    assert joblib.Parallel(n_jobs=1)(joblib.delayed(lambda k: -k)(k) for k in range(3)) == [0, -1, -2]
    assert joblib.effective_n_jobs(-1) == 2


@pytest.mark.usefixtures("here")
def test_joblib_says_by_name_what_it_uses(capfd: pytest.CaptureFixture[str]) -> None:
    assert joblib.Parallel(verbose=10)(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]
    assert "Using backend MrqBackend with 2 concurrent workers" in "".join(capfd.readouterr())


@pytest.mark.usefixtures("here")
def test_no_more_are_dispatched_than_pre_dispatch_says() -> None:
    read = []

    def calls() -> Iterator[Any]:
        for k in range(10_000):
            read.append(k)
            yield joblib.delayed(sqrt)(k)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says that calls were cancelled
        values = joblib.Parallel(return_as="generator", pre_dispatch=4, batch_size=1)(calls())
        assert next(values) == 0.0
        values.close()
    assert len(read) < 10_000


def there(folder: Path, k: int) -> int:
    (folder / str(k)).touch()
    return k


@pytest.mark.usefixtures("here")
def test_calls_that_were_read_are_sent_while_the_next_are_long_in_coming(tmp_path: Path) -> None:
    def made(*calls: int) -> bool:
        return all((tmp_path / str(k)).exists() for k in calls)

    def calls() -> Iterator[Any]:
        for k in range(8):
            if k == 4:  # the answers to these come together
                until(lambda: made(0, 1, 2, 3), 30, "the first four calls are made")
            if k == 6:  # this one was read with call 4, and is sent after another answer
                until(lambda: made(5), 30, "call 5 is made while joblib waits for the next")
            yield joblib.delayed(there)(tmp_path, k)

    assert joblib.Parallel(batch_size=1, pre_dispatch=4)(calls()) == list(range(8))


def test_batches_of_quick_calls_grow_fourfold_and_slow_ones_as_joblib_has_it() -> None:
    def sizes(batching: Any, seconds_per_call: float) -> list[int]:
        batching.parallel = SimpleNamespace(verbose=0)
        found = []
        for _ in range(8):
            found.append(batching.compute_batch_size())
            batching.batch_completed(found[-1], 0.001 + found[-1] * seconds_per_call)
        return found

    def ours(seconds_per_call: float) -> list[int]:
        return sizes(MrqBackend(client=Client.__new__(Client)), seconds_per_call)

    def theirs(seconds_per_call: float) -> list[int]:
        return sizes(AutoBatchingMixin(), seconds_per_call)

    assert ours(1e-6) == [1, 4, 16, 64, 256, 1024, 1024, 1024]  # more are read no sooner than the workers are idle
    assert theirs(1e-6) == [1, 2, 4, 8, 16, 32, 64, 128]
    for seconds in (0.0001, 0.001, 0.01, 0.03, 0.09, 0.11, 0.19):
        assert max(theirs(seconds)) <= max(ours(seconds)) <= 2 * MrqBackend.MIN_IDEAL_BATCH_DURATION / seconds
    for seconds in (0.81, 2.0, 5.0):
        assert ours(seconds) == theirs(seconds)


@pytest.mark.usefixtures("here")
def test_unordered_generators_and_lambdas() -> None:
    base = 3
    values = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(lambda k: k + base)(k) for k in range(50))
    assert sorted(values) == [k + 3 for k in range(50)]


@pytest.mark.usefixtures("here")
def test_who_wants_all_values_is_woken_and_does_not_look_every_ten_milliseconds(monkeypatch: Any) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"it sleeps for {seconds} s")

    monkeypatch.setattr("joblib.parallel.time", SimpleNamespace(time=time.time, sleep=sleep))
    for count in (2, 100):
        found = joblib.Parallel()(joblib.delayed(time.sleep)(0.01) for _ in range(count))
        assert found == [None] * count


@pytest.mark.usefixtures("here")
def test_an_iterable_that_raises_ends_a_call_while_its_batches_take_without_end() -> None:
    def calls() -> Iterator[Any]:
        yield joblib.delayed(sqrt)(4)
        yield joblib.delayed(signal.pause)()
        raise OSError("no more of them")

    with pytest.raises(OSError, match="no more of them"):
        joblib.Parallel(batch_size=1, pre_dispatch=1)(calls())
    assert joblib.Parallel()(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]


@pytest.mark.usefixtures("here")
def test_ctrl_c_ends_a_call_that_waits_for_its_values() -> None:
    calls = [joblib.delayed(signal.pause)(), joblib.delayed(os.kill)(os.getpid(), signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt):
        joblib.Parallel(batch_size=1)(calls)
    assert joblib.Parallel()(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("how", ["generator", "generator_unordered"])
def test_two_generators_may_be_open_and_an_error_of_one_does_not_end_the_other(how: str) -> None:
    calls = [joblib.delayed(sqrt)(k * k) for k in range(300)]
    first, second = (joblib.Parallel(return_as=how, batch_size=1)(calls) for _ in range(2))
    found = [next(first)], [next(second)]
    with pytest.raises(LookupError, match="7"):
        joblib.Parallel()(joblib.delayed(picky)(k) for k in range(100))
    assert sorted(found[0] + list(first)) == list(range(300))
    assert sorted(found[1] + list(second)) == list(range(300))


@pytest.mark.usefixtures("here")
def test_what_a_call_raises_ends_the_rest_and_the_pool_lives_on() -> None:
    with joblib.Parallel() as parallel:
        for _ in range(2):
            with pytest.raises(LookupError, match="7") as caught:
                parallel(joblib.delayed(picky)(k) for k in range(1000))
            assert "in picky" in caught.value.__notes__[0]
        assert parallel(joblib.delayed(picky)(k) for k in range(5)) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("here")
def test_a_call_that_ends_its_workers_raises_as_with_loky_and_the_next_call_works() -> None:
    with pytest.raises(TerminatedWorkerError, match="exit code 3") as raised:
        joblib.Parallel()([joblib.delayed(os._exit)(3)])
    assert isinstance(raised.value, BrokenProcessPool)
    assert joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(3)) == [sqrt(k) for k in range(3)]


@pytest.mark.usefixtures("here")
def test_nested_calls_run_in_threads() -> None:
    found = joblib.Parallel()(joblib.delayed(nested)(k) for k in range(3))
    assert found == [("ThreadingBackend", sum(map(sqrt, range(k)))) for k in range(3)]


def test_wrong_numbers_and_arguments_are_refused(private: Client) -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        joblib.Parallel(n_jobs=0, backend="mrq")(joblib.delayed(sqrt)(k) for k in range(3))
    with pytest.raises(BadParameter, match="give one of them"), joblib.parallel_config("mrq", client=private, url="x"):
        pass


def test_a_client_of_its_own_ends_with_the_backend() -> None:
    register_joblib()
    with joblib.parallel_config("mrq", n_jobs=2) as config:
        assert joblib.Parallel()(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]
        client = config["backend"]._client
        assert client.local == 2
    del config

    def is_closed() -> bool:
        gc.collect()  # joblib's objects are cycles, and the thread that calls joblib back may still hold one
        try:
            client.map_reduce(sqrt, range(3))
        except UsageError as error:
            return "closed" in str(error)
        return False

    until(is_closed, 5, "the client is closed")


def lines() -> set[str]:
    """The threads that call joblib back, each with its job's name."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("mrq joblib ")}


def test_the_open_job_is_kept_for_the_next_call_for_a_moment() -> None:
    register_joblib()
    with Client(local=2) as client:
        before = lines()
        for count in (4, 9, 300):
            with joblib.parallel_config("mrq", client=client, n_jobs=2):
                assert joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(count))[-1] == sqrt(count - 1)
            until(lambda: bool(Line._kept.get(client)), 5, "the last callback has returned, and the line is kept")
        (line,) = lines() - before
        with (
            joblib.parallel_config("mrq", client=client, n_jobs=2),
            pytest.raises(LookupError),
        ):
            joblib.Parallel()(joblib.delayed(picky)(k) for k in range(9))
        until(lambda: line not in lines(), 5, "a job is not kept whose call was given up")
        with joblib.parallel_config("mrq", client=client, n_jobs=2):
            joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(3))
        (line,) = lines() - before
        assert client.job_state(line.split()[-1]).state == "running"  # type: ignore[union-attr]  # it is there
        until(lambda: line not in lines(), 5, "the line ends by itself")
        until(lambda: client.job_state(line.split()[-1]).state == "done", 5, "and so does its job")  # type: ignore[union-attr]  # as above


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_ends_its_thread_leaves_no_job_open(private: Client) -> None:
    calls = Calls(private)
    line = Line(private, calls)

    def ends_the_thread() -> None:
        raise SystemExit

    run: Any = SimpleNamespace(call_back=ends_the_thread)
    line.begin(run)
    until(calls.ended.is_set, 5, "the job has ended")


def test_where_pickles_are_not_trusted_it_says_so(server: RealServer) -> None:
    register_joblib()
    with (
        Client(server.url, local=1) as client,
        joblib.parallel_config("mrq", client=client, n_jobs=2),
        pytest.raises(BadFunction, match="pickle"),
    ):
        joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(3))


def test_a_closed_client_is_refused() -> None:
    register_joblib()
    client = Client(local=1)
    client.close()
    with joblib.parallel_config("mrq", client=client, n_jobs=2), pytest.raises(UsageError, match="closed"):
        joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(3))


def test_several_threads_share_a_backend(private: Client) -> None:
    backend = MrqBackend(client=private, nesting_level=0)

    def roots(count: int) -> list[float]:
        with joblib.parallel_config(backend, n_jobs=2):
            for size in (count, 2):
                found: list[float] = joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(size))
                assert found == [sqrt(k) for k in range(size)]
            return found

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(roots, [300] * 8)) == [[0.0, 1.0]] * 8


def test_several_threads_share_a_client(private: Client) -> None:
    def roots(count: int) -> list[float]:
        with joblib.parallel_config("mrq", client=private, n_jobs=2):
            found: list[float] = joblib.Parallel()(joblib.delayed(sqrt)(k) for k in range(count))
            return found

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(roots, [300] * 4)) == [[sqrt(k) for k in range(300)]] * 4


class _Refuses:
    def __reduce__(self) -> str:
        raise RuntimeError("not this one")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "call",
    [
        joblib.delayed(len)(threading.Lock()),
        joblib.delayed(threading.Lock().acquire)(),
        joblib.delayed(len)(_Refuses()),
        joblib.delayed(len)(k for k in (1, 2)),
        joblib.delayed(threading.Lock)(),
        joblib.delayed(len)(1),
    ],
    ids=("an argument", "a function", "its own code", "a generator", "a value", "its error"),
)
@pytest.mark.parametrize("before", [0, 50])
def test_what_cannot_travel_raises_as_with_loky_and_the_next_call_works(call: Any, before: int) -> None:
    with pytest.raises((TypeError, PicklingError)) as theirs:
        joblib.Parallel(backend="loky", n_jobs=2)([joblib.delayed(len)("ab")] * before + [call])
    with pytest.raises((TypeError, PicklingError)) as ours:
        joblib.Parallel()([joblib.delayed(len)("ab")] * before + [call])
    assert ours.type is theirs.type
    assert joblib.Parallel()(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]


@pytest.mark.usefixtures("here")
def test_a_forked_child_makes_calls_of_its_own() -> None:
    with joblib.Parallel() as parallel:
        assert parallel(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]
        child = os.fork()
        if not child:
            code = 1
            try:
                found = [one(joblib.delayed(sqrt)(k) for k in (4, 9)) for one in (parallel, joblib.Parallel())]
                code = 0 if found == [[2.0, 3.0]] * 2 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert parallel(joblib.delayed(sqrt)(k) for k in (4, 9)) == [2.0, 3.0]


@pytest.mark.usefixtures("here")
def test_scikit_learn_searches_a_grid_and_validates() -> None:
    selection: Any = pytest.importorskip("sklearn.model_selection")
    from sklearn.datasets import make_classification  # type: ignore[import-untyped,unused-ignore]
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped,unused-ignore]

    rows, classes = make_classification(n_samples=80, n_features=4, random_state=0)
    grid = {"C": [0.1, 1.0, 10.0]}
    found = selection.GridSearchCV(LogisticRegression(), grid, n_jobs=-1, cv=3).fit(rows, classes)
    with joblib.parallel_config("sequential"):
        alone = selection.GridSearchCV(LogisticRegression(), grid, cv=3).fit(rows, classes)
    assert found.best_params_ == alone.best_params_
    assert list(found.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])
    scores = selection.cross_val_score(LogisticRegression(), rows, classes, n_jobs=-1, cv=3)
    assert list(scores) == list(selection.cross_val_score(LogisticRegression(), rows, classes, cv=3))
