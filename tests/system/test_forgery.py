"""Somebody without the key writes into every structure while a job runs: it costs time, and nothing else."""

from __future__ import annotations

import random
import threading
from typing import Any

import redis

from mapreduce_rq.core.messages import OK, Answer, Codecs, Keyring, Reply, Task
from tests.support.scene import Scene
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
