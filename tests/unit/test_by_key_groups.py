"""The partials of all keys: which keys are shown, and what becomes of them as they are folded, merged, cut and sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mapreduce_rq.core.reducers.base import BadValue, TermFailed
from mapreduce_rq.core.reducers.by_key import PAIRS, ByKey, Groups
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.core.reducers.per_key.table import LEAST_KEYS
from mapreduce_rq.core.reducers.sums import BATCH

SUM = ByKey({"": reducer("int_sum")})
LISTS = ByKey({"": reducer("list")})
COLUMNS = ByKey({"a": reducer("int_sum"), "b": reducer("list")})


def made(kind: ByKey, *batches: list[Any]) -> Groups:
    found, term = kind.zero(), 0
    for batch in batches:
        found = kind.fold_into(found, term, batch)
        term += len(batch)
    return found


def test_a_new_key_of_a_known_type_is_shown_after_types_have_mixed() -> None:
    groups = made(SUM, [(1, 1)], [(2.5, 1), (1.0, 4)], [(7, 1), (1, 2)])
    assert list(SUM.finish_native(groups).items()) == [(1, 7), (2.5, 1), (7, 1)]
    assert [type(key) for key in SUM.finish_native(groups)] == [int, float, int]


def test_a_copy_of_mixed_keys_is_its_own() -> None:
    left, right = made(LISTS, [(1, "a"), (2.5, "b")]), made(LISTS, [(True, "c"), (9, "d")])
    both = LISTS.merge(left, right)
    assert LISTS.finish_native(both) == {1: ["a", "c"], 2.5: ["b"], 9: ["d"]}
    assert LISTS.finish_native(left) == {1: ["a"], 2.5: ["b"]}
    assert list(LISTS.finish_native(right)) == [True, 9]
    whole = LISTS.merge(made(LISTS, [("x", 1)]), made(LISTS, [("y", 2)]))
    assert whole.names is None
    assert LISTS.finish_native(whole) == {"x": [1], "y": [2]}


@pytest.mark.parametrize("keys", [[3, 1, 2], [3, 1.0, 2], ["c", "a", "b"]])
def test_some_of_the_keys_have_what_they_had(keys: list[Any]) -> None:
    groups = made(SUM, [(key, at) for at, key in enumerate(keys)])
    some = SUM.only(groups, keys[:2])
    assert SUM.rows(some) == sorted(zip(keys[:2], (0, 1), strict=True))
    assert SUM.rows(groups) == sorted(zip(keys, (0, 1, 2), strict=True))
    grown = SUM.fold_into(some, 5, [(keys[2], 9), (keys[0], 1)])
    assert SUM.rows(grown) == sorted(zip(keys, (1, 1, 9), strict=True))


@pytest.mark.parametrize("kind", [SUM, LISTS, COLUMNS], ids=["sum", "list", "columns"])
@pytest.mark.parametrize("keys", [[3, 1, 2], [3, 1.0, 2], ["c", "a", "b"], [(1, "x"), (2, None)], ["\udc80", "a"], []])
def test_bytes_give_the_same_back_and_any_order_the_same_total(kind: ByKey, keys: list[Any]) -> None:
    value: Any = {"a": 1, "b": 2} if kind is COLUMNS else 5
    groups, other = made(kind, [(key, value) for key in keys]), made(kind, *[[(key, value)] for key in keys[::-1]])
    again = kind.decode(kind.encode(groups))
    assert kind.rows(again) == kind.rows(groups) == kind.rows(other)
    assert kind.canonical(again) == kind.canonical(groups) == kind.canonical(other)
    assert kind.finish_native(again) == {key: kind.finish_native(groups)[key] for key in keys}


def test_bytes_of_another_number_of_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="2 columns where there should be 1"):
        SUM.decode(COLUMNS.encode(made(COLUMNS, [("k", {"a": 1, "b": 2})])))


def test_results_are_a_dictionary_or_pairs() -> None:
    rows = [("b", 2), ("a", 5), ("c", 5)]
    pairs = ByKey({"": reducer("int_sum")}, sorted=True)
    assert SUM.finish_native(made(SUM, rows)) == dict(rows)
    assert pairs.finish_native(made(pairs, rows)) == [("a", 5), ("b", 2), ("c", 5)]
    named = [(key, {"a": value, "b": key}) for key, value in rows]
    assert COLUMNS.finish_native(made(COLUMNS, named))["b"] == {"a": 2, "b": ["b"]}
    columns = ByKey({"a": reducer("int_sum"), "b": reducer("list")}, sorted=True)
    assert columns.finish_native(made(columns, named))[0] == ("a", {"a": 5, "b": ["a"]})


def test_the_largest_come_first_and_of_equal_ones_the_first_keys() -> None:
    top = ByKey({"": reducer("int_sum")}, top=2)
    assert top.finish_native(made(top, [("b", 2), ("c", 5), ("a", 5), ("d", 1)])) == [("a", 5), ("c", 5)]
    spread = ByKey({"": reducer("variance")}, top=3)
    found = spread.finish_native(made(spread, [("b", 1), ("c", 1), ("a", 1), ("c", 3)]))
    assert [key for key, _ in found] == ["c", "a", "b"], "of one value it is nan, the smallest"


def test_results_without_an_order_have_no_largest() -> None:
    top = ByKey({"": reducer("counter")}, top=1)
    with pytest.raises(ValueError, match="top needs results that have an order, and these are of type Counter"):
        top.finish_native(made(top, [("a", 1), ("b", 1)]))


@pytest.mark.parametrize("value", [None, "ab", b"ab", bytearray(b"ab"), memoryview(b"ab"), 5, object()])
def test_what_is_no_pair_is_refused_by_its_term(value: Any) -> None:
    with pytest.raises(BadValue) as refused:
        made(SUM, [("k", 1), [("k", 1)]], [("k", 1), value])
    assert (refused.value.term, refused.value.takes) == (3, PAIRS)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([("k", 1, 2)], "pairs"),
        ([("k",)], "pairs"),
        (["ab"], "pairs"),
        (("k", 1, 2), "pairs"),
        ([([], 1)], "keys|text|hash|None"),
    ],
)
def test_pairs_that_are_none_are_refused_by_their_term(value: Any, wanted: str) -> None:
    with pytest.raises(BadValue, match=wanted) as refused:
        made(SUM, [("k", 1), value])
    assert refused.value.term == 1


def test_an_iterable_that_raises_fails_its_term() -> None:
    def pairs() -> Any:
        yield ("k", 1)
        raise KeyError("their own")

    with pytest.raises(TermFailed) as failed:
        made(SUM, [("k", 1), ("k", 1), pairs()])
    assert failed.value.term == 2
    assert type(failed.value.__cause__) is KeyError


def test_a_column_that_is_missing_or_of_another_type_is_named() -> None:
    for row in ({"a": 1}, 5, None, [1, 2]):
        with pytest.raises(BadValue, match="for each key mappings with 'a', 'b'") as refused:
            made(COLUMNS, [("k", {"a": 1, "b": 2})], [("k", {"a": 1, "b": 2}), ("k", row)])
        assert refused.value.term == 2
    with pytest.raises(BadValue, match="for 'a'") as refused:
        made(COLUMNS, [("k", {"a": 1, "b": 2}), ("k", {"a": "x", "b": 2})])
    assert refused.value.term == 1


def test_dictionaries_lists_and_others_give_their_pairs() -> None:
    rows = [{"a": 1, "b": 2}, [("a", 3)], ("a", 4), iter([("c", 1), ("a", 1)]), {}, []]
    assert SUM.finish_native(made(SUM, rows)) == {"a": 9, "b": 2, "c": 1}
    assert SUM.finish_native(made(SUM, rows[:1] * 3)) == {"a": 3, "b": 6}
    assert SUM.finish_native(made(SUM, [[("a", 1)], [("b", 1), ("a", 1)]])) == {"a": 2, "b": 1}


def test_which_of_two_equal_keys_is_shown_does_not_depend_on_their_order() -> None:
    for batches in (
        [[(1, 1)], [(1.0, 1), (2.5, 1)]],
        [[(1.0, 1)], [(2.5, 1)], [(1, 1)]],
        [[(2.5, 1), (1.0, 1), (1, 1)]],
    ):
        found = SUM.finish_native(made(SUM, *batches))
        assert found == {1: 2, 2.5: 1}
        assert [type(key) for key in found] == [int, float]


def test_keys_are_taken_in_their_normal_form() -> None:
    found = SUM.finish_native(made(SUM, [(np.int64(3), 1), (3, 1)], [(np.str_("a"), 1), (-0.0, 1)], [(0.0, 1)]))
    assert found == {0.0: 2, 3: 2, "a": 1}
    assert {type(key) for key in found} == {float, int, str}
    assert str(next(iter(found))) == "0.0"


def test_a_batch_that_begins_as_the_last_one_is_added_once() -> None:
    assert SUM.finish_native(made(SUM, [(1, 1)], [(1, 1), (2, 5), ("a", 7)])) == {1: 2, 2: 5, "a": 7}
    floats = ByKey({"": reducer("sum")})
    found = made(floats, [("a", 1.5)], [("a", 1.0), ("b", 0.5), ("b", 3), (7, 2.0)], [("a", 1.0), ("c", 1.0)])
    assert floats.finish_native(found) == {7: 2.0, "a": 3.5, "b": 3.5, "c": 1.0}


def test_rows_of_scattered_terms_are_added_to_what_there_is() -> None:
    groups = LISTS.fold_at([2, 5], [("a", 1), [("b", 2), ("a", 3)]])
    assert LISTS.fold_at([9], [("a", 4)], groups) is groups
    assert LISTS.finish_native(groups) == {"a": [1, 3, 4], "b": [2]}
    with pytest.raises(BadValue) as refused:
        LISTS.fold_at([2, 9], [("a", 1), 5])
    assert refused.value.term == 9


@pytest.mark.parametrize("kind", [SUM, LISTS], ids=["sum", "list"])
def test_encoded_partials_are_merged_in_their_order(kind: ByKey) -> None:
    first, *others = [made(kind, [(key, at) for key in "abcd"[: at + 1]]) for at in range(3)]
    found = kind.merge_encoded(first, [kind.encode(each) for each in others])
    expected: dict[str, Any] = {"a": 3, "b": 3, "c": 2} if kind is SUM else {"a": [0, 1, 2], "b": [1, 2], "c": [2]}
    assert kind.finish_native(found) == expected


def test_the_smaller_partial_is_merged_into_the_larger_one() -> None:
    small, large = made(SUM, [(1, 1)]), made(SUM, [(key, 1) for key in range(100)])
    assert SUM.merge_encoded(small, [SUM.encode(large)]) is not small
    assert SUM.merge_encoded(large, [SUM.encode(small)]) is large


@pytest.mark.parametrize("values", [int, float])
def test_many_whole_keys_travel_as_a_table_and_come_in_order(values: type) -> None:
    sums = ByKey({"": reducer("sum")})
    number = max(LEAST_KEYS, 1 + BATCH)  # numpy is there, so that is enough
    rows = [(key * 7919 % 1_000_003, values(key)) for key in range(number)]
    groups = made(sums, rows)
    sent = sums.encode(groups)
    again = sums.decode(sent)
    assert len(sent) < 20 * number
    assert sums.rows(again) == sums.rows(groups) == sorted(rows)
    assert list(sums.finish_native(again)) == sorted(key for key, _ in rows)
    assert sums.canonical(again) == sums.canonical(groups)
    mixed = sums.fold_into(again, number, [(0.5, values(1)), (2.0, values(3))])
    assert sums.rows(mixed)[:2] == [(0, 0), (0.5, 1)]


def test_the_largest_results_come_first() -> None:
    top = ByKey({"": reducer("int_sum")}, top=3)
    assert top.finish_native(made(top, [("a", 1), ("b", 9), ("c", 5), ("d", 7)])) == [("b", 9), ("d", 7), ("c", 5)]


def test_what_is_said_of_a_result() -> None:
    exact = SUM.describe(made(SUM, [("b", 2), ("a", 5)]))
    assert (exact.value, exact.native) == ("a\t5\nb\t2", {"a": 5, "b": 2})
    assert (exact.bound, exact.bound_kind, exact.details, exact.notes) == ("0", "exact", {"keys": 2}, ())
    vague = ByKey({"n": reducer("distinct"), "a": reducer("int_sum")})
    found = vague.describe(made(vague, [("k", {"n": 1, "a": 4})]))
    assert (found.bound, found.bound_kind, found.notes) == (None, "none", ("approximate: distinct",))
    assert (found.details, found.value) == ({"keys": 1, "columns": ["n", "a"]}, "k\t1\t4")
