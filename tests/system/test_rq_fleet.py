"""On stock rq workers: what RQ does to its jobs, done to ours; the value is exact, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from zlib import crc32

import pytest
import rq
from rq.command import send_stop_job_command
from rq.job import JobStatus

from mapreduce_rq import Client
from mapreduce_rq.client.loops import Loops
from mapreduce_rq.core.job.record import Cancelled, State
from tests.support.commands import Running, mrq
from tests.support.rq_fleet import WORK, RQFleet, doubled, noted, quick
from tests.support.servers import FLAVOURS, FreshServer, find_server
from tests.support.stage import allowed, until
from tests.support.terms import total

TERMS = 60
"""Of a function that takes a while."""


@pytest.fixture
def fleet(fresh_server: FreshServer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RQFleet]:
    flavours = [flavour for flavour in FLAVOURS if find_server(flavour)] or list(FLAVOURS)
    flavour = flavours[crc32(request.node.nodeid.encode()) % len(flavours)]
    server = fresh_server(flavour, aof=True, tcp=True, appendfsync="always")
    with RQFleet(server, tmp_path) as made:
        made.stage.write("seconds", "0.1")
        yield made


# -- a job ---------------------------------------------------------------------------------------------------------


def test_one_rq_worker_is_enough(fleet: RQFleet) -> None:
    fleet.worker()
    job = fleet.map_reduce("fingerprint", range(20_000), meta={"mine": 1})
    assert fleet.result(job) == total(20_000)
    meta = job.get_meta()
    assert meta["mine"] == 1
    assert (meta["state"], meta["progress"], meta["counted"], meta["total"]) == ("done", 1.0, 20_000, 20_000)
    assert meta["bound_kind"] == "exact"
    assert len(meta["digest"]) == 32
    assert fleet.connection.hget(job.key, "mrq") is None
    assert not fleet.loops()


def test_rq_workers_may_have_imported_the_package_before(fleet: RQFleet) -> None:
    (fleet.folder / "preload.py").write_text("import mapreduce_rq.rq\n")
    for _ in range(2):
        fleet.worker("-c", "preload")
    jobs = [fleet.map_reduce("fingerprint", range(20_000)) for _ in range(3)]
    assert [fleet.result(job) for job in jobs] == [total(20_000)] * 3


def test_idle_rq_workers_help_and_leave(fleet: RQFleet) -> None:
    workers = [fleet.worker() for _ in range(3)]
    job = fleet.map_reduce("slow", range(TERMS))
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == len(workers), 30, f"all take part: {fleet.logs()}")
    until(lambda: 0 < (job.get_meta().get("progress") or 0) < 1, 10, "progress is told")
    assert fleet.result(job) == total(TERMS)
    assert max(fleet.stage.count().values()) == 1
    until(lambda: not fleet.loops(), 20, "the loops leave")


def test_a_number_of_helpers_may_be_asked_for(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    alone = fleet.map_reduce("slow", range(10), helpers=0)
    assert fleet.result(alone) == total(10)
    assert len({pid for pid, _ in fleet.stage.runs()}) == 1


def test_rqs_burst_ends(fleet: RQFleet) -> None:
    job = fleet.map_reduce("slow", range(20))
    workers = [fleet.worker("--burst") for _ in range(2)]
    assert fleet.result(job) == total(20)
    for worker in workers:
        assert worker.wait() == 0


@pytest.mark.parametrize("kind", ["rq.SimpleWorker", "rq.worker.SpawnWorker"])
def test_other_classes_of_rq_workers(fleet: RQFleet, kind: str) -> None:
    worker = fleet.worker("-w", kind)
    for terms in (3000, 2000):
        assert fleet.result(fleet.map_reduce("fingerprint", range(terms))) == total(terms)
    loop = fleet.queue.enqueue(WORK, max_idle=0.5, job_timeout=-1)
    assert fleet.result(loop) == "no task came"
    worker.signal(signal.SIGTERM)  # its own handler is still there
    assert worker.wait() == 0
    assert b"warm shut down requested" in worker.log.read_bytes()


def test_the_json_serializer(fleet: RQFleet) -> None:
    fleet.worker("-S", "json")
    queue = rq.Queue("default", connection=fleet.connection, serializer="json")
    job = fleet.map_reduce("fingerprint", 2000, queue, limits={"on_error": "skip"}, meta={"mine": 1})
    assert fleet.result(job) == total(2000)
    assert (job.get_meta()["mine"], job.get_meta()["progress"]) == (1, 1.0)
    listed = fleet.map_reduce("fingerprint", [3, 4, 5], queue)
    assert fleet.result(listed) == total(6) - total(3)
    by_name = fleet.map_reduce("slow_bytes", 2, queue, reduce="list")  # of bytes, which JSON has not
    assert fleet.result(by_name).startswith("b'\\x00")


def test_items_other_than_a_range(fleet: RQFleet) -> None:
    fleet.worker()
    assert fleet.result(fleet.map_reduce("fingerprint", [5, 6, 7, 8])) == total(9) - total(5)


def test_a_setup_and_a_term_that_is_tried_again(fleet: RQFleet) -> None:
    fleet.worker()
    limits = {"retries": 1, "backoff": 0.0}
    job = fleet.map_reduce("once_refused", 10, setup="tests.support.terms:a_number", limits=limits)
    assert fleet.result(job) == 7 * 45
    assert job.get_meta()["retried"] == [3]


def test_what_calls_share_is_sent_once_and_kept_for_the_next_job(fleet: RQFleet) -> None:
    fleet.worker()
    fleet.worker()
    for number in (7, 7, 8):
        assert fleet.result(fleet.map_reduce("with_table", 50, shared=[number] * 100_000)) == number * sum(range(50))
    with fleet.server.client() as raw:
        assert len(list(raw.scan_iter(match="mrq1:{default}:o:*"))) == 2  # by content
    assert fleet.result(fleet.map_reduce("with_table", 5, shared=[2])) == 20


def test_a_term_that_raises_fails_the_rq_job_by_name(fleet: RQFleet) -> None:
    fleet.worker()
    fleet.stage.write("poison", "7:raise")
    job = fleet.map_reduce("poisoned", range(20), on_failure=rq.Callback(noted))
    assert fleet.end(job) is JobStatus.FAILED
    found = job.latest_result()
    assert found is not None
    assert "tests.support.terms:poisoned failed at term 7" in (found.exc_string or "")
    assert "a poisoned term" in (found.exc_string or "")
    assert "JobFailed" in fleet.connection.get(f"noted:{job.id}").decode()
    assert job.get_meta()["state"] == "failed"


def test_what_cannot_be_is_said_by_the_rq_job(fleet: RQFleet) -> None:
    fleet.worker()
    for how in ({"limits": {"chunks": 3}}, {"reduce": "summ"}, {"helpers": -1}):
        job = fleet.map_reduce("fingerprint", 10, **how)
        assert fleet.end(job) is JobStatus.FAILED
        found = job.latest_result()
        assert found is not None
        assert "BadParameter" in (found.exc_string or "")


def test_rqs_own_ways_of_going_on(fleet: RQFleet) -> None:
    fleet.worker("--with-scheduler")
    job = fleet.map_reduce("fingerprint", range(500), on_success=rq.Callback(noted))
    after = fleet.queue.enqueue(doubled, job.id, depends_on=job)
    assert fleet.result(after) == 2 * total(500)
    assert fleet.connection.get(f"noted:{job.id}").decode() == repr(total(500))
    repeated = fleet.map_reduce("noted", range(10), repeat=rq.Repeat(times=2, interval=1))
    until(lambda: fleet.stage.begun_terms() == 30, 30, f"three runs: {fleet.logs()}")
    assert set(fleet.stage.count().values()) == {3}
    until(lambda: len(repeated.results()) == 3, 10, "three results")
    assert {found.return_value for found in repeated.results()} == {total(10)}


def test_webhooks(fleet: RQFleet) -> None:
    fleet.worker()
    fleet.stage.write("poison", "7:raise")
    heard: Queue[tuple[str, Any]] = Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            heard.put((self.path, body))

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        hooks = [rq.Webhook(f"{at}/{status}", status, method="POST") for status in ("finished", "failed")]
        well = fleet.map_reduce("fingerprint", range(50), webhooks=hooks)
        path, body = heard.get(timeout=60)
        assert (path, body["job_id"], body["status"]) == ("/finished", well.id, "finished")
        ill = fleet.map_reduce("poisoned", range(20), webhooks=hooks)
        path, body = heard.get(timeout=60)
        assert (path, body["job_id"], body["status"]) == ("/failed", ill.id, "failed")
        assert "ValueError" in body["exc_info"]
        server.shutdown()
    assert heard.empty()


def test_cron(fleet: RQFleet) -> None:
    fleet.worker()
    (fleet.folder / "crontab_of_ours.py").write_text(
        "from rq import cron\n"
        "from mapreduce_rq.rq import map_reduce\n"
        "cron.register(map_reduce, 'default', args=('tests.support.terms:noted', 10),\n"
        "    kwargs={'reduce': 'int_sum'}, interval=1, job_timeout=-1)\n"
    )
    scheduler = subprocess.Popen(
        [str(Path(sys.executable).with_name("rq")), "cron", "-u", fleet.url, "crontab_of_ours.py"],
        cwd=fleet.folder,
        env=fleet.env | {"PYTHONPATH": f"{fleet.folder}{os.pathsep}{fleet.env['PYTHONPATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: fleet.stage.begun_terms() >= 20, 30, f"two runs: {fleet.logs()}")
    finally:
        scheduler.terminate()
        scheduler.wait()
    ids = fleet.queue.finished_job_registry.get_job_ids()
    found = [rq.job.Job.fetch(each, fleet.connection).return_value() for each in ids]
    assert found
    assert set(found) == {total(10)}


def test_nothing_secret_is_written_into_an_rq_job(fleet: RQFleet) -> None:
    key = "7a" * 32
    for _ in range(2):
        fleet.worker(env={"MRQ_KEY": key})
    job = fleet.map_reduce("slow", range(30))
    ours = fleet.ours(job)
    until(fleet.loops, 20, "a loop is asked for")
    seen = []
    for name in fleet.connection.keys("rq:job:*"):
        found = rq.job.Job.fetch(name.decode().rpartition(":")[2], fleet.connection)
        seen += [repr((found.args, found.kwargs, found.description, found.meta)), repr(fleet.connection.hgetall(name))]
    assert len(seen) >= 4
    for secret in (fleet.server.password, key, str(fleet.server.port)):
        assert not any(secret in text for text in seen)
    state = fleet.state(ours, key=key)  # it is signed
    assert state is not None
    assert fleet.result(job) == total(30)


def test_outside_of_rq_it_is_said_how_it_is_meant() -> None:
    from mapreduce_rq.errors import UsageError
    from mapreduce_rq.rq import map_reduce, work

    for what in (lambda: map_reduce("a:b", 3), work):
        with pytest.raises(UsageError, match=r"runs as an RQ job: queue\.enqueue"):
            what()


# -- what dies, and what ends --------------------------------------------------------------------------------------


def test_job_timeout_lets_go_and_a_retry_goes_on(fleet: RQFleet) -> None:
    fleet.worker()
    seconds = ceil(allowed(3))
    terms = 20 * seconds  # which take longer
    job = fleet.map_reduce("slow", range(terms), job_timeout=seconds, retry=rq.Retry(max=9))
    ours = fleet.ours(job)
    assert fleet.result(job, 90) == total(terms)
    state = fleet.state(ours)
    assert state is not None
    assert state.state is State.DONE  # the first one: it was never cancelled, and no other begun
    again = [term for term, times in fleet.stage.count().items() if times > 1]
    assert len(again) <= 2 * 9, "only what was in hand when time was over"
    assert len(job.results()) == 1


def test_job_timeout_without_a_retry_keeps_what_is_counted(fleet: RQFleet) -> None:
    fleet.worker()
    seconds = ceil(allowed(2))
    terms = 20 * seconds  # which take longer
    job = fleet.map_reduce("slow", range(terms), job_timeout=seconds)
    ours = fleet.ours(job)
    assert fleet.end(job) is JobStatus.FAILED
    found = job.latest_result()
    assert found is not None
    assert "JobTimeoutException" in (found.exc_string or "")
    state = fleet.state(ours)
    assert state is not None
    assert state.running
    assert state.master == ""
    assert state.checkpoint is not None
    assert state.checkpoint.runs
    job.timeout = -1
    job.requeue()
    assert fleet.result(job) == total(terms)
    assert len([term for term, times in fleet.stage.count().items() if times > 1]) <= 2


def test_another_leads_when_the_leading_horse_is_killed(fleet: RQFleet) -> None:
    workers = [fleet.worker(), fleet.worker()]
    job = fleet.map_reduce("slow", range(300))
    ours = fleet.ours(job)
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == 2, 30, f"both take part: {fleet.logs()}")
    until(lambda: fleet.counted(ours) > 5, 10, "progress")
    state = fleet.state(ours)
    assert state is not None
    leads = fleet.connection.hget(job.key, "worker_name").decode()
    (leader,) = (worker for worker in workers if worker.name == leads)
    killed = time.monotonic()
    os.kill(leader.horse(), signal.SIGKILL)
    before = fleet.counted(ours)

    def goes_on() -> bool:
        found = fleet.state(ours)
        return found is not None and found.master not in {"", state.master} and fleet.counted(ours) > before + 5

    until(goes_on, 13, f"another leads: {fleet.logs()}")
    assert time.monotonic() - killed < allowed(13)
    assert fleet.end(job) is JobStatus.FAILED  # RQ has seen its horse die
    job.requeue()
    assert fleet.result(job) == total(300)


def kept(fleet: RQFleet, job: str) -> set[int]:
    """The terms in a job's checkpoint."""
    state = fleet.state(job)
    runs = state.checkpoint.runs if state is not None and state.checkpoint is not None else ()
    return {term for lo, hi in runs for term in range(lo, hi)}


def test_a_retry_goes_on_from_what_a_failed_run_has_counted(fleet: RQFleet) -> None:
    fleet.worker()
    fleet.stage.write("poison", "150:raise")
    job = fleet.map_reduce("tardy", range(200), limits={"chunk": 1})
    first = fleet.ours(job)
    assert fleet.end(job) is JobStatus.FAILED
    state = fleet.state(first)
    assert state is not None
    assert state.checkpoint is not None
    counted = {term for lo, hi in state.checkpoint.runs for term in range(lo, hi)}
    assert len(counted) > 50
    fleet.stage.write("poison", "")
    job.requeue()
    assert fleet.result(job) == total(200)
    assert job.get_meta()["job"] != first
    assert {fleet.stage.count()[term] for term in counted} == {1}


def test_an_error_of_the_master_ends_the_job_and_a_retry_goes_on_from_what_is_counted(fleet: RQFleet) -> None:
    """It stayed as running, with a master that was gone."""
    fleet.worker()
    job = fleet.map_reduce("slow", range(40), limits={"chunk": 1})
    first = fleet.ours(job)
    until(lambda: len(kept(fleet, first)) > 5, 30, "progress in a checkpoint, which comes after the report")
    fleet.connection.execute_command("ACL", "SETUSER", "default", "-xread")
    assert fleet.end(job) is JobStatus.FAILED
    fleet.connection.execute_command("ACL", "SETUSER", "default", "+xread")
    state = fleet.state(first)
    assert state is not None
    assert state.state is State.CANCELLED_NOW
    assert isinstance(state.record, Cancelled)
    assert state.record.message == "its client ended: NoPermission"
    assert state.checkpoint is not None
    counted = {term for lo, hi in state.checkpoint.runs for term in range(lo, hi)}
    assert len(counted) > 5
    job.requeue()
    assert fleet.result(job) == total(40)
    assert {fleet.stage.count()[term] for term in counted} == {1}


def test_a_host_that_is_lost_with_its_rq_worker(fleet: RQFleet) -> None:
    worker = fleet.worker()
    job = fleet.map_reduce("slow", range(60), retry=rq.Retry(max=1))
    ours = fleet.ours(job)
    until(lambda: fleet.counted(ours) > 5, 20, "progress")
    worker.stop()
    registry = fleet.queue.started_job_registry
    (entry,) = fleet.connection.zrange(registry.key, 0, -1)
    fleet.connection.zadd(registry.key, {entry: 1})  # what a minute does: nobody has vouched for it
    fleet.connection.delete(fleet.queue.registry_cleaning_key)
    fleet.worker()
    assert fleet.result(job) == total(60)
    assert job.get_meta()["job"] == ours
    assert len([term for term, times in fleet.stage.count().items() if times > 1]) <= 2


def test_a_killed_horse_with_a_retry(fleet: RQFleet) -> None:
    worker = fleet.worker()
    job = fleet.map_reduce("slow", range(80), retry=rq.Retry(max=1), meta={"mine": 1})
    ours = fleet.ours(job)
    until(lambda: fleet.counted(ours) > 10, 20, "progress")
    os.kill(worker.horse(), signal.SIGKILL)
    assert fleet.result(job) == total(80)
    assert job.get_meta()["mine"] == 1
    assert job.get_meta()["job"] == ours
    assert max(fleet.stage.count().values()) <= 2


def test_the_horse_of_a_killed_rq_worker_goes_on(fleet: RQFleet) -> None:
    worker = fleet.worker()
    job = fleet.map_reduce("slow", range(40))
    until(lambda: fleet.stage.begun_terms() > 5, 20, "it works")
    worker.kill9()
    assert fleet.result(job) == total(40)


def test_stop_job_cancels_by_callback(fleet: RQFleet) -> None:
    fleet.worker()
    job = fleet.map_reduce("slow", range(500), on_stopped=rq.Callback("mapreduce_rq.rq.on_stopped"))
    ours = fleet.ours(job)
    until(lambda: fleet.stage.begun_terms() > 3, 20, "it works")
    send_stop_job_command(fleet.connection, job.id)
    fleet.status_is(job, JobStatus.STOPPED)

    def cancelled() -> bool:
        state = fleet.state(ours)
        return state is not None and state.state is State.CANCELLED_NOW

    until(cancelled, 10, f"cancelled: {fleet.logs()}")
    until(lambda: job.get_meta()["state"] == "cancelled", 10, "so says meta, which rq-dashboard shows")
    assert job.get_meta()["job"] == ours


def test_a_stopped_job_is_not_led_on_by_loops(fleet: RQFleet) -> None:
    workers = [fleet.worker(), fleet.worker()]
    job = fleet.map_reduce("slow", range(2000))
    ours = fleet.ours(job)
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == len(workers), 30, f"both work: {fleet.logs()}")
    send_stop_job_command(fleet.connection, job.id)

    def cancelled() -> bool:
        state = fleet.state(ours)
        return state is not None and state.state is State.CANCELLED

    until(cancelled, 20, f"cancelled: {fleet.logs()}")


def test_a_cancelled_rq_job_is_cancelled_here(fleet: RQFleet) -> None:
    fleet.worker()
    job = fleet.map_reduce("slow", range(500))
    ours = fleet.ours(job)
    until(lambda: fleet.stage.begun_terms() > 3, 20, "it works")
    job.cancel()

    def cancelled() -> bool:
        state = fleet.state(ours)
        return state is not None and state.state is State.CANCELLED

    until(cancelled, 10, f"cancelled: {fleet.logs()}")
    until(lambda: job.get_meta()["state"] == "cancelled", 10, "so says meta")


def test_a_loop_stopped_in_mid_job_loses_nothing(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    job = fleet.map_reduce("slow", range(100))
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == 2, 30, f"both work: {fleet.logs()}")
    (loop,) = fleet.loops()
    send_stop_job_command(fleet.connection, loop)
    assert fleet.result(job) == total(100)
    assert max(fleet.stage.count().values()) <= 2


def test_a_leading_rq_worker_that_is_told_to_end_hands_its_job_on(fleet: RQFleet) -> None:
    one = fleet.worker()
    job = fleet.map_reduce("slow", range(100))
    ours = fleet.ours(job)
    until(lambda: fleet.stage.begun_terms() > 10, 20, "it works")
    one.signal(signal.SIGTERM)
    assert one.wait(15) == 0
    assert job.get_status() is JobStatus.QUEUED
    fleet.worker()
    assert fleet.result(job) == total(100)
    assert job.get_meta()["job"] == ours
    assert max(fleet.stage.count().values()) == 1


def test_a_loop_drains_when_its_rq_worker_ends(fleet: RQFleet) -> None:
    one = fleet.worker()
    loop = fleet.queue.enqueue(WORK, job_timeout=-1)
    fleet.status_is(loop, JobStatus.STARTED)
    with Client(fleet.url, local=0) as client:
        submitted = client.submit_function("tests.support.terms:slow", range(20), reduce="int_sum")
        until(lambda: fleet.stage.begun_terms() > 3, 20, f"it works: {fleet.logs()}")
        one.signal(signal.SIGTERM)
        assert one.wait(15) == 0
        assert fleet.result(loop) == "its rq worker ends"
        fleet.worker()
        fleet.queue.enqueue(WORK, job_timeout=-1)
        assert submitted.result(30).native == total(20)
    assert max(fleet.stage.count().values()) == 1


def test_suspended_rq_workers_run_no_loops_and_the_job_goes_on(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    job = fleet.map_reduce("slow", range(120))
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == 2, 30, f"both work: {fleet.logs()}")
    (loop,) = fleet.loops()
    rq.suspension.suspend(fleet.connection)
    until(lambda: loop not in fleet.loops(), 10, f"the loop leaves: {fleet.logs()}")
    rq.suspension.resume(fleet.connection)
    assert fleet.result(job) == total(120)
    assert max(fleet.stage.count().values()) == 1


def test_a_loop_makes_room_for_another_rq_job(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    loops = [fleet.queue.enqueue(WORK, job_timeout=-1, job_id=f"mrq-loop-x-{name}") for name in "ab"]
    for loop in loops:
        fleet.status_is(loop, JobStatus.STARTED)
    other = fleet.queue.enqueue(quick)
    assert fleet.result(other, 15) == "done"
    until(lambda: len([loop for loop in loops if loop.get_status() is JobStatus.FINISHED]) == 1, 5, "one has left")
    (left,) = (loop for loop in loops if loop.get_status() is JobStatus.FINISHED)
    assert left.return_value() == f"RQ job {other.id} waits for an rq worker"


def test_redis_restarted(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    job = fleet.map_reduce("slow", range(100), retry=rq.Retry(max=3))
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == 2, 30, f"both work: {fleet.logs()}")
    fleet.connection.connection_pool.disconnect()
    fleet.server.restart()
    assert fleet.result(job) == total(100)


# -- from Python ---------------------------------------------------------------------------------------------------


def test_a_client_on_an_rq_queue(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    with Client.on_rq(fleet.queue, helpers=2) as client:
        assert client.map_reduce("tests.support.terms:slow", range(40), reduce="int_sum") == total(40)
        until(lambda: len(fleet.loops()) == 2, 10, "there are two loops")
    until(lambda: not fleet.loops(), 15, f"they are told to leave: {fleet.logs()}")
    assert len({pid for pid, _ in fleet.stage.runs()}) == 2


def test_lost_loops_are_replaced(fleet: RQFleet) -> None:
    worker = fleet.worker()
    with Client.on_rq(fleet.queue, helpers=1) as client:
        job = client.submit_function("tests.support.terms:slow", range(60), reduce="int_sum")
        until(lambda: fleet.stage.begun_terms() > 3, 20, f"it works: {fleet.logs()}")
        (loop,) = fleet.loops()
        os.kill(worker.horse(), signal.SIGKILL)
        assert job.result(60).native == total(60)
        assert loop not in fleet.loops()


def test_a_loop_that_was_seen_to_run_and_is_gone_is_replaced_at_once(fleet: RQFleet) -> None:
    worker = fleet.worker()
    loops = Loops(fleet.queue, "default", lambda _: 1)

    for looks in (2, 0):
        loops.top_up()
        until(fleet.running, 20, f"a loop runs: {fleet.logs()}")
        for _ in range(looks):
            assert loops.top_up() == 1
        os.kill(worker.horse(), signal.SIGKILL)
        until(lambda: not fleet.loops(), 20, f"it is gone: {fleet.logs()}")
    loops.top_up()
    assert not fleet.loops(), "one that has only just begun may be unable to: the next one waits"


# -- from the command line -----------------------------------------------------------------------------------------


def test_mrq_worker_keeps_loops_on_rq(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    with Running("worker", "-u", fleet.url, "--on-rq", "2", env=fleet.env) as keeper:
        until(lambda: len(fleet.loops()) == 2, 20, "there are two loops")
        # A loop counts while RQ has it in its queue: without waiting, the first may compute all terms before the second
        # begins. And the report may name one worker alone: what the other holds may have been computed twice by then.
        ran = mrq(
            *("run", "tests.support.terms:by_two", "--terms", "30", "--chunk", "1", "--reduce", "int_sum"),
            *("-u", fleet.url, "--json"),
        )
        assert int(ran.json["value"]) == total(30)
        assert len({pid for pid, _ in fleet.stage.runs()}) == 2
        keeper.signal(signal.SIGTERM)
        assert keeper.wait() == 0
    until(lambda: not fleet.loops(), 15, f"they are told to leave: {fleet.logs()}")


def test_mrq_run_on_rq(fleet: RQFleet) -> None:
    fleet.worker()
    ran = mrq(
        *("run", "tests.support.terms:slow", "--terms", "20", "--reduce", "int_sum"),
        *("-u", fleet.url, "--on-rq", "1", "--json"),
    )
    assert int(ran.json["value"]) == total(20)
    until(lambda: not fleet.loops(), 15, f"it is told to leave: {fleet.logs()}")


def test_mistakes_with_on_rq(fleet: RQFleet) -> None:
    for arguments, text in [
        (("run", "a:b", "--terms", "3", "--on-rq", "2"), "--on-rq needs the Redis of the rq workers"),
        (("worker", "-u", fleet.url, "--on-rq", "0"), "--on-rq"),
        (("worker", "-u", fleet.url, "--on-rq", "2", "-c", "4"), "leave out --concurrency"),
    ]:
        ran = mrq(*arguments)
        assert ran.code == 2
        assert text in ran.err
    with Running("worker", "-u", fleet.url, "--on-rq", "1", "--rq-queue", "high", env=fleet.env) as keeper:
        keeper.hear("mrq: no rq worker listens on RQ queue high there: start `rq worker high`; waiting")
        keeper.signal(signal.SIGTERM)
        assert keeper.wait() == 0
    assert fleet.connection.llen("rq:queue:high") == 0
