"""What a caller gives as a number, from numpy or as a fraction, and what then travels: Python's own numbers."""

from __future__ import annotations

import math
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Files
from mapreduce_rq.computations import load
from mapreduce_rq.core.given import plain
from mapreduce_rq.core.messages import Limits, Spec, check_limits
from mapreduce_rq.core.reducers.combine import Combine
from mapreduce_rq.core.reducers.options import travelling
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadParameter

HALF = "caf\udce9.txt"  # the name of a file in Latin-1, as Python gives it


class Own(int):
    """A number of somebody's own."""

    def __int__(self) -> int:
        return 99


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


class Size(IntEnum):
    SMALL = 3


def test_subclasses_and_numbers_of_numpy_become_pythons_own() -> None:
    given = [
        Own(3),
        Size.SMALL,
        np.int8(3),
        np.float64(2.5),
        np.bool_(True),
        Text("x"),
        np.array([1, 2]),
        (Own(1), [2]),
    ]
    assert repr(plain(given)) == "[3, 3, 3, 2.5, True, 'x', [1, 2], [1, [2]]]"
    thing = object()
    assert plain(thing) is thing


@pytest.mark.parametrize(
    ("name", "options", "found"),
    [
        ("histogram", {"edges": np.linspace(0, 1, 5)}, {"edges": [0, 0.25, 0.5, 0.75, 1]}),
        ("histogram", {"edges": range(3)}, {"edges": [0, 1, 2]}),
        ("histogram", {"edges": (Fraction(1, 2), np.float32(1), Decimal(2))}, {"edges": [0.5, 1.0, 2.0]}),
        ("histogram", {"edges": None, "low": np.int64(3), "bins": np.uint8(4)}, {"low": 3, "bins": 4}),
        ("histogram", {"low": -(2**70), "high": 2**64}, {"low": -(2.0**70), "high": 2.0**64}),
        ("quantiles", {"q": np.float64(0.5)}, {"q": 0.5}),
        ("quantiles", {"q": np.array([0.1, 0.9])}, {"q": [0.1, 0.9]}),
        ("quantiles", {"q": Fraction(1, 4)}, {"q": 0.25}),
        ("mean", {"confidence": Decimal("0.9")}, {"confidence": 0.9}),
        ("topk", {"k": np.int64(3)}, {"k": 3}),
    ],
)
def test_options_are_taken_as_they_come_from_numpy(name: str, options: dict[str, Any], found: dict[str, Any]) -> None:
    made = travelling(name, options)
    assert repr(made) == repr(found) or made == found
    for value in made.values():
        assert all(type(one) in {int, float} for one in (value if isinstance(value, list) else [value]))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "topk",
            {"k": 2**64},
            "the reducer topk: k is 18,446,744,073,709,551,616, and must be a whole",
        ),
        ("topk", {"k": 2.5}, "k is 2.5, and must be a whole number"),
        ("histogram", {"bins": True}, "bins is True, and must be a whole number"),
        ("histogram", {"low": 10**5000}, r"low is 2\*\*16609 or more, and must be a number"),
        ("histogram", {"low": "3"}, "low is '3', and must be a number"),
        ("histogram", {"edges": 3}, "edges is 3, and must be a list of numbers"),
        ("histogram", {"edges": "012"}, "edges is '012', and must be a list of numbers"),
        ("histogram", {"edges": [[1, 2]]}, "edges is a list, and must be a number"),
        ("quantiles", {"q": 1j}, "q is a complex, and must be a number"),
        ("mean", {"confidence": Decimal("sNaN")}, "confidence is a Decimal, and must be a number"),
    ],
)
def test_options_of_another_kind_are_refused_by_name(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        travelling(name, options)


def test_options_of_a_plugins_reducer_are_plain_data() -> None:
    assert travelling("theirs", {"how": np.float64(2.5), "which": {"a": [1]}}) == {"how": 2.5, "which": {"a": [1]}}
    for given in (object(), 2**64, {"a": 1j}):
        with pytest.raises(BadParameter, match=r"the reducer theirs: how is .*, and must be plain data"):
            travelling("theirs", {"how": given})


def sealed(limits: Limits) -> Limits:
    """The limits as a worker reads them."""
    check_limits(limits)
    spec = Spec(job="x", computation="sum", params={}, total=1, limits=limits, created=1.0, version="0")
    codec = Codecs("queue").spec.at("x")
    found: Limits = codec.open(codec.seal(spec)).limits
    return found


def test_limits_travel_as_they_were_computed() -> None:
    given: dict[str, Any] = {"chunk": np.int64(5), "deadline": np.float64(2.5), "rel_tol": 2**70}
    given |= {"backoff": np.float32(0.5), "on_error": np.str_("skip")}
    found = sealed(Limits(**given))
    assert (found.chunk, found.deadline, found.rel_tol, found.backoff) == (5, 2.5, 2.0**70, 0.5)
    assert found.on_error == "skip"
    with pytest.raises(BadParameter, match=r"abs_tol is 2\*\*16609 or more, and must be above 0"):
        check_limits(Limits(abs_tol=10**5000))
    with pytest.raises(BadParameter, match="rel_tol is nan"):
        check_limits(Limits(rel_tol=np.float64(math.nan)))


def test_parameters_are_taken_from_numpy() -> None:
    exp = load("exp")
    assert exp.create({"x": np.int64(2), "terms": np.int64(5)}).params == exp.create({"x": 2, "terms": 5}).params


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(("exp", {"x": HALF}), ("exp", {"x": 2, "terms": HALF}), ("const", {"name": HALF})),
        *(("wordcount", {"files": [HALF]}), ("wordcount", {"files": [HALF], "sizes": [1], "units": [1]})),
    ],
)
def test_a_text_that_utf_8_cannot_write_is_refused_by_name(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(BadParameter, match=r"'caf\\udce9.txt' is not (UTF-8|a number)"):
        load(name).create(params)


@pytest.mark.parametrize("ship", [False, True])
def test_so_is_the_name_of_a_file(tmp_path: Path, ship: bool) -> None:
    (tmp_path / HALF).write_bytes(b"one\n")
    with pytest.raises(BadParameter, match=r"files: the name .*caf\\udce9.txt' is not UTF-8.*: rename the file"):
        Files(tmp_path / HALF, ship=ship).corpus()


def test_the_law_of_a_combine_is_refused_as_any_other() -> None:
    with pytest.raises(BadParameter, match="law: 'fast' is not one of ordered, commutative"):
        Combine(int, max, max, law="fast")
