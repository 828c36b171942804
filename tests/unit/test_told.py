"""What a ledger tells of its terms and tasks: long ones, ones that come back, ones that are tried again or kill."""

from __future__ import annotations

from itertools import pairwise

from msgspec.structs import replace

from mapreduce_rq.core.job.events import Replied, Surveyed
from mapreduce_rq.core.job.gathered import Gathered
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import DIED, Task, Tried
from tests.unit.test_ledger import bad, begun, feed, ok, replied


def told(one: Ledger) -> dict[str, str]:
    return dict(one.gathered.due(0.0, all_of_them=True))


def test_a_task_that_is_answered_in_part_is_told_of() -> None:
    one = begun(terms=20, chunk=10)
    feed(one, replied(ok(0, 4), wid="host:1:ab"))
    assert told(one) == {"part answer": "host:1 is long: the terms 4..9 behind go to others"}
    feed(one, replied(ok(10, 20)))
    assert told(one) == {}


def test_a_task_that_comes_back_is_told_of_once_for_each_death() -> None:
    one = begun(terms=20, chunk=10)
    back = replace(one.out[0], attempt=1, why="killed by SIGKILL (host:1)")

    def look(task: Task) -> None:
        feed(one, Surveyed([task], [one.out[10]], 2, slack=False))

    look(back)
    assert told(one) == {"reclaimed": "terms 0..9, for their worker is gone: killed by SIGKILL (host:1)"}
    look(back)
    assert told(one) == {}
    look(replace(back, attempt=2))
    assert "reclaimed" in told(one)
    feed(one, replied(replace(ok(10, 20), attempt=1)))
    assert told(one) == {"reclaimed": "terms 10..19, for their worker is gone"}
    feed(one, replied(replace(ok(10, 20), attempt=2)))
    assert told(one) == {}, "it is counted already"


def test_terms_that_are_tried_again_are_told_of_together() -> None:
    one = begun(terms=20, chunk=10)
    tried = [Tried(term, 2, "OSError", "not yet") for term in (3, 4, 15)]
    feed(one, Replied("w", [ok(0, 10)], tried))
    assert told(one) == {"term retried": "3: 2 calls: OSError: not yet (and 1 more)"}, "the third is not counted yet"
    feed(one, Replied("w", [ok(10, 20)], [Tried(term, 2, "OSError", "not yet") for term in (9, 20)]))
    assert told(one) == {}, "the one was told of or went well, the other is not counted"


def test_the_pause_between_lines_doubles_while_events_come_within_twice_of_it() -> None:
    one = Gathered()
    told_at = []
    for at in (0.0, 2.5, 3.5, 5.0, 5.5, 13.5, 14.5):
        one.note("part answer", "again")
        if one.due(at):
            told_at.append(at)
    # After 0.0 the pause is 1 s; 2.5 comes after more than two, so it stays; after 3.5 it is 2 s; 13.5 ends that.
    assert told_at == [0.0, 2.5, 3.5, 5.5, 13.5, 14.5]


def test_what_never_stops_is_told_of_once_a_minute() -> None:
    one = Gathered()
    told_at = []
    for at in range(1000):
        one.note("part answer", "again")
        if one.due(float(at)):
            told_at.append(at)
    assert [after - before for before, after in pairwise(told_at)][:8] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_what_kills_workers_is_told_of_until_it_is_found() -> None:
    one = begun(terms=2, chunk=2)
    feed(one, replied(bad(0, 2, DIED)))
    assert told(one) == {"poison": "workers die of the terms 0..1: each half is tried alone: no"}
    feed(one, replied(bad(1, 2, DIED, term=1)))
    assert told(one) == {"poison": "workers die of term 1: no"}
