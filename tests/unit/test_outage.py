"""A worker's outage: when its server is tried again, and when it is given up."""

from __future__ import annotations

import pytest

from mapreduce_rq.errors import BrokerDown, BrokerRefused, ReadOnly
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.worker.outage import Outage


class Stopped(Clock):
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds


def test_each_try_that_fails_puts_the_next_one_off_for_longer() -> None:
    clock = Stopped()
    outage = Outage(clock)
    assert (outage.on, outage.wait()) == (False, 0.0)
    waits = []
    for _ in range(8):
        outage.met(BrokerDown("gone"))
        assert outage.on
        waits.append(outage.wait())
        clock.seconds += waits[-1]
        assert outage.wait() == 0.0
    assert waits == sorted(waits)
    assert 0 < waits[0] < 0.2
    assert 0.9 < waits[-1] <= 1.0
    outage.over()
    assert not outage.on
    outage.met(BrokerDown("gone again"))
    assert outage.wait() == pytest.approx(waits[0])


def test_nothing_is_put_off_on_a_machine_that_has_just_started() -> None:
    clock = Stopped()
    clock.seconds = 0.0
    assert Outage(clock).wait() == 0.0


def test_an_error_that_is_not_the_servers_is_no_outage_but_puts_the_next_try_off() -> None:
    outage = Outage(Stopped())
    outage.met(None)
    assert not outage.on
    assert outage.wait() > 0


def test_a_server_that_stays_a_replica_is_given_up_and_one_that_comes_back_is_not() -> None:
    clock = Stopped()
    outage = Outage(clock)
    for again in (False, True):
        outage.met(ReadOnly("a replica"))
        clock.seconds += 59
        outage.met(ReadOnly("a replica"))
        if not again:
            outage.over()
            clock.seconds += 59
    clock.seconds += 1
    with pytest.raises(BrokerRefused, match="for 60 s"):
        outage.met(ReadOnly("a replica"))
