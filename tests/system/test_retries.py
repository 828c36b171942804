"""Terms that raise and are tried again: counted once, listed, with the same bits; and when they are not tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq import BadParameter, Client, DeadlineReached, Files, JobCancelled, JobFailed, Limits
from tests.support import flaky


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("flaky")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAKY_CALLS", str(folder))
        with Client(local=2) as made:
            yield made


@pytest.fixture(autouse=True)
def noted(client: Client) -> None:  # noqa: ARG001  # it makes the folder
    """No call is noted yet."""
    for path in flaky.calls().iterdir():
        path.unlink()


AGAIN = Limits(retries=2, backoff=0.0, chunk=20)


def test_a_failing_term_is_called_again_and_the_others_of_its_task_are_not(client: Client) -> None:
    result = client.submit_function(flaky.third_time, range(100), limits=AGAIN).result()
    plain = client.submit_function(abs, range(100)).result()
    assert (result.native, result.digest, result.terms_used) == (plain.native, plain.digest, 100)
    assert flaky.seen() == dict.fromkeys(range(3, 100, 10), 3)
    assert [(one["term"], one["tries"]) for one in result.retried] == [(term, 3) for term in range(3, 100, 10)]
    assert result.retried[0]["kind"] == "ConnectionError"
    assert result.retried[0]["message"] == "no answer for 3"
    assert result.retried[0]["where"]
    assert result.bound_kind == plain.bound_kind == "exact"


def test_values_that_are_kept_come_in_order(client: Client) -> None:
    result = client.submit_function(flaky.third_time, range(30), reduce="list", limits=AGAIN).result()
    assert result.native == list(range(30))
    assert [one["term"] for one in result.retried] == [3, 13, 23]


def test_the_kinds_of_functions_and_items(client: Client, tmp_path: Path) -> None:
    assert client.map_reduce(flaky.third_time, iter(range(30)), limits=AGAIN) == sum(range(30))
    assert client.map_reduce(flaky.later, range(40, 60), limits=AGAIN) == sum(range(40, 60))
    assert client.map_reduce(flaky.pair, range(60, 80), range(20), limits=AGAIN) == sum(range(60, 80)) + sum(range(20))
    assert list(client.imap(flaky.third_time, range(80, 100), limits=AGAIN)) == list(range(80, 100))
    (tmp_path / "lines").write_text("".join(f"{term}\n" for term in range(200, 230)))
    result = client.submit_function(
        flaky.by_line, Files(str(tmp_path / "lines")), limits=Limits(retries=2, backoff=0)
    ).result()
    assert (result.native, len(result.retried)) == (sum(range(200, 230)), 3)
    result = client.submit_function(flaky.span, range(64), limits=Limits(retries=1, backoff=0, chunk=64)).result()
    assert (result.native, [one["term"] for one in result.retried]) == (sum(range(64)), [0])


def test_a_stop_iteration_is_an_exception_as_others_are(client: Client) -> None:
    limits = Limits(retries=3, backoff=0, chunk=5)
    result = client.submit_function(flaky.stops, range(5), limits=limits).result()
    assert (result.native, [(one["term"], one["tries"]) for one in result.retried]) == (10, [(2, 4)])
    noted_calls = flaky.seen()[2]
    for path in flaky.calls().iterdir():
        path.unlink()
    with pytest.raises(JobFailed, match="StopIteration"):
        client.submit_function(flaky.stops, range(5), limits=Limits(retries=1, backoff=0, chunk=5)).result()
    assert (noted_calls, flaky.seen()[2]) == (4, 2)


def test_what_fails_in_the_end_says_how_often_it_was_tried(client: Client) -> None:
    with pytest.raises(JobFailed, match=r"never failed at term 7 on .*: ConnectionError: no answer \(tried 3 times\)"):
        client.submit_function(flaky.never, range(20), limits=AGAIN).result()
    assert flaky.seen() == {7: 3}


def test_what_fails_in_the_end_is_left_out_where_that_is_asked_for(client: Client) -> None:
    limits = Limits(retries=2, backoff=0, chunk=20, on_error="skip")
    result = client.submit_function(flaky.never, range(20), limits=limits).result()
    assert (result.native, [one["term"] for one in result.skipped], result.retried) == (sum(range(20)) - 7, [7], [])
    assert flaky.seen() == {7: 3}
    values = client.submit_function(
        flaky.never, range(20), reduce="list", return_exceptions=True, limits=AGAIN
    ).result()
    assert isinstance(values.native[7], ConnectionError)


def test_the_wait_doubles(client: Client) -> None:
    began = time.monotonic()
    client.map_reduce(flaky.third_time, [3], limits=Limits(retries=2, backoff=0.2))
    assert time.monotonic() - began >= 0.2 + 0.4


def test_a_deadline_or_a_cancel_frees_the_worker_that_waits(client: Client) -> None:
    waiting = Limits(retries=5, backoff=600.0, deadline=0.5)
    with pytest.raises(DeadlineReached):
        client.submit_function(flaky.always, range(2), limits=waiting).result()
    job = client.submit_function(flaky.always, range(2), limits=Limits(retries=5, backoff=600.0))
    job.cancel()
    with pytest.raises(JobCancelled):
        job.result()
    assert client.map_reduce(abs, range(10)) == 45  # within seconds: the test's own limit is less than the wait


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(retries=-1), "retries is -1, and must be from 0 to 1,000"),
        (Limits(retries=1001), "retries is 1,001, and must be from 0 to 1,000"),
        (Limits(retries=1, backoff=-0.1), "backoff is -0.1, and must be from 0 to 3600"),
        (Limits(retries=1, backoff=3601.0), "backoff is 3601, and must be from 0 to 3600"),
        (Limits(retries=1, backoff=float("nan")), "backoff is nan"),
        (Limits(retries=1.5), "retries"),  # type: ignore[arg-type]  # what a user may write
    ],
)
def test_the_ranges(client: Client, limits: Limits, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        client.map_reduce(abs, range(3), limits=limits)


def test_built_in_computations_have_nothing_to_try_again(client: Client) -> None:
    with pytest.raises(BadParameter, match="retries is for functions of your own, and exp is none"):
        client.submit("exp", x="2", limits=Limits(retries=1))
