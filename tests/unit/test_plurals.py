"""Numbers stand before words of their number: ``1 term``, ``2 terms``. One helper makes them: core/text.py plural."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mapreduce_rq
from mapreduce_rq.core.text import count, plural, without_value

PACKAGE = Path(mapreduce_rq.__file__).parent
WORDS = "terms|tasks|jobs|workers|events|keys|files|lines|items|columns|fields|calls"
NOUNS = re.compile(rf" (?:more |different )?({WORDS})\b(?!/)")
PLURAL_BY_ITSELF = {
    # Where there is always more than one, or the number is a bound.
    ("cli/connect.py", "jobs"),  # raised for several
    ("pipes/url.py", "workers"),  # raised for hundreds
    ("runtime/pool/supervisor.py", "workers"),  # "1 of 2 workers"
    ("core/job/answers.py", "calls"),  # a retried term has two at least
    ("cli/screen/page.py", "calls"),
    ("cli/screen/output.py", "calls"),
    ("core/job/ledger.py", "terms"),  # asserts, for those who read the code
    ("core/sealing.py", "keys"),  # a repr for developers
    ("computations/const.py", "terms"),  # raised after hundreds
    ("computations/exp_plan.py", "terms"),
    ("core/reducers/by_key.py", "columns"),  # a forged body
    ("core/reducers/keys.py", "keys"),
    ("core/numbers/packed_columns.py", "columns"),
}


def numbers_before_nouns(path: Path) -> Iterator[tuple[str, int]]:
    """The plural nouns that follow a value in an f-string: ``f"{n} terms"``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            for value, text in zip(node.values, node.values[1:], strict=False):
                if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                    found = NOUNS.match(str(text.value))
                    if found and not _is_plural(value.value):
                        yield found[1], node.lineno


def _is_plural(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "plural"


def test_no_message_makes_a_plural_by_itself() -> None:
    found = {
        (str(path.relative_to(PACKAGE)), noun): line
        for path in sorted(PACKAGE.rglob("*.py"))
        for noun, line in numbers_before_nouns(path)
    }
    assert {place: line for place, line in found.items() if place not in PLURAL_BY_ITSELF} == {}, "use plural()"
    assert PLURAL_BY_ITSELF - found.keys() == set(), "not needed any more"


def test_words_have_the_number_of_their_number() -> None:
    assert [plural(n, "term") for n in (0, 1, 2)] == ["0 terms", "1 term", "2 terms"]
    assert plural(12_345, "entry", "entries", shown=count(12_345)) == "12.3k entries"
    assert [without_value(n) for n in (1, 2)] == ["1 of the terms has no value", "2 of the terms have no value"]
