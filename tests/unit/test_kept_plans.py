"""A plan that is kept for the next call is as one made anew, or is made anew."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mapreduce_rq.client.planning import Planner
from mapreduce_rq.core.messages import Limits, Spec
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.errors import BadFunction, BadParameter, WrongType
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.kernel import kernel
from mapreduce_rq.functions.pickle_codec import PickleCodec
from mapreduce_rq.functions.pickling import Pickles
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock

SINGLES = Limits(chunk=1)
NAME = "kept_plans_made_here"
FUNCTIONS = ("sqrt", "a name", "abs", "a class", "a kernel")
GIVEN = ("nothing more", "a reducer", "limits", "a chunksize")


def new_planner() -> Planner:
    return Planner(Clock(), Trust(private=True), None, lambda _name, _body: None)


def told(planned: tuple[Spec, Any, Any]) -> tuple[Any, ...]:
    """All that a plan says, but for what each job has of its own."""
    spec, computation, source = planned
    assert source is None
    about = {name: getattr(computation, name) for name in ("total", "label", "vectorised", "libm", "samples", "wants")}
    return msgspec.structs.replace(spec, job="", created=0.0), computation.params, about, type(computation.reducer)


@kernel
def spans(lo: int, hi: int) -> list[int]:
    return list(range(lo, hi))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of a project, imported from a folder of its own."""
    (tmp_path / f"{NAME}.py").write_text("def f(k):\n    return k\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(NAME)
    sys.modules.pop(NAME, None)
    sys.modules.pop(f"{NAME}_more", None)


@pytest.mark.parametrize("function", [math.sqrt, "math:cos", abs, complex, spans], ids=FUNCTIONS)
@pytest.mark.parametrize("given", [{}, {"reduce": "list"}, {"limits": SINGLES}, {"chunksize": 7}], ids=GIVEN)
def test_a_kept_plan_is_as_one_made_anew(function: Callable[..., Any] | str, given: dict[str, Any]) -> None:
    planner = new_planner()
    jobs = set()
    for items in (range(3), range(3), range(3, 9), range(0), range(-5, 5)):
        planned = planner.function(function, items, **given)
        assert told(planned) == told(new_planner().function(function, items, **given))
        jobs.add(planned[0].job)
    assert len(jobs) == 5
    if function is not spans:
        backwards = range(9, 0, -2)
        kept = planner.function(function, backwards, **given)
        assert told(kept) == told(new_planner().function(function, backwards, **given))


def test_two_jobs_share_no_reducer() -> None:
    planner = new_planner()
    _, first, _ = planner.function(math.sqrt, range(3))
    _, second, _ = planner.function(math.sqrt, range(3))
    assert first is not second
    assert first.reducer is not second.reducer


def test_a_kept_plan_refuses_what_a_new_one_refuses() -> None:
    planner = new_planner()
    planner.function(spans, range(3), chunksize=1)
    planner.function(spans, range(3), limits=SINGLES)
    with pytest.raises(WrongType, match="chunksize is True"):
        planner.function(spans, range(3), chunksize=True)
    with pytest.raises(WrongType, match="star is 0"):
        planner.function(spans, range(3), star=0)  # type: ignore[arg-type]  # as users do
    with pytest.raises(BadFunction, match="step 1"):
        planner.function(spans, range(0, 6, 2), chunksize=1)
    with pytest.raises(BadParameter, match="differ"):
        planner.function(spans, range(3), limits=SINGLES, chunksize=2)
    with pytest.raises(BadParameter, match="64 bits"):
        planner.function(spans, range(1 << 63, (1 << 63) + 1), chunksize=1)


def test_a_module_that_is_reloaded_has_another_plan(module: Any) -> None:
    planner = new_planner()
    first = planner.function(f"{NAME}:f", range(3))[0].params["code"]
    assert planner.function(f"{NAME}:f", range(3))[0].params["code"] == first
    old = module.f
    by_object = planner.function(old, range(3))[0].params
    assert by_object["code"] == first
    Path(module.__file__).write_text("def f(k):\n    return k * k * k\n")
    importlib.reload(module)
    assert planner.function(f"{NAME}:f", range(3))[0].params["code"] != first
    assert planner.function(module.f, range(3))[0].params["code"] != first
    assert "pickle" in planner.function(old, range(3))[0].params  # no name leads to it any more


def test_a_name_that_leads_elsewhere_has_another_plan(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    planner = new_planner()
    f = module.f
    for _ in range(2):
        assert planner.function(f, range(3))[0].params["function"] == f"{NAME}:f"
    monkeypatch.setattr(module, "f", lambda k: k)
    assert "pickle" in planner.function(f, range(3))[0].params
    monkeypatch.setattr(module, "f", f)
    assert planner.function(f, range(3))[0].params["function"] == f"{NAME}:f"


def test_a_function_that_declares_something_else_has_another_plan(module: Any) -> None:
    planner = new_planner()
    assert [planner.function(module.f, range(3))[1].vectorised for _ in range(2)] == [False, False]
    kernel(module.f)
    assert planner.function(module.f, range(3))[1].vectorised


def test_a_module_that_is_imported_meanwhile_is_in_the_plan(module: Any, tmp_path: Path) -> None:
    planner = new_planner()
    for _ in range(2):
        assert f"{NAME}_more" not in planner.function(module.f, range(3))[0].params.get("around", {})
    (tmp_path / f"{NAME}_more.py").write_text("def g(k):\n    return k\n")
    module.more = importlib.import_module(f"{NAME}_more")
    assert f"{NAME}_more" in planner.function(module.f, range(3))[0].params["around"]


def test_two_jobs_of_one_kept_plan_share_nothing_that_changes() -> None:
    """Two threads may lead them at the same time."""
    planner = new_planner()
    planner.function(math.sqrt, range(3), reduce="list")
    (_, one, _), (_, other, _) = (planner.function(math.sqrt, range(3), reduce="list") for _ in range(2))
    assert isinstance(one, FunctionComputation)
    assert isinstance(other, FunctionComputation)
    shared = [
        name
        for name, value in vars(one).items()
        if value is vars(other).get(name) and isinstance(value, list | dict | set | Reducer | PickleCodec | Pickles)
    ]
    assert shared == []


def test_a_job_of_a_kept_plan_does_not_begin_where_an_earlier_one_was() -> None:
    planner = new_planner()
    _, first, _ = planner.function(math.sqrt, range(3), reduce="list")
    first.map(0, 2)
    _, second, _ = planner.function(math.sqrt, range(10, 20), reduce="list")
    assert second.total == 10
    assert second.reducer.finish_native(second.map(0, 3)) == [math.sqrt(k) for k in (10, 11, 12)]
