"""Tasks that are signed with another key: left to other workers ten times, and no worker runs in circles over them."""

from __future__ import annotations

import pytest
import redis

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.runtime.worker import strangers
from mapreduce_rq.runtime.worker.strangers import Strangers


def meet(met: Strangers, *raw: bytes, alone: bool = True) -> list[bytes]:
    """What goes back of a batch with these tasks."""
    met.here = list(raw)
    back = met.count(alone=alone)
    assert met.here == []
    return back


def test_each_of_them_is_left_to_others_ten_times_and_then_dropped(tasks: Tasks) -> None:
    met = Strangers(tasks)
    for _ in range(10):
        assert meet(met, b"one", b"two") == [b"one", b"two"]
    assert meet(met, b"one", b"late", b"two") == [b"late"]
    for _ in range(9):
        assert meet(met, b"late") == [b"late"]
    assert meet(met, b"late") == []


def test_of_very_many_those_met_long_ago_are_forgotten(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "STRANGERS_KNOWN", 3)
    met = Strangers(tasks)
    for _ in range(10):
        meet(met, b"old", b"kept")
    meet(met, b"kept")
    assert meet(met, b"a", b"b") == [b"a", b"b"]  # more than are known: the one met first is as new
    assert meet(met, b"kept") == []
    assert meet(met, b"old") == [b"old"]


def test_a_worker_pauses_when_the_whole_queue_has_passed_without_a_task_for_it(
    tasks: Tasks, keys: Keys, raw: redis.Redis
) -> None:
    raw.lpush(keys.queue, b"ours", b"theirs")
    met = Strangers(tasks)
    for turn in range(2):
        assert not met.put_back(meet(met, b"%d" % turn))
        raw.rpop(keys.queue)
    assert met.put_back(meet(met, b"third"))  # three, and none was for us
    assert raw.lrange(keys.queue, 0, -1)[0] == b"third", "it is behind all others"
    for _ in range(2):  # and from then on it counts anew
        raw.rpop(keys.queue)
        assert not met.put_back(meet(met, b"again"))
    raw.rpop(keys.queue)
    assert met.put_back(meet(met, b"again"))


def test_a_task_for_us_between_them_begins_the_count_anew(tasks: Tasks, keys: Keys, raw: redis.Redis) -> None:
    raw.lpush(keys.queue, b"one")
    met = Strangers(tasks)
    assert not met.put_back(meet(met, b"theirs"))  # one met in vain, two wait
    meet(met, b"theirs", alone=False)
    raw.rpop(keys.queue)
    assert not met.put_back(meet(met, b"theirs"))


def test_nothing_is_put_back_of_nothing(tasks: Tasks, keys: Keys, raw: redis.Redis) -> None:
    assert not Strangers(tasks).put_back([])
    assert not raw.exists(keys.queue)
