"""Somebody without the key writes into every structure while a job runs: it costs time, and nothing else."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
import redis

from mapreduce_rq import BadMessage, Client
from mapreduce_rq.core.messages import OK, Answer, Reply, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.runtime.master.observer import Silent
from tests.support.commands import environment, mrq
from tests.support.fleet import KEY, Leader
from tests.support.scene import Scene
from tests.support.stage import until
from tests.support.terms import total

TERMS = 300


class Forger:
    """Writes nonsense, unsigned and misplaced messages, and repeats true ones, until told to stop."""

    def __init__(self, scene: Scene, job: str) -> None:
        self._scene = scene
        self._job = job
        self._rng = random.Random(1)
        self._stop = threading.Event()
        self.written = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with self._scene.server.client() as client:
            while not self._stop.is_set():
                self._write(client)
                self.written += 1

    def _messages(self) -> list[bytes]:
        task = Task(self._job, 0, TERMS, 0)
        reply = Reply(self._job, "host:1:a", [Answer(0, TERMS, 0, 0, OK, b"\x07", 1)])
        queue = self._scene.queue
        found = [self._rng.randbytes(self._rng.randrange(80)) for _ in range(4)]
        for codecs in (
            Codecs(queue),
            Codecs(queue, Keyring([b"?" * 32])),
            Codecs(f"{queue}x", self._scene.codecs.keyring),
        ):
            found += [codecs.task.seal(task), codecs.reply.seal(reply)]
        return found

    def _write(self, client: redis.Redis) -> None:
        keys = self._scene.keys
        forged = self._rng.choice(self._messages())
        do: Any = client.execute_command
        true_tasks = do("LRANGE", keys.queue, 0, 3)
        read = do("XRANGE", keys.replies(self._job), "-", "+", "COUNT", 3)
        true_replies = [fields[b"a"] for _, fields in read if b"a" in fields]
        wids = do("HKEYS", keys.workers)
        for command in (
            ("LPUSH", keys.queue, forged),
            ("RPUSH", keys.queue, forged),
            *(("RPUSH", keys.queue, task) for task in true_tasks),
            ("XADD", keys.replies(self._job), "NOMKSTREAM", "*", "a", forged),
            ("XADD", keys.replies(self._job), "NOMKSTREAM", "*", "b", forged, "c", forged),
            *(("XADD", keys.replies(self._job), "NOMKSTREAM", "*", "a", reply) for reply in true_replies),
            ("HSET", keys.workers, forged, forged),
            ("HSET", keys.masters, forged, forged),
            ("ZADD", keys.jobs, 1, forged),
            ("HSET", keys.workers, self._rng.choice(wids), b"X:forged") if wids else ("PING",),
        ):
            do(*command)


def test_forged_and_repeated_messages_change_nothing(scene: Scene) -> None:
    scene.stage.write("seconds", "0.01")
    fleet = scene.fleet(2)
    leader = scene.leader("slow", TERMS, chunk=1)
    job = leader.job
    scene.stage.begun(3)
    forger = Forger(scene, job)
    scene.stage.begun(TERMS // 2)
    forger.stop()
    record = leader.record()
    assert record["state"] == "done"
    assert int(record["value"]) == total(TERMS)
    assert record["skipped"] == []
    assert forger.written > 10
    state = scene.state(job)
    assert state is not None
    assert state.report is not None
    assert state.report.dropped > 10
    said = [line for actor in (fleet, leader) for _, line in actor.said]
    assert not any("Traceback" in line or "please report" in line for line in said)
    assert any("dropped: " in line for line in said)
    assert fleet.poll() is None


# -- the hash of a job ---------------------------------------------------------------------------------------------


Fields = dict[str, Any]

GATED = 7


def other_job(scene: Scene) -> dict[bytes, bytes]:
    """The hash of another job of this queue that has ended, with another value."""
    other = scene.leader("noted", 5)
    assert other.record()["state"] == "done"
    with scene.server.client() as client:
        found: dict[bytes, bytes] = client.hgetall(scene.keys.job(other.job))
    return found


def forgeries(own: dict[bytes, bytes], other: dict[bytes, bytes]) -> dict[str, Fields]:
    """What somebody without the key may put together of what was signed once."""
    unsigned = Codecs("queue").record.at("x").seal({"state": "done"})
    return {
        "another job's record": {"record": other[b"record"], "state": "done"},
        "its own report as a record": {"record": own[b"progress"], "state": "done"},
        "its own spec as a record": {"record": own[b"spec"], "state": "failed"},
        "an unsigned record": {"record": unsigned, "state": "done"},
        "an end without a record": {"state": "done"},
        "a cancel": {"state": "cancelled-now"},
        "another job's checkpoint": {"ck": other[b"ck"]},
        "another job's report": {"progress": other[b"progress"]},
        "another job's spec": {"spec": other[b"spec"]},
        "nonsense": {"record": b"\0\0\x80", "ck": b"ck", "progress": b"p", "state": b"\xff", "master": b"\xff"},
    }


NAMES = sorted(
    forgeries(dict.fromkeys([b"progress", b"spec"], b""), dict.fromkeys([b"record", b"ck", b"progress", b"spec"], b""))
)


class Gated:
    """A job of twenty terms that waits at one of them."""

    terms = 20

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.fleet = scene.fleet(1)
        self.other = other_job(scene)
        scene.stage.write("gated", str(GATED))
        scene.stage.forget()
        self.leader = scene.leader("gated", self.terms, chunk=1)
        self.job = self.leader.job
        self.key = scene.keys.job(self.job)
        self.worker = scene.stage.begun(GATED)
        with scene.server.client() as client:  # a report is written within a second
            until(lambda: client.hget(self.key, "progress"), 10, "a report")
            self.own: dict[bytes, bytes] = client.hgetall(self.key)

    def write(self, fields: Fields) -> None:
        with self.scene.server.client() as client:
            client.hset(self.key, mapping=fields)

    def ends_well(self, leader: Leader | None = None) -> None:
        self.scene.stage.open()
        record = (leader or self.leader).record()
        assert record["state"] == "done", record
        assert int(record["value"]) == total(self.terms)
        assert record["skipped"] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_forged_in_a_job_under_its_own_token_changes_nothing(scene: Scene, name: str) -> None:
    job = Gated(scene)
    job.write(forgeries(job.own, job.other)[name])
    if name != "another job's spec":
        state = scene.state(job.job)
        assert state is not None
        assert (state.state, state.record) == ("running", None)
    with scene.server.client() as client:  # its master writes what is true again
        until(lambda: client.hget(job.key, "state") == b"running", 10, "the state is written anew")
    assert scene.stage.begun(GATED) == job.worker
    assert scene.stage.count()[GATED] == 1, "its worker was killed"
    job.ends_well()
    assert job.fleet.poll() is None


@pytest.mark.parametrize("name", ["another job's record", "its own report as a record", "another job's checkpoint"])
def test_what_is_forged_in_a_job_under_another_token_takes_time_and_nothing_else(scene: Scene, name: str) -> None:
    job = Gated(scene)
    job.write(forgeries(job.own, job.other)[name] | {"tok": "9:x:1"})
    job.ends_well()


@pytest.mark.parametrize("spec", [None, b"no spec"])
def test_a_master_writes_its_jobs_spec_anew(scene: Scene, spec: bytes | None) -> None:
    job = Gated(scene)
    with scene.server.client() as client:
        if spec is None:
            client.hdel(job.key, "spec")
        else:
            client.hset(job.key, "spec", spec)
        until(lambda: client.hget(job.key, "spec") == job.own[b"spec"], 10, "the spec is written anew")
    job.leader.hear("notice the spec of")
    scene.fleet(1)  # who is new to the job has to read it
    job.ends_well()


def test_who_resumes_a_job_is_not_deceived(scene: Scene) -> None:
    job = Gated(scene)
    job.leader.kill9()
    job.write(forgeries(job.own, job.other)["another job's record"] | {"tok": "9:x:1", "master": "", "ck": b"no"})
    follower = scene.follower(job.job)
    follower.hear("notice the record of")
    job.ends_well(follower)


def test_an_older_checkpoint_is_no_value(scene: Scene) -> None:
    job = Gated(scene)
    job.ends_well()
    with Client(scene.url, queue=scene.queue, keys=[KEY]) as client:
        ended = client.leader.follow(job.job, Silent())
        assert ended is not None
        assert client.result_of(ended).native == total(job.terms)
        assert job.own[b"ck"] != scene_checkpoint(scene, job.key)
        job.write({"ck": job.own[b"ck"]})
        with pytest.raises(BadMessage, match="not the one that its record names"):
            client.result_of(ended)
        assert int(ended.record.data["value"]) == total(job.terms)


def scene_checkpoint(scene: Scene, key: str) -> bytes:
    with scene.server.client() as client:
        found: bytes = client.hget(key, "ck")
    return found


def test_commands_say_in_one_line_what_is_wrong_with_a_job(scene: Scene) -> None:
    job = Gated(scene)
    job.leader.kill9()
    env = environment({"MRQ_URL": scene.url, "MRQ_QUEUE": scene.queue, "MRQ_KEY": KEY})
    job.write({"state": "done", "record": job.other[b"record"], "tok": b"\xff" * 6000})
    ran = mrq("result", job.job, env=env)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert "cannot be read" in ran.err
    ran = mrq("status", job.job, env=env)
    assert (ran.code, "running" in ran.out or "waiting" in ran.out) == (0, True)
    assert "cannot be read" in ran.err
    ran = mrq("doctor", "--watch", "0", env=env)
    assert job.job in ran.out
    with scene.server.client() as client:
        client.hdel(job.key, "spec")
    for command in ("result", "status", "attach", "resume", "cancel"):
        ran = mrq(command, job.job, env=env)
        assert (ran.code != 0, ran.out) == (True, ""), command
        assert f"DEL {job.key}" in ran.err, (command, ran.err)
    ran = mrq("doctor", "--watch", "0", env=env)
    assert job.key in ran.out
    with scene.server.client() as client:
        client.delete(job.key)
        client.set(job.key, "another program's")
    for command in ("result", "status", "attach", "resume", "cancel"):
        ran = mrq(command, job.job, env=env)
        assert (ran.code != 0, ran.out) == (True, ""), command
        assert job.key in ran.err, (command, ran.err)
