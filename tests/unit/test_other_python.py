"""A pickled function is bytecode of one Python: another refuses it before it reads it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mapreduce_rq.core.reducers.sums import IntSum
from mapreduce_rq.errors import VersionSkew
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.pickling import Pickles
from mapreduce_rq.functions.shipping import function_params, reducer_params
from mapreduce_rq.functions.trust import Trust

PRIVATE = Trust(private=True)


def params() -> dict[str, Any]:
    pickles = Pickles()
    found = function_params(lambda k: k + 1, PRIVATE, pickles)
    found |= reducer_params(IntSum(), ..., "ordered", None, PRIVATE, pickles=pickles)
    return found | {"terms": 3}


def test_the_same_python_maps_it() -> None:
    made = FunctionComputation.to_map(params(), PRIVATE)
    assert made.map(0, 3) == 6


@pytest.mark.parametrize("without", [(), ("pickle",), ("reduce_pickle",)])
def test_another_refuses_before_it_reads(without: tuple[str, ...]) -> None:
    shipped = params() | {"python": "2.7", "label": "shop.py"}
    for name in {"pickle", "reduce_pickle"} - set(without):
        shipped[name] = b"no pickle at all"
    for name in without:
        del shipped[name]
    with pytest.raises(VersionSkew, match=r"pickled by Python 2\.7") as refused:
        FunctionComputation.to_map(shipped, PRIVATE)
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in str(refused.value)


def test_a_function_by_name_is_of_any() -> None:
    shipped = function_params("math:sqrt", PRIVATE, Pickles()) | {"terms": 3, "python": "2.7"}
    assert FunctionComputation.to_map(shipped, PRIVATE).function(4) == 2.0
