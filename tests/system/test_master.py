"""Masters that die, let go, stand still and return: the job goes on, with the same bits."""

from __future__ import annotations

import signal
import time

from mapreduce_rq.core.job.ends import digest_of
from mapreduce_rq.core.reducers.sums import IntSum
from tests.support.scene import Scene
from tests.support.stage import allowed, until
from tests.support.terms import total

TERMS = 120


def digest(terms: int) -> str:
    """The digest of the exact total, computed here."""
    return digest_of(IntSum().encode(total(terms)))


def close_the_gate(scene: Scene) -> None:
    """Have each worker come to a gated term: neither the job ends, nor is a late term copied, however slow this is."""
    scene.stage.write("gated", " ".join(map(str, range(60, TERMS))))


def test_a_killed_masters_job_is_taken_over_within_twelve_seconds(scene: Scene) -> None:
    close_the_gate(scene)
    scene.fleet(2)
    leader = scene.leader("gated", TERMS, chunk=1)
    job = leader.job
    scene.stage.begun(60)
    follower = scene.follower(job)
    leader.kill9()
    died = time.monotonic()
    scene.stage.open()
    at, said = follower.heard_at(f"notice leading {job} from its checkpoint: ", 20)
    assert said.endswith(" terms counted")
    assert at - died <= 12.0
    assert follower.record()["digest"] == digest(TERMS)
    assert all(times == 1 for times in scene.stage.count().values())  # the death cost no work at all


def test_a_master_that_stood_still_finds_itself_succeeded_and_changes_nothing(scene: Scene) -> None:
    scene.stage.write("seconds", "0.05")
    scene.fleet(2)
    leader = scene.leader("slow", 2 * TERMS, chunk=1)
    job = leader.job
    scene.stage.begun(10)
    leader.stop()
    follower = scene.follower(job)
    follower.hear(f"notice leading {job}", 20)
    said = len(leader.said)
    leader.go_on()
    until(lambda: len(leader.said) > said + 1, 10, "it hears of progress that is not its own")
    assert not leads(leader.said)
    record = follower.record()
    assert record["digest"] == digest(2 * TERMS)
    assert leader.record() == record  # it followed to the same end
    assert all(times == 1 for times in scene.stage.count().values())


def test_one_that_lets_go_is_followed_at_once(scene: Scene) -> None:
    close_the_gate(scene)
    scene.fleet(2)
    leader = scene.leader("gated", TERMS, chunk=1)
    scene.stage.begun(60)
    leader.signal(signal.SIGTERM)
    assert leader.wait() == 0
    state = scene.state(leader.job)
    assert state is not None
    assert (state.state, state.master) == ("running", "")
    assert state.checkpoint is not None
    follower = scene.follower(leader.job)
    began = time.monotonic()
    follower.hear("notice leading", 5)
    assert time.monotonic() - began < allowed(2)
    scene.stage.open()
    assert follower.record()["digest"] == digest(TERMS)
    assert all(times == 1 for times in scene.stage.count().values())


def test_of_two_that_stand_by_one_leads_and_both_see_the_end(scene: Scene) -> None:
    scene.stage.write("gated", "60")
    scene.fleet(2)
    leader = scene.leader("gated", TERMS, chunk=1)
    scene.stage.begun(60)
    followers = [scene.follower(leader.job) for _ in range(2)]
    leader.signal(signal.SIGTERM)
    until(lambda: any(leads(one.said) for one in followers), 10, "one leads")
    scene.stage.open()
    records = [one.record() for one in followers]
    assert [leads(one.said) for one in followers].count(True) == 1
    assert {record["digest"] for record in records} == {digest(TERMS)}


def leads(said: list[tuple[float, str]]) -> bool:
    return any(line.startswith("notice leading") for _, line in said)


def test_master_after_master(scene: Scene) -> None:
    scene.stage.write("seconds", "0.05")
    scene.fleet(2)
    leader = scene.leader("slow", TERMS, chunk=1)
    job, last = leader.job, leader
    for _ in range(4):
        last.hear("counted")
        last.signal(signal.SIGTERM)
        last.wait()
        last = scene.follower(job)
    assert last.record()["digest"] == digest(TERMS)
    assert all(times == 1 for times in scene.stage.count().values())


def test_a_finished_job_can_be_followed_to_its_record(scene: Scene) -> None:
    scene.fleet(1)
    leader = scene.leader("noted", TERMS)
    first = leader.record()
    again = scene.follower(leader.job).record()
    assert again == first


def test_a_job_that_never_was(scene: Scene) -> None:
    follower = scene.follower("nothing")
    assert follower.wait() == 4
    assert "there is no job nothing on queue" in follower.hear("error NoSuchJob")
