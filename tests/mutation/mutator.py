"""Small wrong edits of a source, one at a time: what a test suite should notice."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import NamedTuple

SWAPS: dict[type[ast.AST], Callable[[], ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip


class Mutant(NamedTuple):
    """One edit. ``what`` says it for people; ``source`` is the whole file with it."""

    line: int
    what: str
    source: str


def mutants(source: str, number: int, seed: int) -> list[Mutant]:
    """``number`` different ones, drawn with this seed; fewer if there are fewer."""
    tree = ast.parse(source)
    edits = [(at, which) for at, node in enumerate(ast.walk(tree)) for which in range(len(list(_edits(node))))]
    random.Random(seed).shuffle(edits)
    return [found for at, which in edits if (found := _made(tree, at, which)) is not None][:number]


def _made(tree: ast.Module, at: int, which: int) -> Mutant | None:
    other = copy.deepcopy(tree)
    node = list(ast.walk(other))[at]
    list(_edits(node))[which]()
    try:
        text = ast.unparse(ast.fix_missing_locations(other))
        compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return None
    rows = zip_longest(ast.unparse(tree).splitlines(), text.splitlines(), fillvalue="")
    changed = next(((before.strip(), after.strip()) for before, after in rows if before != after), None)
    return None if changed is None else Mutant(getattr(node, "lineno", 0), "  ->  ".join(changed), text)


def _edits(node: ast.AST) -> Iterator[Callable[[], None]]:
    """The edits of this node, each of which changes it where it stands."""
    if isinstance(node, (ast.Compare, ast.BoolOp, ast.BinOp, ast.AugAssign)):
        yield from _swaps(node)
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield lambda: setattr(node, "value", not value)
        elif isinstance(value, (int, float)):
            yield lambda: setattr(node, "value", value + 1)
    if isinstance(node, ast.Return) and node.value is not None and not _is_constant(node.value, None):
        yield lambda: setattr(node, "value", ast.Constant(None))
    for field in ("body", "orelse", "finalbody"):
        rows = getattr(node, field, None)
        for at, statement in enumerate(rows if isinstance(rows, list) else ()):
            if isinstance(statement, (ast.Assign, ast.AugAssign, ast.Raise, ast.Break, ast.Continue)) or (
                isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant)
            ):
                yield lambda rows=rows, at=at: rows.__setitem__(at, ast.Pass())  # type: ignore[misc]


def _swaps(node: ast.Compare | ast.BoolOp | ast.BinOp | ast.AugAssign) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Compare):
        if type(node.ops[0]) in SWAPS:
            yield lambda: setattr(node, "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif type(node.op) in SWAPS:
        yield lambda: setattr(node, "op", SWAPS[type(node.op)]())


def _is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
