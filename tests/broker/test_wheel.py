"""The wheel alone, on a real server: its doors, its ear, whose turn it is, and what an error ends.

Its masters are hands that do in a turn what the test says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import Entry, Jobs, is_behind
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerDown, BrokerFull, BrokerRefused, ReadOnly
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.demotion import REPLICA_SECONDS
from mapreduce_rq.runtime.master import wheel as wheels
from mapreduce_rq.runtime.master.leads import Lead, Turn
from mapreduce_rq.runtime.master.wheel import LONG_SECONDS, SEEN_SECONDS, WAIT_SECONDS, Relieved, Wheel
from mapreduce_rq.runtime.polling import answered
from tests.support.servers import RealServer
from tests.support.stage import until

NEVER = 1e9


class Steady(Clock):
    """A clock that the test moves."""

    at = 100.0

    def __init__(self) -> None:
        self.now = lambda: self.at


class Waits:
    """Waits for sockets as the real one does, and for no longer than a test has to; notes for how long it should."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.rung = 0
        self.closed = False

    def wait(self, wires: Sequence[Wire], seconds: float) -> list[Wire]:
        self.seconds.append(seconds)
        return answered(wires, min(seconds, 0.02)) if wires else []

    def insist(self) -> None:
        self.rung += 1

    def close(self) -> None:
        self.closed = True


class Hand:
    """Stands for a master: each of its turns is one call of ``act``, which returns the seconds until the next one."""

    def __init__(self, job: str, act: Callable[[], float], *, urgent: bool = False) -> None:
        self.job = job
        self.act = act
        self.spec = SimpleNamespace(limits=SimpleNamespace(urgent=urgent))
        self.ledger = SimpleNamespace(counted=3)
        self.cursor = "0-0"
        self.heard: list[Entry] = []
        self.cut: list[BaseException] = []
        self.stop = self.adrift = self.in_outage = False
        self.computing = True
        self.trouble: BaseException | None = None
        self.looked_at, self.workers = 0.0, 0

    def turns(self) -> Generator[float, None, Any]:
        while not self.stop:
            yield self.act()
        return f"the end of {self.job}"

    def give(self, entries: Sequence[Entry], after: str) -> None:
        if not is_behind(after.encode(), self.cursor):
            self.heard += entries
            self.cursor = entries[-1][0].decode()

    def cut_off(self, error: BaseException) -> None:
        self.cut.append(error)


class Stewardship:
    """Adopts each job that it has a hand for."""

    def __init__(self) -> None:
        self.hands: dict[str, Hand] = {}
        self.ended: list[Turn] = []
        self.wires: list[Wire] = []  # of the jobs that have ended, at their ends
        self.looks = 0
        self.words: list[str] = []

    def adopt(self, lead: Lead) -> Any:
        return self.hands.get(lead.job)

    def over(self, lead: Lead, turn: Turn) -> None:
        assert turn.lead is lead
        self.ended.append(turn)
        self.wires.append(lead.wire.to)

    def look(self) -> float:
        self.looks += 1
        return 3.0

    def noticed(self, text: str) -> None:
        self.words.append(text)


class Unreachable(RedisWire):
    """Never connects."""

    def connect(self) -> None:
        raise BrokerDown("no more connections")


class Turned:
    """A wheel with all that it touches."""

    full = False  # the server takes no more connections

    def __init__(self, server: RealServer, keys: Keys, codecs: Codecs, most: int = 2) -> None:
        endpoint = parse_url(server.url)
        self.wires: list[RedisWire] = []

        def make() -> Wire:
            self.wires.append(Unreachable(endpoint) if self.full else RedisWire(endpoint))
            return self.wires[-1]

        self.clock, self.waits, self.steward = Steady(), Waits(), Stewardship()
        self.wheel = Wheel(
            make, lambda wire: Jobs(wire, keys, codecs), self.clock, self.waits, steward=self.steward, most=most
        )
        self.turns: list[str] = []

    def hand(self, job: str, *waits: float, urgent: bool = False, act: Callable[[], None] | None = None) -> Hand:
        """A hand whose turns are noted; the next one is due after these seconds, one after the other."""
        row = iter(waits)

        def turn() -> float:
            self.turns.append(job)
            if act is not None:
                act()
            return next(row, NEVER)

        made = self.steward.hands[job] = Hand(job, turn, urgent=urgent)
        return made

    def lead(self, *jobs: str, urgent: bool = False) -> None:
        for job in jobs:
            if job not in self.steward.hands:
                self.hand(job, urgent=urgent)
            assert self.wheel.take(job, urgent=urgent)

    def round_until(self, done: Callable[[], object]) -> None:
        """Go round until this is so."""

        def go() -> bool:
            self.wheel.go_round()
            return bool(done())

        until(go, 10, "it comes to that")

    def noted(self) -> list[str]:
        """The turns since the last time."""
        found, self.turns[:] = list(self.turns), []
        return found


@pytest.fixture
def turned(server: RealServer, keys: Keys, codecs: Codecs) -> Iterator[Turned]:
    made = Turned(server, keys, codecs)
    yield made
    for wire in made.wires:
        wire.close()


# -- places ------------------------------------------------------------------------------------------------------------


def test_it_leads_as_many_jobs_as_it_is_told_and_as_many_urgent_ones(turned: Turned) -> None:
    wheel = turned.wheel
    assert (wheel.room(urgent=False), wheel.room(urgent=True)) == (2, 2)
    assert wheel.take("a", "1:x:1", urgent=False) is True
    assert (wheel.leads["a"].token, wheel.leads["a"].due) == ("1:x:1", turned.clock.at)
    assert wheel.take("a", urgent=False) is False  # it leads that
    assert wheel.take("b", urgent=False) is True
    assert wheel.take("c", urgent=False) is False
    assert (wheel.room(urgent=False), wheel.room(urgent=True)) == (0, 2)
    assert wheel.take("c", urgent=True) is True
    assert wheel.leads["c"].urgent
    assert wheel.room(urgent=True) == 1
    wheel.close()
    assert (wheel.room(urgent=False), wheel.room(urgent=True)) == (0, 0)
    assert wheel.take("d", urgent=True) is False


def test_jobs_that_are_handed_over_come_in_by_their_doors(turned: Turned, jobs: Jobs) -> None:
    for job in ("a", "b", "hurry"):
        turned.hand(job)
    jobs.hand_over("hurry", urgent=True)
    jobs.hand_over("a", urgent=False)
    jobs.hand_over("b", urgent=False)
    turned.round_until(lambda: len(turned.wheel.leads) == 3)
    assert {job: lead.urgent for job, lead in turned.wheel.leads.items()} == {"a": False, "b": False, "hurry": True}
    turned.round_until(lambda: len(turned.turns) == 3)
    jobs.hand_over("c", urgent=False)  # there is no room, so it is not taken from the line
    jobs.hand_over("in a hurry", urgent=True)
    turned.hand("in a hurry")
    turned.round_until(lambda: "in a hurry" in turned.wheel.leads)
    turned.wheel.go_round()
    assert jobs.line(urgent=False) == ["c"]
    assert "c" not in turned.wheel.leads


def test_jobs_for_which_there_is_no_room_any_more_go_back_to_the_head_of_the_line(turned: Turned, jobs: Jobs) -> None:
    turned.wheel.go_round()  # two may come in
    turned.lead("x", "y")
    for job in ("a", "b", "c"):
        jobs.hand_over(job, urgent=False)
    turned.wheel.go_round()
    turned.round_until(lambda: jobs.line(urgent=False))
    turned.wheel.go_round()
    assert sorted(turned.wheel.leads) == ["x", "y"]
    assert jobs.line(urgent=False) == ["a", "b", "c"]


def test_no_job_that_it_leads_goes_back(turned: Turned, jobs: Jobs) -> None:
    turned.wheel.go_round()
    turned.lead("x", "y")
    jobs.hand_over("x", urgent=False)
    turned.round_until(lambda: not jobs.line(urgent=False))
    turned.wheel.go_round()
    assert jobs.line(urgent=False) == []


# -- turns -------------------------------------------------------------------------------------------------------------


def test_a_job_has_its_turns_when_they_are_due_and_its_end(turned: Turned) -> None:
    hand = turned.hand("a", 0.0, 5.0, 0.5)
    turned.lead("a")
    lead = turned.wheel.leads["a"]
    turned.wheel.go_round()
    assert (lead.since, lead.counted) == (turned.clock.at, 3)
    turned.wheel.go_round()  # at once
    assert turned.noted() == ["a", "a"]
    turned.wheel.go_round()
    turned.clock.at += 4.9
    turned.wheel.go_round()
    assert turned.noted() == []
    turned.clock.at += 0.1
    turned.wheel.go_round()
    assert turned.noted() == ["a"]
    hand.stop = True
    turned.clock.at += 0.5
    turned.wheel.go_round()
    assert not turned.wheel.leads
    lasting: Any = "the end of a"
    assert turned.steward.ended == [Turn(lead, over=True, ended=lasting)]


def test_a_job_that_must_not_be_led_here_is_over(turned: Turned) -> None:
    assert turned.wheel.take("unknown", urgent=False)
    turned.wheel.go_round()
    assert not turned.wheel.leads
    assert [(turn.lead.job, turn.ended, turn.error) for turn in turned.steward.ended] == [("unknown", None, None)]


def test_an_error_of_one_job_is_its_own(turned: Turned) -> None:
    def fail() -> None:
        raise ValueError("no")

    turned.hand("a", act=fail)
    turned.hand("b")
    turned.lead("a", "b")
    turned.wheel.go_round()
    assert turned.noted() == ["a", "b"]
    assert [repr(turn.error) for turn in turned.steward.ended] == ["ValueError('no')"]
    assert list(turned.wheel.leads) == ["b"]


def test_urgent_jobs_have_their_turns_first_and_others_in_the_order_in_which_they_came(turned: Turned) -> None:
    for job, urgent in (("a", False), ("b", False), ("c", True), ("d", True)):
        turned.hand(job, *[0.0] * 5, urgent=urgent)
        turned.lead(job, urgent=urgent)
    turned.wheel.go_round()
    assert sorted(turned.noted()) == ["a", "b", "c", "d"]  # it is not known yet which are urgent
    turned.wheel.go_round()
    assert turned.noted() == ["c", "d", "a", "b"]


def test_replies_give_their_job_a_turn(turned: Turned, raw: redis.Redis, keys: Keys) -> None:
    hands = [turned.hand(job) for job in ("a", "b")]
    turned.lead("a", "b")
    turned.wheel.go_round()
    assert turned.noted() == ["a", "b"]
    raw.xadd(keys.replies("b"), {"a": "one"})
    turned.round_until(lambda: hands[1].heard)
    turned.wheel.go_round()
    assert turned.noted() == ["b"]
    assert [fields for _, fields in hands[1].heard] == [[b"a", b"one"]]
    raw.xadd(keys.replies("b"), {"a": "two"})  # those behind what was read
    turned.round_until(lambda: len(hands[1].heard) == 2)
    assert hands[0].heard == []


def test_a_job_that_comes_later_is_listened_to_as_well(turned: Turned, raw: redis.Redis, keys: Keys) -> None:
    turned.lead("a")
    turned.wheel.go_round()
    later = turned.hand("later")
    turned.lead("later")
    turned.wheel.go_round()
    raw.xadd(keys.replies("later"), {"a": "one"})
    turned.round_until(lambda: later.heard)


def test_a_job_whose_stream_is_read_anew_misses_nothing(turned: Turned, raw: redis.Redis, keys: Keys) -> None:
    """The open request is behind an id of the lost stream, and the ids of the new one are smaller."""
    hand = turned.hand("a")
    turned.lead("a")
    hand.cursor = "9-0"
    turned.wheel.go_round()
    hand.cursor = "0-0"
    raw.xadd(keys.replies("a"), {"a": "before"}, id="5-0")
    raw.xadd(keys.replies("a"), {"a": "behind"}, id="9-1")
    turned.round_until(lambda: len(hand.heard) == 2)
    assert [entry[0] for entry in hand.heard] == [b"5-0", b"9-1"]


def test_it_waits_until_the_first_thing_is_due(turned: Turned) -> None:
    turned.wheel.go_round()
    assert turned.waits.seconds[-1] == 3.0  # the steward's next look
    turned.hand("a", 2.0)
    turned.lead("a")
    turned.wheel.go_round()
    assert turned.waits.seconds[-1] == 2.0
    turned.clock.at += 1.5
    turned.wheel.go_round()
    assert turned.waits.seconds[-1] == 0.5
    turned.clock.at += 0.5
    turned.wheel.go_round()
    assert turned.waits.seconds[-1] == 1.0
    turned.wheel.close()
    turned.clock.at += 100.0
    turned.steward.hands["a"].stop = False
    turned.wheel.go_round()
    assert turned.wheel.over
    assert turned.waits.seconds[-1] == 0.0


def test_it_waits_for_no_longer_than_the_server_does(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turned.steward, "look", lambda: NEVER)
    turned.lead("a")
    turned.wheel.go_round()
    assert turned.waits.seconds[-1] == WAIT_SECONDS


def test_the_steward_looks_for_jobs_when_it_wants_to(turned: Turned) -> None:
    for pause, looks in ((0.0, 1), (2.9, 1), (0.1, 2), (2.9, 2), (0.2, 3)):
        turned.clock.at += pause
        turned.wheel.go_round()
        assert turned.steward.looks == looks
    turned.wheel.close()
    turned.clock.at += 5
    turned.wheel.go_round()
    assert turned.steward.looks == 3


def test_events_of_all_jobs_are_sent_once_a_round(turned: Turned, raw: redis.Redis, queue: str) -> None:
    def tell() -> None:
        turned.wheel.told.transaction([("RPUSH", f"{queue}:told", "x")])

    for job in ("a", "b"):
        turned.hand(job, act=tell)
    turned.lead("a", "b")
    turned.wheel.go_round()
    assert raw.lrange(f"{queue}:told", 0, -1) == [b"x", b"x"]
    raw.delete(f"{queue}:told")


def test_what_one_job_has_seen_of_workers_others_need_not_look_for(turned: Turned) -> None:
    hand = turned.hand("a", 1.0, 1.0, 1.0)
    turned.lead("a")
    assert turned.wheel.workers() == 0
    hand.looked_at, hand.workers = turned.clock.at, 7
    turned.wheel.go_round()
    assert turned.wheel.workers() == 7
    hand.workers = 9  # of the same look
    turned.clock.at += SEEN_SECONDS - 0.1
    turned.wheel.go_round()
    assert turned.wheel.workers() == 7
    turned.clock.at += 0.2
    assert turned.wheel.workers() == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def test_at_its_end_it_lets_go_of_all_jobs_and_takes_none(turned: Turned) -> None:
    turned.lead("a", "b")
    turned.wheel.go_round()
    over = [turned.wheel.over]
    turned.wheel.close()
    assert turned.waits.rung == 1
    over.append(turned.wheel.over)
    turned.wheel.go_round()
    over.append(turned.wheel.over)
    assert over == [False, False, True]
    assert [str(turn.ended) for turn in turned.steward.ended] == ["the end of a", "the end of b"]
    turned.wheel.end()
    assert turned.waits.closed
    with pytest.raises(BrokerDown):
        turned.wheel.verbs.wire.call("PING")


def test_a_job_that_was_not_adopted_before_the_end_is_left_to_others(turned: Turned) -> None:
    turned.lead("a")
    turned.wheel.close()
    turned.wheel.go_round()
    assert turned.wheel.over
    assert turned.noted() == []
    assert [(turn.over, turn.ended) for turn in turned.steward.ended] == [(True, None)]


# -- outages -----------------------------------------------------------------------------------------------------------


class Outage:
    """What a hand does while its connection is lost: the second turn over a new one is sound."""

    def __init__(self, turned: Turned, job: str, error: BaseException) -> None:
        self.hand = turned.hand(job, 1.0, 1.0, 1.0, 1.0, 1.0, act=self._act)
        self.error = error
        self.lost = False

    def _act(self) -> None:
        self.hand.adrift = self.lost
        self.hand.in_outage = self.lost
        self.hand.trouble = self.error if self.lost else None


def test_an_outage_is_told_once_and_each_job_goes_on_over_new_connections(turned: Turned) -> None:
    error = BrokerDown("gone")
    outage = Outage(turned, "a", error)
    other = turned.hand("b")
    turned.lead("a", "b")
    turned.wheel.go_round()
    assert turned.noted() == ["a", "b"]
    outage.lost = other.in_outage = True
    turned.clock.at += 1.0
    turned.wheel.go_round()
    assert turned.noted() == ["a"]
    assert turned.steward.words == ["gone; trying again"]
    assert other.cut == outage.hand.cut == [error]
    assert turned.waits.seconds[-1] == 0.05  # before it connects anew
    turned.wheel.go_round()  # the same error: it was told of it, and goes on
    assert turned.noted() == ["a", "b"]
    outage.error = BrokerDown("again")
    turned.wheel.go_round()
    assert turned.steward.words == ["gone; trying again"]
    assert turned.waits.seconds[-1] == 0.1
    outage.lost = other.in_outage = False
    turned.clock.at += 1.0
    turned.round_until(lambda: len(turned.steward.words) == 2)
    assert turned.steward.words == ["gone; trying again", "Redis is back"]
    assert list(turned.wheel.leads) == ["a", "b"]
    outage.lost, outage.error = True, BrokerDown("once more")
    turned.clock.at += 1.0
    turned.wheel.go_round()
    assert turned.steward.words[2:] == ["once more; trying again"]
    assert turned.waits.seconds[-1] == 0.05  # as at first


def test_a_job_that_ends_in_an_outage_does_not_say_that_it_is_over(turned: Turned) -> None:
    """Another master leads it: a replica says that, too. The other job's turn will tell."""
    outage = Outage(turned, "a", BrokerDown("gone"))
    other = turned.hand("b", 1.0)
    turned.lead("a", "b")
    turned.wheel.go_round()
    outage.lost = other.in_outage = True
    turned.clock.at += 1.0
    turned.wheel.go_round()
    outage.hand.stop = True  # over the new connections
    turned.wheel.go_round()
    assert list(turned.wheel.leads) == ["b"]
    assert turned.steward.words == ["gone; trying again"]


def test_it_is_back_when_others_have_taken_its_last_job_meanwhile(turned: Turned) -> None:
    """No job is left whose turn would say so."""
    outage = Outage(turned, "a", BrokerDown("gone"))
    turned.lead("a")
    turned.wheel.go_round()
    outage.lost = True
    turned.clock.at += 1.0
    turned.wheel.go_round()
    outage.hand.stop = True  # over the new connections it sees another master
    turned.wheel.go_round()
    assert not turned.wheel.leads
    assert turned.steward.words == ["gone; trying again", "Redis is back"]


def test_a_lost_connection_of_its_own_is_an_outage_too(turned: Turned, raw: redis.Redis, jobs: Jobs) -> None:
    hand = turned.hand("a", *[0.0] * 100)
    turned.lead("a")
    turned.wheel.go_round()
    looks = turned.steward.looks
    raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    turned.round_until(lambda: hand.cut)
    turned.round_until(lambda: turned.steward.words[-1:] == ["Redis is back"])
    assert len(turned.steward.words) == 2
    assert turned.steward.looks > looks  # at once: what was handed over meanwhile may be lost
    jobs.wire.connect()
    turned.hand("b")
    jobs.hand_over("b", urgent=False)
    turned.round_until(lambda: "b" in turned.wheel.leads)


def test_without_a_job_it_is_back_when_it_has_connected(turned: Turned, raw: redis.Redis) -> None:
    turned.wheel.go_round()
    raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    turned.round_until(lambda: turned.steward.words)
    turned.wheel.go_round()
    assert turned.steward.words[1:] == ["Redis is back"]


def test_a_job_that_ends_with_the_connection_takes_the_others_over_to_new_ones(turned: Turned) -> None:
    error = BrokerDown("gone")

    def fail() -> None:
        raise error

    other = turned.hand("b", *[1.0] * 9)
    turned.hand("a", act=fail)
    turned.lead("b", "a")
    turned.wheel.go_round()
    assert [turn.error for turn in turned.steward.ended] == [error]
    assert other.cut == [error]
    assert turned.steward.words == ["gone; trying again"]


def test_a_full_server_is_an_outage_too(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    error = BrokerFull("full")

    def refuse() -> float:
        raise error

    monkeypatch.setattr(turned.steward, "look", refuse)
    hand = turned.hand("a")
    turned.lead("a")
    turned.clock.at += 1
    turned.wheel.go_round()
    assert turned.steward.words == ["full; trying again"]
    assert turned.wheel.leads["a"].due == 0.0
    assert hand.cut == []  # it is not adopted yet


def test_a_replica_is_not_back_before_it_takes_writes(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise ReadOnly("a replica")

    with monkeypatch.context() as patch:
        patch.setattr(turned.steward, "look", refuse)
        turned.wheel.go_round()
    for _ in range(3):
        turned.wheel.go_round()
    assert turned.steward.words == ["a replica; trying again"]
    monkeypatch.setattr(turned.steward, "look", refuse)
    turned.clock.at += REPLICA_SECONDS - 0.1
    turned.wheel.go_round()
    turned.clock.at += 0.2
    with pytest.raises(BrokerRefused, match="it has been one for 60 s"):
        turned.wheel.go_round()


def test_a_server_from_whose_list_it_takes_is_no_replica_any_more(
    turned: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To take is a write, whether or not a job was there; without one, no turn would tell that it is back."""
    monkeypatch.setattr(wheels, "WAIT_SECONDS", 0.01)

    def refuse() -> float:
        raise ReadOnly("a replica")

    with monkeypatch.context() as patch:
        patch.setattr(turned.steward, "look", refuse)
        turned.wheel.go_round()
    turned.round_until(lambda: len(turned.steward.words) == 2)
    assert turned.steward.words == ["a replica; trying again", "Redis is back"]
    assert not turned.wheel.leads
    turned.clock.at += REPLICA_SECONDS + 1  # of which the demotion has nothing: it is over
    with monkeypatch.context() as patch:
        patch.setattr(turned.steward, "look", refuse)
        turned.wheel.go_round()


def test_in_an_outage_at_its_end_it_goes_without_letting_go(turned: Turned) -> None:
    outage = Outage(turned, "a", BrokerDown("gone"))
    turned.lead("a")
    turned.wheel.go_round()
    outage.lost = True
    outage.hand.turns = lambda: iter([NEVER])  # type: ignore[method-assign,assignment,return-value]
    turned.clock.at += 1.0
    turned.wheel.closing = True
    outage.hand.trouble = BrokerDown("gone")
    turned.wheel._cut_off(BrokerDown("gone"))
    assert turned.wheel.over
    assert turned.waits.seconds[-1] != 0.05  # there is nothing to try again


# -- long turns --------------------------------------------------------------------------------------------------------


def test_after_a_long_turn_a_job_has_its_next_one_beside_the_wheel(turned: Turned) -> None:
    wires: list[Any] = []
    threads: list[Any] = []
    go = threading.Event()

    def act() -> None:
        threads.append(threading.current_thread())
        wires.append(turned.wheel.leads["a"].wire.to)
        if len(wires) == 1:
            turned.clock.at += LONG_SECONDS + 0.01
        elif len(wires) == 2:
            go.wait(10)

    turned.hand("a", 0.0, 0.0, 0.0, act=act)
    turned.hand("b", 0.0, 0.0, 0.0, 0.0)
    turned.lead("a", "b")
    turned.wheel.go_round()
    turned.wheel.go_round()
    until(lambda: len(wires) == 2, 10, "its turn has begun")
    lead = turned.wheel.leads["a"]
    assert lead.aside
    turned.noted()
    turned.wheel.go_round()  # the other one goes on
    assert "a" not in turned.noted()
    rung = turned.waits.rung
    go.set()
    until(lambda: turned.waits.rung > rung, 10, "its turn is over")
    turned.round_until(lambda: not lead.aside and len(wires) >= 3)
    assert wires[0] is wires[2] is not wires[1]
    assert threads[0] is threads[2] is not threads[1]
    with pytest.raises(BrokerDown):
        wires[1].call("PING")
    assert not lead.heavy  # its turn took no time by the clock


def test_without_a_connection_beside_the_wheel_a_turn_waits_for_half_a_second(turned: Turned) -> None:
    turned.hand("a", 0.0, 0.0)
    turned.lead("a")
    turned.wheel.go_round()
    assert turned.noted() == ["a"]
    lead = turned.wheel.leads["a"]
    lead.heavy = turned.full = True
    turned.wheel.go_round()
    turned.round_until(lambda: not lead.aside)
    assert turned.noted() == []
    assert lead.due == turned.clock.at + 0.5
    assert turned.steward.words == []
    turned.clock.at += 0.5
    turned.full = False
    turned.wheel.go_round()
    assert turned.noted() == ["a"]


def test_a_job_that_ends_beside_the_wheel_is_seen_to_over_the_wheels_connection(turned: Turned) -> None:
    hand = turned.hand("a", act=lambda: setattr(hand, "stop", True))
    turned.hand("b", *[0.0] * 100)
    turned.lead("a", "b")
    lead = turned.wheel.leads["a"]

    def is_over() -> bool:
        lead.heavy, lead.due = True, 0.0
        return "a" not in turned.wheel.leads

    is_over()
    turned.round_until(is_over)
    assert [turn.error for turn in turned.steward.ended] == [None]
    assert turned.steward.wires == [turned.wheel.verbs.wire.to]  # type: ignore[attr-defined]


def test_only_some_turns_go_beside_the_wheel(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_ASIDE", 0)
    here = []
    turned.hand("a", 0.0, act=lambda: here.append(threading.current_thread()))
    turned.lead("a")
    turned.wheel.leads["a"].heavy = True
    turned.wheel.go_round()
    assert here == [threading.current_thread()]


def relieved_during(turned: Turned, seconds: float, *, computing: bool = True) -> tuple[bool, bool]:
    """Whether the wheel is taken while a turn has lasted this long, and whether its thread has lost it after."""
    found = []

    def act() -> None:
        turned.steward.hands["a"].computing = computing
        turned.clock.at += seconds
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(turned.wheel.relieve()))
        other.start()
        other.join(10)
        found.append(taken[0])

    turned.hand("a", 0.5, act=act)
    turned.lead("a")
    try:
        turned.wheel.go_round()
    except Relieved:
        return found[0], True
    return found[0], False


def test_a_long_turn_loses_the_wheel_and_comes_back_to_it(turned: Turned) -> None:
    first = turned.wheel.verbs.wire.to  # type: ignore[attr-defined]
    assert relieved_during(turned, LONG_SECONDS + 0.01) == (True, True)
    lead = turned.wheel.leads["a"]
    aside = [lead.aside]
    assert turned.waits.rung == 1
    assert turned.wheel.verbs.wire.to is not first  # type: ignore[attr-defined]
    with pytest.raises(BrokerDown):
        first.call("PING")
    turned.lead("b")
    turned.wheel.go_round()  # by whoever has it now
    assert [*aside, lead.aside] == [True, False]
    assert lead.heavy
    assert lead.due == turned.clock.at + 0.5
    assert turned.turns == ["a", "b"]


@pytest.mark.parametrize(("seconds", "computing"), [(LONG_SECONDS - 0.01, True), (1.0, False)])
def test_a_short_turn_and_one_that_waits_for_redis_keep_it(turned: Turned, seconds: float, computing: bool) -> None:
    assert relieved_during(turned, seconds, computing=computing) == (False, False)


def test_between_turns_nobody_takes_it(turned: Turned) -> None:
    turned.lead("a")
    turned.wheel.go_round()
    turned.clock.at += 10
    assert turned.wheel.relieve() is False


def test_it_is_not_taken_if_many_turns_go_on_beside_it(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_ASIDE", 0)
    assert relieved_during(turned, 1.0) == (False, False)
