"""Terms that kill their worker, hang it or raise: named, blamed fairly, and skipped where that is asked for."""

from __future__ import annotations

import math
import os
import signal

import pytest

from mapreduce_rq.core.messages import Limits, Spec, Task
from mapreduce_rq.runtime.pool.signals import HURRY
from tests.support.fleet import state_of
from tests.support.scene import Scene
from tests.support.stage import until
from tests.support.terms import total_without

TERMS = 64


def test_a_raising_term_ends_the_job_with_its_name_traceback_and_host(scene: Scene) -> None:
    scene.stage.write("poison", "37:raise")
    scene.fleet(2)
    record = scene.leader("poisoned", TERMS, chunk=16).record()
    assert record["state"] == "failed"
    assert (record["term"], record["kind"], record["message"]) == (37, "ValueError", "a poisoned term")
    assert 'raise ValueError("a poisoned term")' in record["traceback"]
    assert scene.stage.count()[37] == 1
    pid = next(pid for pid, term in scene.stage.runs() if term == 37)
    assert record["where"].endswith(f":{pid}")


def test_a_killing_term_in_a_large_task_is_named_by_halving(scene: Scene) -> None:
    scene.stage.write("poison", "37:kill")
    scene.fleet(2)
    record = scene.leader("poisoned", TERMS, chunk=TERMS, attempts=3).record()
    assert record["state"] == "failed"
    assert (record["term"], record["kind"]) == (37, "WorkerDied")
    killer = [pid for pid, term in scene.stage.runs() if term == 37][-1]
    assert record["message"].startswith("killed by SIGKILL (")
    assert record["message"].endswith(f":{killer})")
    # Three workers for the whole task, then one for each of the halves it is in: 32, 16, 8, 4, 2 and 1.
    assert scene.stage.count()[37] == 3 + 6


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
def test_killing_terms_are_skipped_and_their_neighbours_are_not_blamed(scene: Scene, how: str) -> None:
    poison = (5, 6, 40)
    scene.stage.write("poison", " ".join(f"{term}:{how}" for term in poison))
    scene.fleet(2)
    # With one attempt a single wrong blame would cost a neighbour its value.
    leader = scene.leader("poisoned", TERMS, chunk=1, attempts=1, on_error="skip")
    record = leader.record()
    assert {entry["term"] for entry in record["skipped"]} == set(poison)
    assert int(record["value"]) == total_without(TERMS, *poison)
    assert all(entry["kind"] == "WorkerDied" for entry in record["skipped"])
    assert all(scene.stage.count()[term] == 1 for term in poison)


def test_raising_terms_are_skipped_out_of_a_large_task(scene: Scene) -> None:
    poison = (0, 17, 18, 63)
    scene.stage.write("poison", " ".join(f"{term}:raise" for term in poison))
    scene.fleet(2)
    record = scene.leader("poisoned", TERMS, chunk=TERMS, on_error="skip").record()
    assert record["state"] == "done"
    assert int(record["value"]) == total_without(TERMS, *poison)
    skipped = sorted(record["skipped"], key=lambda entry: int(entry["term"]))
    assert [(entry["term"], entry["kind"], entry["message"]) for entry in skipped] == [
        (term, "ValueError", "a poisoned term") for term in poison
    ]


def test_a_hanging_term_is_skipped_after_its_time(scene: Scene) -> None:
    scene.stage.write("poison", "9:hang")
    scene.fleet(2)
    leader = scene.leader("poisoned", TERMS, chunk=1, attempts=1, on_error="skip", task_timeout=0.5)
    record = leader.record()
    assert [entry["term"] for entry in record["skipped"]] == [9]
    assert record["skipped"][0]["message"].startswith("over the task timeout of 0.5 s (")
    assert int(record["value"]) == total_without(TERMS, 9)


def test_a_planned_stop_is_not_an_attempt(scene: Scene) -> None:
    scene.stage.write("gated", "20")
    leader = scene.leader("gated", TERMS, chunk=1, attempts=1)
    for _ in range(2):
        fleet = scene.fleet(1)
        scene.stage.begun(20)
        fleet.signal(signal.SIGTERM)
        fleet.hear("log stopping")
        fleet.signal(signal.SIGTERM)
        assert fleet.wait() == 0
        scene.stage.forget()
    with scene.server.client() as client:
        waiting: list[Task] = [
            scene.codecs.task.open(raw) for raw in client.execute_command("LRANGE", scene.keys.queue, 0, -1)
        ]
    assert 20 in {task.lo for task in waiting}
    assert {task.attempt for task in waiting} == {0}
    scene.stage.open()
    scene.fleet(1)
    scene.check(leader, TERMS)


def test_a_worker_that_hears_both_words_at_once_leaves_as_planned(scene: Scene) -> None:
    """As one does that had no time on a busy machine between two TERMs to its supervisor."""
    leader = scene.leader("busy", TERMS, chunk=1, attempts=1)
    fleet = scene.fleet(1)
    worker = scene.stage.begun(0)
    os.kill(worker, signal.SIGSTOP)
    fleet.hear(f"log worker {worker} is stopped")
    os.kill(worker, HURRY)
    fleet.signal(signal.SIGTERM)  # it goes on, and hears both
    assert fleet.wait() == 0
    assert not [line for _, line in fleet.said if "please report" in line]
    scene.stage.open()
    scene.fleet(1)
    scene.check(leader, TERMS, victims=(worker,))


def test_who_tells_the_workers_too_does_not_hurry_them(scene: Scene) -> None:
    """Slurm, or a kill of the whole process group, sends TERM to each process."""
    scene.stage.write("gated", "20")
    leader = scene.leader("gated", TERMS, chunk=1)
    fleet = scene.fleet(1)
    worker = scene.stage.begun(20)
    os.kill(worker, signal.SIGTERM)
    fleet.signal(signal.SIGTERM)
    fleet.hear("log stopping")
    scene.stage.open()
    assert fleet.wait() == 0
    scene.fleet(1)
    scene.check(leader, TERMS)


def test_one_attempt_is_counted_for_each_death(scene: Scene) -> None:
    scene.stage.write("poison", "9:kill")
    scene.fleet(2)
    record = scene.leader("poisoned", TERMS, chunk=1, attempts=5).record()
    assert (record["state"], record["term"]) == ("failed", 9)
    assert scene.stage.count()[9] == 5


def test_workers_go_on_with_other_jobs(scene: Scene) -> None:
    scene.stage.write("poison", "9:kill")
    fleet = scene.fleet(2)
    assert scene.leader("poisoned", TERMS, chunk=1).record()["state"] == "failed"
    until(lambda: not any(name[0] in "fq" for name in scene.names()), 10, "nothing of it in any hand")
    scene.stage.forget()
    scene.stage.write("poison", "")
    scene.check(scene.leader("poisoned", TERMS, chunk=1), TERMS)
    until(lambda: len(fleet.workers()) == 2, 10, "both workers replaced")


def test_what_kills_workers_outside_of_any_task_is_blamed_and_ended(scene: Scene) -> None:
    scene.stage.write("poison", "0:sending-kill")
    scene.fleet(1)
    record = scene.leader("poisoned", 1, attempts=3).record()
    assert (record["state"], record["term"], record["kind"]) == ("failed", 0, "WorkerDied")
    assert record["message"].startswith("killed by SIGKILL (")
    assert scene.stage.count()[0] == 3


def test_an_error_outside_of_any_task_fails_what_was_in_hand_and_ends_no_worker(scene: Scene) -> None:
    scene.stage.write("poison", "0:sending-raise")
    (worker,) = scene.fleet(1).workers()
    record = scene.leader("poisoned", 1).record()
    assert (record["state"], record["term"], record["kind"]) == ("failed", 0, "ValueError")
    assert {pid for pid, _ in scene.stage.runs()} == {worker}
    assert state_of(worker) != "X"


def test_limits_that_no_worker_can_take_end_none(scene: Scene) -> None:
    """As a client of another make would send them: this one refuses to."""
    (worker,) = scene.fleet(1).workers()
    jobs = scene.jobs()
    for n, bad in enumerate((math.inf, 1e17, 1e300, math.nan, -1.0)):
        limits = Limits(task_timeout=bad)
        spec = Spec(job=f"bad-{n}", computation="sum", params={}, total=1, limits=limits, created=1.0, version="0")
        sealed = scene.codecs.spec.at(spec.job).seal(spec)
        row: list[tuple[str, bytes | str | int]] = [("state", "running"), ("spec", sealed)]
        tasks = scene.codecs.task.seal_all([Task(spec.job, 0, 1, spec=sealed), Task(spec.job, 1, 2)])
        jobs.commit(spec.job, "", "1:a:1", what="create", number=1, fields=row, tasks=tasks)
    scene.stage.write("poison", "")
    assert scene.leader("poisoned", TERMS).record()["state"] == "done"
    assert {pid for pid, _ in scene.stage.runs()} == {worker}


def test_a_task_without_a_term_is_dropped_and_nothing_else_fails(scene: Scene) -> None:
    fleet = scene.fleet(1)
    (worker,) = fleet.workers()
    jobs = scene.jobs()
    spec = Spec(job="empty", computation="sum", params={}, total=9, limits=Limits(), created=1.0, version="0")
    sealed = scene.codecs.spec.at(spec.job).seal(spec)
    row: list[tuple[str, bytes | str | int]] = [("state", "running"), ("spec", sealed)]
    spans = [(5, 0), (5, 5), (2**62, 0)]
    tasks = scene.codecs.task.seal_all([Task(spec.job, lo, hi, spec=sealed) for lo, hi in spans])
    jobs.commit(spec.job, "", "1:a:1", what="create", number=1, fields=row, tasks=tasks)
    fleet.hear("log dropped: it has no term")
    scene.stage.write("poison", "")
    assert scene.leader("poisoned", TERMS).record()["state"] == "done"
    assert {pid for pid, _ in scene.stage.runs()} == {worker}
    assert not [line for _, line in fleet.said if "please report" in line]


def test_another_programs_key_in_the_place_of_a_jobs_ends_no_worker(scene: Scene) -> None:
    scene.stage.write("poison", "")
    scene.stage.write("gated", "0")
    (worker,) = scene.fleet(1).workers()
    leader = scene.leader("gated", 1)
    scene.stage.begun(0)
    with scene.server.client() as client:
        client.delete(scene.keys.replies(leader.job))
        client.set(scene.keys.replies(leader.job), "not a stream")
    leader.kill9()
    scene.stage.open()
    with scene.server.client() as client:
        client.set(scene.keys.job("foreign"), "not a hash")
        client.lpush(scene.keys.queue, *scene.codecs.task.seal_all([Task("foreign", 0, 1)]))
    assert scene.leader("poisoned", TERMS).record()["state"] == "done"
    assert {pid for pid, _ in scene.stage.runs()} == {worker}
