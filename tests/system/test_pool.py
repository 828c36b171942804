"""The supervisor's signals, and what its workers leave behind when they go."""

from __future__ import annotations

import signal
import time

import pytest

from mapreduce_rq.core.messages import Task
from tests.support.fleet import KEY, Fleet, Follower, Leader
from tests.support.scene import Scene
from tests.support.servers import wait_gone
from tests.support.stage import allowed, until

TERMS = 60


def waiting(scene: Scene) -> list[Task]:
    """The tasks in the queue, the next one first."""
    with scene.server.client() as client:
        found = client.execute_command("LRANGE", scene.keys.queue, 0, -1)
    return [scene.codecs.task.open(raw) for raw in reversed(found)]


def held_at_a_gate(scene: Scene) -> tuple[Fleet, Leader]:
    """One worker in the midst of term 30, with more tasks in hand, and no other."""
    scene.stage.write("gated", "30")
    fleet = scene.fleet(1)
    leader = scene.leader("gated", TERMS, chunk=1)
    scene.stage.begun(30)
    return fleet, leader


def wait_workers(fleet: Fleet, size: int) -> None:
    """Wait until it has so many."""
    until(lambda: len(fleet.workers()) == size, 5, f"{size} workers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_the_task_in_hand_and_gives_back_the_rest(scene: Scene, number: int) -> None:
    fleet, leader = held_at_a_gate(scene)
    fleet.signal(number)
    fleet.hear("log stopping: workers finish the task in hand")
    worker = scene.stage.begun(30)
    assert not wait_gone(worker, 0.3)  # it waits for its task
    scene.stage.open()
    assert fleet.wait() == 0
    done = set(scene.stage.count())
    assert max(done) == 30
    tasks = waiting(scene)
    assert {task.attempt for task in tasks} == {0}
    assert sorted(task.lo for task in tasks) == list(range(31, TERMS))
    assert tasks[0].lo == 31  # what was in hand is taken next
    assert scene.beats() == {}
    assert [name for name in scene.names() if name.startswith("f:")] == []
    scene.fleet(1)
    scene.check(leader, TERMS)


def test_told_twice_it_gives_back_everything_at_once(scene: Scene) -> None:
    fleet, leader = held_at_a_gate(scene)
    fleet.signal(signal.SIGTERM)
    fleet.hear("log stopping")
    told = time.monotonic()
    fleet.signal(signal.SIGTERM)
    assert fleet.wait() == 0
    assert time.monotonic() - told < allowed(2)
    tasks = waiting(scene)
    assert 30 in {task.lo for task in tasks}
    assert {task.attempt for task in tasks} == {0}
    assert scene.beats() == {}
    scene.stage.open()
    scene.fleet(1)
    record = leader.record()
    assert scene.stage.count()[30] == 2
    assert record["state"] == "done"


def test_told_to_quit_it_kills_and_nobody_is_blamed(scene: Scene) -> None:
    fleet, leader = held_at_a_gate(scene)
    fleet.signal(signal.SIGQUIT)
    assert fleet.wait() == 0
    assert {task.attempt for task in waiting(scene)} == {0}
    assert {beat[:2] for beat in scene.beats().values()} == {b"X:"}
    scene.stage.open()
    scene.fleet(1)
    assert leader.record()["state"] == "done"


def test_one_more_and_one_fewer(scene: Scene) -> None:
    fleet = scene.fleet(1)
    for number, size in [(signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2), (signal.SIGTTOU, 1)]:
        fleet.signal(number)
        wait_workers(fleet, size)
    fleet.signal(signal.SIGTTOU)  # never none
    scene.check(scene.leader("noted", TERMS), TERMS)
    assert len(fleet.workers()) == 1


def test_telling_workers_to_go_that_have_just_come_stops_nobody_else(scene: Scene) -> None:
    fleet = scene.fleet(1)
    for _ in range(20):
        fleet.signal(signal.SIGTTIN)
        wait_workers(fleet, 2)
        fleet.signal(signal.SIGTTOU)  # the youngest has hardly begun
        wait_workers(fleet, 1)
    assert fleet.poll() is None
    assert not any("stopping" in line for _, line in fleet.said)
    scene.check(scene.leader("noted", TERMS), TERMS)


def test_hup_replaces_all_one_after_another_without_a_loss(scene: Scene) -> None:
    fleet = scene.fleet(3)
    wait_workers(fleet, 3)
    old = set(fleet.workers())
    scene.stage.write("seconds", "0.01")
    leader = scene.leader("slow", 200)
    leader.hear("counted")
    fleet.signal(signal.SIGHUP)
    fewest = 3
    while old & set(fleet.workers()):
        fewest = min(fewest, len(fleet.workers()))
    assert fewest >= 2
    scene.check(leader, 200)
    wait_workers(fleet, 3)


def test_a_burst_ends_with_the_queue(scene: Scene) -> None:
    leader = scene.leader("noted", TERMS)
    leader.hear("notice 0 workers")
    fleet = scene.fleet(2, burst=True)
    scene.check(leader, TERMS)
    assert fleet.wait() == 0
    assert scene.beats() == {}


def test_a_worker_is_replaced_after_its_share_of_tasks(scene: Scene) -> None:
    fleet = scene.fleet(1, max_tasks=10)
    scene.check(scene.leader("noted", TERMS, chunk=1), TERMS)
    by = [pid for pid, _ in scene.stage.runs()]
    assert max(map(by.count, by)) <= 10
    assert len(set(by)) >= TERMS // 10
    assert fleet.poll() is None


def test_workers_that_cannot_begin_end_the_pool_in_one_line(scene: Scene) -> None:
    fleet = scene.fleet(2, url=scene.server.url.replace(scene.server.password, "wrong"))
    assert fleet.wait() == 69
    lines = [line for _, line in fleet.said]
    assert not any("Traceback" in line for line in lines)
    assert any("refuses us" in line for line in lines)


def test_it_starts_before_its_server_does(scene: Scene) -> None:
    scene.server.client().close()
    socket = scene.server.socket
    away = socket.with_name("away")
    socket.rename(away)
    try:
        fleet = scene.fleet(1)
        fleet.hear("log cannot reach unix://")
    finally:
        away.rename(socket)
    fleet.hear("log Redis is back after")
    scene.check(scene.leader("noted", TERMS), TERMS)


def test_workers_without_a_task_for_so_long_leave_together(scene: Scene) -> None:
    scene.stage.write("seconds", "0.05")
    leader = scene.leader("slow", 60)  # longer than that, and one of them always works
    fleet = scene.fleet(2, max_idle=1.0)  # after the job: on a busy machine that may take longer than a second to come
    scene.check(leader, 60)
    ended = time.monotonic()
    assert fleet.wait(10) == 0
    assert time.monotonic() - ended > 0.5
    assert scene.beats() == {}


def test_asked_what_it_does_it_logs_tasks_and_stacks(scene: Scene) -> None:
    fleet, leader = held_at_a_gate(scene)
    worker = scene.stage.begun(30)
    fleet.signal(signal.SIGUSR2)
    fleet.hear("log USR2: does nothing")
    fleet.signal(signal.SIGUSR1)
    assert "[30, 31) for " in fleet.hear(f"log worker {worker}: in {leader.job}")
    until(lambda: any("terms.py" in line and " in gated" in line for _, line in fleet.said), 5, "its stack")
    scene.stage.open()
    scene.check(leader, TERMS)


def test_a_worker_that_has_grown_ends_after_its_task_and_is_replaced(scene: Scene) -> None:
    fleet = scene.fleet(1, max_memory=10_000_000)  # less than any process of Python has
    scene.check(scene.leader("noted", TERMS, chunk=10), TERMS)
    until(lambda: any("over --max-memory 10 MB" in line for _, line in fleet.said), 10, "told")
    until(lambda: any(b"over --max-memory" in beat for beat in scene.beats().values()), 10, "an obituary")
    assert len(fleet.workers()) <= 1


NEW_KEY = "7c" * 32


def test_a_key_is_changed_while_a_job_runs(scene: Scene) -> None:
    old, leader = held_at_a_gate(scene)  # both have the old key alone
    job = leader.job
    behind = scene.fleet(1, keys=(KEY, NEW_KEY))  # accepts the new key, signs with the old one
    leader.signal(signal.SIGTERM)  # it lets go of its job, and is started anew with the new key in front
    assert leader.wait() == 0
    in_front = scene.fleet(1, keys=(NEW_KEY, KEY))
    with Follower(scene.url, scene.queue, job, keys=(NEW_KEY, KEY)) as follower:
        for fleet in (old, behind):
            fleet.signal(signal.SIGTERM)
        scene.stage.open()
        scene.check(follower, TERMS)
        assert (old.wait(), behind.wait()) == (0, 0)
    in_front.signal(signal.SIGTERM)
    assert in_front.wait() == 0
    scene.fleet(1, keys=(NEW_KEY,))  # the old key is gone
    with Leader(
        scene.url, scene.queue, "noted", TERMS, environment=scene.stage.environment, keys=(NEW_KEY,)
    ) as another:
        assert another.record()["state"] == "done"
