"""Each argument of each public function, given each kind of thing: it is taken, or one line says what is wanted."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing import TimeoutError as LateError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import (
    AsyncClient,
    Client,
    Combine,
    Files,
    Limits,
    MrqError,
    UsageError,
    by_key,
    executor,
    kernel,
    random_for,
)
from mapreduce_rq.client.executor import Executor
from mapreduce_rq.client.job import Job
from mapreduce_rq.client.pool import Pool
from mapreduce_rq.client.pool_results import AsyncResult, IMapIterator
from mapreduce_rq.core.given import shown


class Thing:
    """Nothing that any argument wants. No message may call it."""

    def __repr__(self) -> str:
        raise RuntimeError("shown")


GIVEN: list[Any] = [
    *(Thing(), "x", "a\nb", b"x", 3, 10**5000, 2.5, math.nan, True),
    *([3], {3: 3}, {"x": 3}),
    *(-0.0, math.inf, 10**18 + 1, 2**64, "", "\udc80"),
    *(np.int64(3), np.float64(2.5), np.array(3), Fraction(1, 2)),
]
"""What each argument is given in its turn."""

ANYTHING = {"shared", "zero", "self", "more", "params", "how", "args", "client", "paths", "iterables", "client_how"}
"""Arguments that may be anything, or have no name of their own."""

BY_OTHER_WORDS = {"function": " a function", "pairs": "is not a function", "seed": "a seed"}
"""What messages say in the place of an argument's name."""

INNER = [
    *("has no attribute", "not supported between", "object is not", "Expected `", "must be real number", "convert"),
    *("unsupported operand", "cannot be interpreted", "argument must be", "expected str", "too large to", "shown"),
    *("required, not", "got an unexpected", "unhashable", "string argument", "not callable", "not subscriptable"),
]
"""Words of Python's and of libraries, which do not say which argument is wrong."""


@dataclass
class Door:
    call: Callable[..., Any]
    good: dict[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    positional: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        taken = [
            name
            for name, one in inspect.signature(self.call).parameters.items()
            if one.kind not in {one.VAR_KEYWORD, one.VAR_POSITIONAL} and name not in ANYTHING
        ]
        return list(dict.fromkeys([*taken, *self.names]))

    def with_one(self, name: str, given: Any) -> Any:
        how = self.good | {name: given}
        first = [how.pop(one) for one in self.positional]
        return self.call(*first, **how)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client("pipes:", local=1) as made:
        yield made


def same(*_: Any, **__: Any) -> int:
    return 1


def spans(lo: int, hi: int) -> int:
    return hi - lo


CALLS = ["star", "kwargs", "chunksize", "limits", "setup"]
FOLDS = ["reduce", "law", "options", "return_exceptions"]
LED = ["progress", "observer", "wait_workers"]
HERE = str(Path(__file__).resolve())
ONE = {"function": same, "items": range(3)}
POOLED = {"func": same, "iterable": range(3)}


def ended(values: Any) -> Any:
    if isinstance(values, (IMapIterator, Iterator)):
        list(values)
    if isinstance(values, AsyncResult):
        values.get(60)
    if isinstance(values, Job):
        values.result(60)
    return values


def doors(client: Client) -> dict[str, Door]:
    pool, futures = client.pool(), client.executor()
    job = client.submit_function(same, range(3), reduce="list")
    job.result(60)
    mapped = pool.map_async(same, range(3))
    mapped.get(60)
    two = ("function", "items")
    found = {
        "Client": Door(Client, {"url": "pipes:", "local": 1}),
        "AsyncClient": Door(lambda **how: asyncio.run(opened(**how)), {"url": "pipes:", "local": 1}, ["url", "queue"]),
        "executor": Door(executor, {"url": "pipes:", "max_workers": 1}, ["queue"]),
        "map_reduce": Door(client.map_reduce, ONE, LED + CALLS + FOLDS, two),
        "reduce_by_key": Door(client.reduce_by_key, {"pairs": pair, "items": range(3)}, CALLS, ("pairs", "items")),
        "imap": Door(client.imap, ONE, CALLS, two),
        "imap_unordered": Door(client.imap_unordered, ONE, [*CALLS, "buffersize"], two),
        "starmap": Door(client.starmap, {"function": same, "items": [(1,)]}, ["kwargs", "chunksize"], two),
        "submit_function": Door(client.submit_function, ONE, CALLS + FOLDS, two),
        "submit": Door(client.submit, {"computation": "exp", "x": 2, "terms": 5}, [], ("computation",)),
        "job": Door(client.job, {"job": "x"}),
        "retry": Door(client.retry, {"job": "x"}),
        "cancel": Door(client.cancel, {"job": "x"}),
        "job_state": Door(client.job_state, {"job": "x"}),
        "make executor": Door(client.executor),
        "make pool": Door(client.pool),
        "Job.result": Door(job.result),
        "Job.wait": Door(job.wait),
        "Job.cancel": Door(job.cancel),
        "Job.when_done": Door(job.when_done),
        "Executor.map": Door(futures.map, {"fn": same, "one": [1]}, [], ("fn", "one")),
        "Executor.shutdown": Door(lambda **how: Executor(client).shutdown(**how), {}, ["wait", "cancel_futures"]),
        "Pool.apply": Door(pool.apply, {"func": same, "args": (1,)}),
        "Pool.apply_async": Door(pool.apply_async, {"func": same, "args": (1,)}),
        "Pool.map": Door(pool.map, POOLED),
        "Pool.starmap": Door(pool.starmap, {"func": same, "iterable": [(1,)]}),
        "Pool.map_async": Door(pool.map_async, POOLED),
        "Pool.starmap_async": Door(pool.starmap_async, {"func": same, "iterable": [(1,)]}),
        "Pool.imap": Door(pool.imap, POOLED),
        "Pool.imap_unordered": Door(pool.imap_unordered, POOLED),
        "AsyncResult.get": Door(mapped.get),
        "AsyncResult.wait": Door(mapped.wait),
        "IMapIterator.next": Door(lambda **how: late(pool.imap(same, [1]).next, **how), {}, ["timeout"]),
        "Limits": Door(lambda **how: client.map_reduce(same, range(3), limits=Limits(**how)), {}, limit_names()),
        "by_key": Door(lambda **how: client.map_reduce(pair, range(3), reduce=by_key(**how)), {}, by_key_names()),
        "Files": Door(
            lambda path, **how: Files(path, **how).corpus(),
            {"path": HERE},
            file_names(),
            ("path",),
        ),
        "Combine": Door(Combine, {"create": int, "add": pair, "merge": pair}),
        "kernel": Door(kernel, {"function": spans}, [], ("function",)),
        "random_for": Door(random_for, {"term": 3}),
    }
    assert isinstance(pool, Pool)
    return found


def late(call: Callable[..., Any], **how: Any) -> None:
    with suppress(TimeoutError):
        call(**how)


async def opened(**how: Any) -> None:
    async with AsyncClient(**how):
        pass


def pair(k: Any, *_: Any, **__: Any) -> Any:
    return str(k), 1


def limit_names() -> list[str]:
    return list(Limits.__struct_fields__)


def by_key_names() -> list[str]:
    return [name for name in inspect.signature(by_key).parameters if name != "zero"]


def file_names() -> list[str]:
    return [name for name in inspect.signature(Files).parameters if name != "paths"]


def test_each_argument_is_taken_or_refused_in_one_line_that_names_it(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a name is a path, too
    wrong = []
    for where, door in doors(client).items():
        for name in door.arguments():
            for given in GIVEN:
                try:
                    made = ended(door.with_one(name, given))
                except Exception as error:
                    if not helps(error, name, given):
                        wrong.append(f"{where}({name}={shown(given)}): {type(error).__name__}: {str(error)[:150]!r}")
                else:
                    if isinstance(made, Client):
                        made.close()
                    elif isinstance(made, Executor):
                        made.shutdown()
                    if isinstance(given, Thing):
                        wrong.append(f"{where}({name}={shown(given)}) was taken")
    assert not wrong, "\n".join(wrong)


UNSEEN = {"Executor.map", "Executor.shutdown", "AsyncResult.get", "AsyncResult.wait", "IMapIterator.next", "Pool.apply"}
"""Doors that the test wraps, or whose names are the originals'."""


def test_an_argument_that_is_not_there_is_told_of_the_function_that_was_called(client: Client) -> None:
    wrong = []
    for where, door in doors(client).items():
        named = where.removeprefix("make ").rpartition(".")[2]
        for name in ("chunk", "detached"):
            if where == "Limits" and name == "chunk":
                continue
            try:
                ended(door.with_one(name, 3))
            except TypeError as error:
                if f"{named}()" not in str(error) and f"{named}.__init__()" not in str(error) and where not in UNSEEN:
                    wrong.append(f"{where}: {error}")
            except UsageError as error:
                if where != "submit" or f"exp has no parameter {name}" not in str(error):
                    wrong.append(f"{where}: {error}")
            else:
                wrong.append(f"{where}({name}=3) was taken")
    assert not wrong, "\n".join(wrong)


async def of_a_loop(name: str, *given: Any, **how: Any) -> None:
    async with AsyncClient("pipes:", local=1) as mrq:
        made = getattr(mrq, name)(*given, **how)
        if inspect.isawaitable(made):
            await made


@pytest.mark.parametrize(
    "name", ["map_reduce", "submit_function", "reduce_by_key", "imap", "imap_unordered", "starmap"]
)
def test_so_it_is_of_a_client_for_asyncio(name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"^AsyncClient\.{name}\(\) takes no argument chunk: did you mean chunksize\?$"
    ):
        asyncio.run(of_a_loop(name, same, [1], chunk=3))


def test_keys_of_many_parts_come_to_a_loop_too() -> None:
    async def run() -> list[Any]:
        async with AsyncClient(local=1) as mrq:
            return sorted(await mrq.reduce_by_key(pair, range(3), parts=2))

    assert asyncio.run(run()) == [("0", 1), ("1", 1), ("2", 1)]


def helps(error: Exception, name: str, given: Any) -> bool:
    """Whether it is an error of a caller, in one line without Python's words about our own names."""
    text = str(error)
    if isinstance(error, (TimeoutError, LateError)):
        return name == "timeout"
    if not isinstance(error, (MrqError, ValueError)) or "\n" in text or any(inner in text for inner in INNER):
        return text.startswith(f"{same.__module__}.{same.__name__}() argument after *")  # it is the function's own
    return len(text) < 400 and (
        not isinstance(given, Thing) or (BY_OTHER_WORDS.get(name, name) in text and "Thing" in text)
    )


@pytest.mark.parametrize("empty", [{}, [], 0, False, ""])
def test_what_is_empty_is_no_callback(client: Client, empty: Any) -> None:
    for name in ("callback", "error_callback", *(["kwds"] if empty != {} else [])):
        with pytest.raises(UsageError, match=f"^{name} is "):
            client.pool().apply_async(same, (1,), **{name: empty})


def test_workers_are_waited_for_no_negative_time(client: Client) -> None:
    for wait in (-1, -0.5, float("-inf"), float("nan"), 1e300):
        with pytest.raises(UsageError, match=r"^wait_workers is .*, and must be a number of seconds, 0 to "):
            client.map_reduce(same, range(3), reduce="count", wait_workers=wait)
    assert client.map_reduce(same, range(3), reduce="count", wait_workers=5) == 3


def test_a_secret_is_not_shown() -> None:
    for how in ({"url": b"redis://:hunter2@host"}, {"keys": "hunter2", "local": 1}, {"keys": ["hunter2"]}):
        with pytest.raises(UsageError) as caught:
            Client(**({"url": "pipes:"} | how))
        assert "hunter2" not in str(caught.value)
        assert next(iter(how)) in str(caught.value)


def test_a_wrong_type_is_a_type_error_too(client: Client) -> None:
    with pytest.raises(TypeError, match=r"^limits: chunk is '3', and must be a whole number, or None$"):
        client.map_reduce(same, range(3), limits=Limits(chunk="3"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^url is a Thing"):
        Client(Thing())  # type: ignore[arg-type]
