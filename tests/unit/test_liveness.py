"""Who is dead, told by looks alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.fleet.liveness import DEAD_AFTER, FORGOTTEN_AFTER, Watch

FIRST = b"1"


def looked(*values: bytes) -> Watch:
    """A watch that has seen one worker with these bytes, look by look."""
    watch = Watch()
    for value in values:
        watch.look({"w": value})
    return watch


def test_five_looks_without_a_change_and_it_is_given_up() -> None:
    assert looked(*[FIRST] * DEAD_AFTER).dead() == []
    assert looked(*[FIRST] * (DEAD_AFTER + 1)).dead() == ["w"]


def test_part_of_a_look_counts_as_that_part() -> None:
    watch = looked(FIRST)
    for _ in range(4 * DEAD_AFTER - 1):
        watch.look({"w": FIRST}, 0.25)
    assert watch.dead() == []
    watch.look({"w": FIRST}, 0.25)
    assert watch.dead() == ["w"]


def test_any_change_begins_the_count_anew() -> None:
    watch = looked(*[FIRST] * DEAD_AFTER, b"2", *[FIRST] * DEAD_AFTER)
    assert watch.dead() == []
    watch.look({"w": FIRST})
    assert watch.dead() == ["w"]


def test_it_comes_back_to_life() -> None:
    watch = looked(*[FIRST] * 20)
    watch.look({"w": b"2"})
    assert watch.dead() == []
    assert watch.alive() == 1


def test_an_obituary_is_believed_at_once() -> None:
    watch = looked(b"X:killed by SIGKILL")
    assert watch.dead() == ["w"]
    assert watch.alive() == 0
    assert watch.forgotten() == []  # its last pop may still be under way


def test_who_is_struck_off_has_been_dead_for_long() -> None:
    assert FORGOTTEN_AFTER >= 2 * DEAD_AFTER
    assert looked(*[FIRST] * FORGOTTEN_AFTER).forgotten() == []
    assert looked(*[FIRST] * (FORGOTTEN_AFTER + 1)).forgotten() == ["w"]


def test_who_is_gone_from_the_list_is_nobody() -> None:
    watch = looked(*[FIRST] * 20)
    watch.look({})
    assert watch.dead() == watch.forgotten() == []
    watch.look({"w": FIRST})
    assert watch.dead() == []


def test_who_has_moved_is_remembered_as_such() -> None:
    assert not looked(FIRST, FIRST).moved("w")
    assert looked(FIRST, b"2", b"2").moved("w")
    watch = looked(FIRST, b"2")
    watch.look({})
    watch.look({"w": b"2"})
    assert not watch.moved("w")


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from([b"1", b"2"])), max_size=40))
def test_dead_are_exactly_those_with_so_many_equal_looks(looks: list[dict[str, bytes]]) -> None:
    watch = Watch()
    for number, found in enumerate(looks):
        watch.look(found)
        for name in "abc":
            tail = [one.get(name) for one in looks[: number + 1]][-DEAD_AFTER - 1 :]
            unchanged = len(tail) > DEAD_AFTER and tail[0] is not None and len(set(tail)) == 1
            assert (name in watch.dead()) == unchanged
