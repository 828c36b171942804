"""The house has one way up and one way down: reads every import and fails on a wrong arrow.

    cli, rq -> client -> progress -> runtime -> pipes -> broker -> core -> errors
    computations, functions -> files -> core

A layer may use any layer below it. Imports inside functions count like all others, so no cycle hides in one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "mapreduce_rq"
ROOT = Path(__file__).resolve().parents[2] / PACKAGE

BELOW: dict[str, set[str]] = {
    "version": set(),
    "errors": set(),
    "core": {"version", "errors"},
    "files": {"errors", "core"},
    "computations": {"version", "errors", "core", "files"},
    "functions": {"version", "errors", "core", "files"},
    "broker": {"version", "errors", "core"},
    "pipes": {"errors", "core", "broker"},
    "runtime": {"version", "errors", "core", "computations", "functions", "broker", "pipes"},
    "progress": {"errors", "core", "runtime"},
    "client": {"version", "errors", "core", "files", "computations", "functions", "broker", "pipes", "runtime"}
    | {"progress"},
    "rq": {"version", "errors", "core", "computations", "functions", "broker", "runtime", "client"},
    "cli": {"version", "errors", "core", "files", "computations", "functions", "broker", "runtime", "client", "rq"}
    | {"pipes", "progress"},
    "": {"version", "errors", "core", "files", "functions", "client"},  # the package itself: the public names
    "extend": {"version", "errors", "core"},  # the public names for authors of computations and reducers
    "__main__": {"cli"},
}

MAY_BE_LAZY = {"", "__main__", "client", "cli", "progress"}
"""Layers that may import our own modules inside functions, for start-up time, each with its reason in a comment."""

PURE = {"core", "computations", "functions"}

NOT_PURE = {
    *("asyncio", "concurrent", "multiprocessing", "queue", "signal", "subprocess", "threading"),
    *("datetime", "random", "secrets", "time", "uuid"),
    *("http", "logging", "os", "pathlib", "platform", "selectors", "socket", "tempfile"),
    *("redis", "rich", "rq", "typer"),
}
"""What core, the computations and users' functions do without: the same input gives the same output."""

PURE_ALL_THE_SAME = {
    ("mapreduce_rq.core.numbers.integers", "threading"),  # products side by side: the output is the same
    ("mapreduce_rq.core.shapes", "threading"),  # a lock, without which threads crash
    ("mapreduce_rq.core.plain_values", "datetime"),  # dates as values: no clock is asked
    ("mapreduce_rq.core.plain_values", "uuid"),  # as values, too: none is made
    ("mapreduce_rq.functions.pickling", "os"),  # a fork is noticed; numbers of things, which no result shows
    ("mapreduce_rq.functions.sources", "os"),  # whether a file is as it was when it was imported
    ("mapreduce_rq.functions.coroutines", "asyncio"),  # runs what a user wrote with async def
}
"""Imports of what could be impure, and is not there."""

ONLY_IN = {
    "redis": {"broker"},
    "hiredis": {"broker"},
    "typer": {"cli"},
    "rq": {"rq"},
    "rich": {"cli", "progress"},
    "IPython": {"progress"},
}


@dataclass(frozen=True)
class Import:
    importer: str
    target: str
    line: int
    lazy: bool
    explained: bool

    @property
    def ours(self) -> bool:
        return self.target.partition(".")[0] == PACKAGE

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def layer_of(module: str) -> str:
    """The layer of one of our modules: the first name under the package, "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imports_of(module: str, source: str, modules: set[str]) -> Iterator[Import]:
    """Every import of a module; ``from package import name`` counts as the module ``name`` where it is one."""
    lines = source.splitlines()

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            explained = any("#" in line for line in lines[max(0, node.lineno - 2) : node.end_lineno])
            for target in targets(node):
                yield Import(module, target, node.lineno, lazy, explained)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy or inside)

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        assert node.level == 0, f"{module}:{node.lineno}: imports are absolute here"
        assert node.module
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in modules else node.module

    yield from visit(ast.parse(source), lazy=False)


def faults(sources: dict[str, str]) -> list[str]:
    """Everything wrong with the imports of these modules, in words."""
    modules = set(sources)
    found = [one for module, source in sources.items() for one in imports_of(module, source, modules)]
    wrong: list[str] = []
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for one in found:
        layer, top = layer_of(one.importer), one.target.partition(".")[0]
        if layer not in BELOW:
            wrong.append(f"{one.importer} stands in no layer: give {layer!r} a row in BELOW")
        elif one.ours:
            target = layer_of(one.target)
            if target not in BELOW[layer] | {layer}:
                wrong.append(f"{one}: {layer or 'the package'} must not know {target}")
            if one.lazy and layer not in MAY_BE_LAZY:
                wrong.append(f"{one} inside a function")
            if one.target != PACKAGE:
                graph[one.importer].add(one.target)
        elif layer in PURE and top in NOT_PURE and (one.importer, top) not in PURE_ALL_THE_SAME:
            wrong.append(f"{one}: {layer} is pure")
        elif layer not in ONLY_IN.get(top, BELOW.keys()):
            wrong.append(f"{one}: only {' and '.join(sorted(ONLY_IN[top]))} may know {top}")
        if one.lazy and not one.explained:
            wrong.append(f"{one} inside a function, and no comment says why")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append("a cycle: " + " -> ".join(error.args[1]))
    return wrong


def test_the_house_has_no_wrong_arrow() -> None:
    files = {path.relative_to(ROOT.parent).with_suffix(""): path for path in ROOT.rglob("*.py")}
    sources = {
        ".".join(name.parts).removesuffix(".__init__"): path.read_text(encoding="utf-8") for name, path in files.items()
    }
    assert len(sources) > 20
    assert faults(sources) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("core.job.ledger", "import redis", "core is pure"),
        ("core.job.ledger", "def f():\n    from time import monotonic  # why not", "core is pure"),
        ("computations.exp", "import os.path", "computations is pure"),
        ("core.job.ledger", "from mapreduce_rq.broker import keys", "core must not know broker"),
        ("broker.keys", "from mapreduce_rq.runtime.worker.worker import Worker", "broker must not know runtime"),
        ("broker.keys", "import mapreduce_rq.computations", "broker must not know computations"),
        ("runtime.worker.worker", "from mapreduce_rq import client", "runtime must not know client"),
        ("client", "from mapreduce_rq.cli.app import main", "client must not know cli"),
        ("runtime.worker.worker", "import redis", "only broker may know redis"),
        ("client", "from rich import print", "only cli and progress may know rich"),
        (
            "runtime.worker.worker",
            "def f():\n    # a reason\n    from mapreduce_rq.core import span",
            "inside a function",
        ),
        ("cli.app", "def f():\n\n    from mapreduce_rq import client", "no comment says why"),
        ("core.span", "def f():\n\n    import numpy", "no comment says why"),
        ("drawer.all", "import re", "stands in no layer"),
    ],
)
def test_finds(module: str, source: str, fault: str) -> None:
    sources = dict.fromkeys(["mapreduce_rq", "mapreduce_rq.client", "mapreduce_rq.core.span"], "")
    (found,) = faults(sources | {f"{PACKAGE}.{module}": source})
    assert fault in found


def test_finds_a_cycle_hidden_in_a_function() -> None:
    found = faults(
        {
            "mapreduce_rq.cli.app": "from mapreduce_rq.cli import table",
            "mapreduce_rq.cli.table": "def f():\n    import mapreduce_rq.cli.app  # heavy",
        }
    )
    assert [fault.partition(":")[0] for fault in found] == ["a cycle"]


def test_lets_good_imports_be() -> None:
    sources = {
        "mapreduce_rq": "",
        "mapreduce_rq.core.span": "import math\n\ndef f():\n    import numpy  # 0.1 s that only arrays need",
        "mapreduce_rq.broker.keys": "import redis\nfrom mapreduce_rq.core.span import Span",
        "mapreduce_rq.runtime.clock": "import os\nfrom mapreduce_rq import version\nimport mapreduce_rq.broker",
        "mapreduce_rq.version": "",
        "mapreduce_rq.cli.app": "def f():\n    # rich takes 50 ms\n    from mapreduce_rq.runtime import worker",
    }
    assert faults(sources) == []
