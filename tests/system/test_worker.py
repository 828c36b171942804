"""Workers that die, hang or stand still: their tasks run elsewhere, and the value is exact."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support.fleet import kill9, state_of
from tests.support.scene import Scene
from tests.support.stage import allowed, until
from tests.support.terms import total_without

TERMS = 40


def test_a_killed_workers_task_runs_elsewhere_within_a_second(scene: Scene) -> None:
    stage = scene.stage
    stage.write("gated", "7")
    scene.fleet(2)
    leader = scene.leader("gated", TERMS, chunk=1)
    victim = stage.begun(7)
    kill9(victim)
    died = time.monotonic()
    stage.begun(7, but=victim)
    assert time.monotonic() - died <= allowed(1)
    stage.open()
    scene.check(leader, TERMS, victims=(victim,))


def test_a_lost_hosts_tasks_run_elsewhere_within_eighteen_seconds(scene: Scene) -> None:
    stage = scene.stage
    stage.write("gated", "7")
    lost = scene.fleet(1)
    leader = scene.leader("gated", TERMS, chunk=1)
    victim = stage.begun(7)
    scene.fleet(1)
    scene.wait_beats(2)
    lost.kill9()  # its worker goes with it
    died = time.monotonic()
    stage.open()
    stage.begun(7, but=victim)
    assert time.monotonic() - died <= allowed(18)
    scene.check(leader, TERMS, victims=(victim,))


def test_a_worker_goes_with_its_supervisor(scene: Scene) -> None:
    fleet = scene.fleet(3)
    until(lambda: len(fleet.workers()) == 3, 5, "three workers")
    fleet.kill9()  # closing it checks that no worker is left


def test_a_stopped_worker_is_not_vouched_for_and_does_no_harm_when_it_returns(scene: Scene) -> None:
    stage = scene.stage
    stage.write("gated", "7")
    fleet = scene.fleet(2)
    leader = scene.leader("gated", TERMS, chunk=1)
    sleeper = stage.begun(7)
    os.kill(sleeper, signal.SIGSTOP)
    fleet.hear(f"log worker {sleeper} is stopped (SIGSTOP): not vouched for")
    stopped, hand = time.monotonic(), scene.hands()[sleeper]
    assert 7 in hand
    stage.open()
    stage.begun(7, 30, but=sleeper)
    assert time.monotonic() - stopped <= allowed(18)
    os.kill(sleeper, signal.SIGCONT)
    scene.check(leader, TERMS, victims=(sleeper,), stopped=hand)
    # It works on: another job gives it something to do.
    stage.forget()
    stage.write("gated", " ".join(map(str, range(4))))
    scene.leader("gated", 4, chunk=1)
    until(lambda: any(pid == sleeper for pid, _ in stage.runs()), 10, "the sleeper at work again")
    stage.open()


def test_a_worker_that_was_stopped_does_not_begin_what_others_took_over(scene: Scene) -> None:
    stage = scene.stage
    fleet = scene.fleet(1)
    (sleeper,) = until(fleet.workers, 5, "a worker")
    leader = scene.leader("noted", 60_000, chunk=1)
    until(lambda: stage.begun_terms() > 1000, 20, "many terms begun")
    with scene.server.client() as client:
        client.client_pause(60_000, all=False)  # no write is done, so the worker soon waits for its next tasks
        seen = [-1, -1, -1]
        while len(set(seen)) > 1 or state_of(sleeper) != "S":
            time.sleep(0.02)
            seen = [*seen[1:], stage.begun_terms()]
        os.kill(sleeper, signal.SIGSTOP)
        client.client_unpause()
    until(
        lambda: len(set(scene.hands()[sleeper]) - {term for _, term in stage.runs()}) > 10, 5, "tasks not begun in hand"
    )
    scene.fleet(1)
    assert int(leader.record()["value"]) == total_without(60_000)  # others took over what it had not answered
    before = len(stage.runs())
    os.kill(sleeper, signal.SIGCONT)
    stage.write("gated", "0 1 2 3")
    scene.leader("gated", 4, chunk=1)
    until(lambda: any(pid == sleeper for pid, _ in stage.runs()[before:]), 10, "the sleeper at work again")
    stage.open()
    assert {term for pid, term in stage.runs()[before:] if pid == sleeper} <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("how", "reason"),
    [("segfault", "killed by SIGSEGV"), ("kill", "killed by SIGKILL"), ("exit", "exit code 3")],
)
def test_a_death_is_told_with_its_reason_and_survived(scene: Scene, how: str, reason: str) -> None:
    scene.stage.write("poison", f"5:once-{how}")
    fleet = scene.fleet(2)
    leader = scene.leader("poisoned", TERMS, chunk=1)
    victim = scene.stage.begun(5)
    scene.check(leader, TERMS, victims=(victim,))
    fleet.hear(f"log worker {victim} died ({reason}): replaced")
    obituary = next(beat for wid, beat in scene.beats().items() if f":{victim}:" in wid)
    assert obituary.startswith(f"X:{reason} (".encode())


def test_a_loop_in_c_is_killed_when_its_time_is_up(scene: Scene) -> None:
    scene.stage.write("poison", "5:once-hang")
    fleet = scene.fleet(1)
    leader = scene.leader("poisoned", TERMS, chunk=1, task_timeout=1.0)
    victim = scene.stage.begun(5)
    hung = time.monotonic()
    scene.stage.begun(5, but=victim)
    assert 1.0 <= time.monotonic() - hung <= allowed(2.5)
    fleet.hear(f"log worker {victim} died (over the task timeout of 1 s): replaced")
    scene.check(leader, TERMS, victims=(victim,))


def test_without_faults_every_term_runs_once(scene: Scene) -> None:
    scene.fleet(3)
    scene.check(scene.leader("noted", 3000), 3000)


def test_without_faults_long_terms_run_once_even_while_workers_come(scene: Scene) -> None:
    scene.stage.write("seconds", "0.9")
    leader = scene.leader("slow", 6, chunk=1)
    leader.hear("job ")
    for _ in range(3):
        scene.fleet(1)
    scene.check(leader, 6)
    assert scene.stage.count() == dict.fromkeys(range(6), 1)


def test_workers_wait_for_a_server_that_is_full(scene: Scene) -> None:
    fleet = scene.fleet(2)
    scene.wait_beats(2)
    with scene.server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            leader = scene.leader("noted", 200)  # a master may create and push: it frees memory again
            until(lambda: any("is out of memory" in line for _, line in fleet.said), 10, "workers meet the limit")
            assert len(fleet.workers()) == 2
        finally:
            client.config_set("maxmemory", 0)
    scene.check(leader, 200)
    assert fleet.poll() is None
