"""Leading a job: every door gives the same answers to a lost connection, and to another master that takes it over."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mapreduce_rq import Client, Limits, NoPermission, NoWorkers
from mapreduce_rq.client.client import Client as AClient
from mapreduce_rq.core.job.record import Cancelled
from mapreduce_rq.errors import JobFailed, Superseded
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Silent
from tests.support.commands import KEY, environment, mrq
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


@pytest.mark.parametrize("door", ["call", "job", "command"])
def test_an_error_of_the_one_that_leads_ends_the_job(fresh_server: FreshServer, door: str) -> None:
    """The command left it as running, with a master that was gone."""
    server = fresh_server("valkey")
    setup = server.client()
    with Client(server.url, keys=[KEY], local=1) as client:
        slow, items = "time:sleep", range(5)  # seconds: long enough for the right to be taken away

        def call() -> None:
            if door == "call":
                client.map_reduce(slow, items, reduce="list")
            elif door == "job":
                client.submit_function(slow, items, reduce="list").result(30)
            else:
                run = ("run", slow, "--terms", "5", "--chunk", "1", "--reduce", "list", "-u", server.url)
                ran = mrq(*run, env=environment({"MRQ_KEY": KEY}))
                assert ran.code == 69, ran
                assert "has no permissions to run the 'xread' command" in ran.err
                raise NoPermission

        found: list[BaseException] = []

        def caught() -> None:
            try:
                call()
            except BaseException as error:  # it is what is looked at
                found.append(error)

        caller = threading.Thread(target=caught)
        caller.start()
        job = until(
            lambda: next(iter(setup.execute_command("ZRANGE", client.keys.jobs, 0, -1)), b"").decode(), 20, "queued"
        )
        setup.execute_command("ACL", "SETUSER", "default", "-xread")
        caller.join(40)
        assert isinstance(found[0], NoPermission), found
        setup.execute_command("ACL", "SETUSER", "default", "+xread")
        state = client.job_state(job)
        assert state is not None
        assert isinstance(state.record, Cancelled), state
        assert state.record.message == "its client ended: NoPermission"
        told = mrq("events", "-u", server.url, env=environment({"MRQ_KEY": KEY})).out
        assert told.count('"what":"cancelled"') == 1


DOORS: dict[str, Callable[[AClient], object]] = {
    "call": lambda client: client.map_reduce(abs, range(3), wait_workers=0.2),
    "job": lambda client: client.submit_function(abs, range(3), wait_workers=0.2).result(20),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_job_for_which_no_worker_came_is_cancelled_once(fresh_server: FreshServer, door: str) -> None:
    server = fresh_server("valkey")
    setup = server.client()

    def connections() -> int:
        return int(setup.info("stats")["total_connections_received"])

    with Client(server.url, keys=[KEY]) as client:
        client.submit_function(abs, range(3)).cancel()  # its wire is kept for the next one
        before = connections()
        with pytest.raises(NoWorkers):
            DOORS[door](client)
        assert connections() - before <= (door == "job")  # it connected anew to cancel what was cancelled
        jobs = [job.decode() for job in setup.execute_command("ZRANGE", client.keys.jobs, 0, -1)]
        records = [state.record for job in jobs if (state := client.job_state(job)) is not None]
        why = [record.message for record in records if isinstance(record, Cancelled)]
        assert sorted(why) == ["cancelled", "no worker came in time"]
