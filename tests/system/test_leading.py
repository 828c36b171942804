"""Leading a job: every door gives the same answers to a lost connection, and to another master that takes it over."""

from __future__ import annotations

import threading

import pytest

from mapreduce_rq import Client, Limits
from mapreduce_rq.client.client import Client as AClient
from mapreduce_rq.errors import JobFailed, Superseded
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Silent
from tests.support.commands import KEY
from tests.support.servers import FreshServer, RealServer
from tests.support.stage import until

SLOW = Limits(chunk=1)


def claimed(client: AClient, job: str) -> Master:
    """A master of this client that has taken over a job, as after a long stop of the other's process."""

    def claim() -> Master | None:
        state = client.job_state(job)
        assert state is not None
        try:
            return client.leader.adopt(state, client.verbs, Silent())
        except Superseded:  # the other has committed since we looked
            return None

    found = until(claim, 10, "the job is ours")
    assert found is not None
    return found


def test_a_job_in_the_background_follows_the_master_that_took_it_over(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, queue=queue, keys=[KEY]) as first,
        Client(server.url, queue=queue, keys=[KEY]) as second,
    ):
        job = first.submit_function("builtins:abs", range(2000), limits=SLOW)
        other = claimed(second, job.id)
        with Client(server.url, queue=queue, keys=[KEY], local=1):
            ended = other.run()
            assert ended is not None
            assert ended.record.data["value"] == str(sum(range(2000)))
            assert job.result(20).native == sum(range(2000))
        assert job.status == "done"


def test_each_value_is_given_once_whichever_master_counted_it(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, queue=queue, keys=[KEY]) as first,
        Client(server.url, queue=queue, keys=[KEY]) as second,
    ):
        chunks = Limits(chunk=10, on_error="skip")
        job = first.submit_function(
            "tests.support.mapped:no_multiple_of_seven", range(400), reduce="list", limits=chunks
        )
        values = job.results()
        with Client(server.url, queue=queue, keys=[KEY], local=1):
            found = [next(values)]  # some are counted by the first master
            other = claimed(second, job.id)
            assert other.run() is not None
            found += list(values)
        assert sorted(found) == [(k, -k) for k in range(400) if k % 7]


def test_it_goes_on_itself_when_that_master_lets_go(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, queue=queue, keys=[KEY]) as first,
        Client(server.url, queue=queue, keys=[KEY]) as second,
    ):
        job = first.submit_function("builtins:abs", range(2000), limits=SLOW)
        other = claimed(second, job.id)
        other.stop = True
        assert other.run() is None
        with Client(server.url, queue=queue, keys=[KEY], local=1):
            assert job.result(20).native == sum(range(2000))


def test_a_job_that_only_follows_ends_with_its_client(server: RealServer, queue: str) -> None:
    with Client(server.url, queue=queue, keys=[KEY]) as second:
        with Client(server.url, queue=queue, keys=[KEY]) as first:
            job = first.submit_function("builtins:abs", range(10))
            other = claimed(second, job.id)
            until(lambda: not isinstance(job._leads, Master), 20, "it follows")
        assert job.done()
        state = second.job_state(job.id)
        assert state is not None
        assert state.running
        other.stop = True
        other.run()


def test_a_cancelled_job_says_so_to_the_one_that_follows(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, queue=queue, keys=[KEY]) as first,
        Client(server.url, queue=queue, keys=[KEY]) as second,
    ):
        job = first.submit_function("builtins:abs", range(10))
        claimed(second, job.id)
        second.cancel(job.id)
        job.wait(20)
        assert job.status == "cancelled"


@pytest.mark.parametrize("door", ["call", "job"])
def test_an_outage_while_a_job_is_submitted_is_waited_out(fresh_server: FreshServer, door: str) -> None:
    server = fresh_server("valkey", appendonly="yes")
    with Client(server.url, keys=[KEY], local=1) as client:
        assert client.submit_function(abs, range(3)).result(20).native == 3  # its wire is kept for the next job
        assert client.map_reduce(abs, range(3)) == 3
        server.kill9()
        found: list[object] = []

        def call() -> None:
            if door == "call":
                found.append(client.map_reduce(abs, range(4)))
            else:
                found.append(client.submit_function(abs, range(4)).result(30).native)

        caller = threading.Thread(target=call)
        caller.start()
        server.restart()
        caller.join(30)
        assert found == [6]


def test_a_job_with_items_of_another_process_is_not_adopted(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, queue=queue, keys=[KEY]) as first,
        Client(server.url, queue=queue, keys=[KEY]) as second,
    ):
        job = first.submit_function(abs, [1, 2, 3])
        with pytest.raises(JobFailed, match="items came from an iterator"):
            claimed(second, job.id)
