"""What a worker writes for its supervisor: each text has a room of its own, and the time is that of the try in hand."""

from __future__ import annotations

import time

from mapreduce_rq.runtime.worker.slate import Slate


def test_texts_of_any_length_stay_in_their_own_rooms() -> None:
    slate = Slate()
    long = "\u00e9" * 100_000
    slate.refuse("refused")
    slate.begin(3, 5, time.monotonic_ns())
    slate.away(7 * 10**9, long)
    slate.job("j" * 100_000, 1.5)
    found = slate.read()
    assert found.refuses == "refused"
    assert (found.lo, found.hi, found.busy, found.timeout) == (3, 5, True, 1.5)
    assert set(found.job) == {"j"}
    away = slate.why_away()
    assert away is not None
    assert away.since == 7.0
    assert away.why
    assert set(away.why) <= {"\u00e9", "\ufffd"}
    slate.refuse(long)
    assert set(slate.read().refuses) == {"\u00e9"}
    assert slate.why_away() == away


def test_the_time_of_a_task_begins_anew_with_each_try() -> None:
    slate = Slate()
    slate.begin(0, 1, time.monotonic_ns() - 50 * 10**9)
    assert slate.read().seconds >= 50
    slate.again(time.monotonic_ns())
    assert slate.read().seconds < 50
    slate.end()
    assert (slate.read().busy, slate.read().seconds) == (False, 0.0)
