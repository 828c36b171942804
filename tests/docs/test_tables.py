"""The tables of README and docs say what is so."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.core import TyperOption

import mapreduce_rq
from mapreduce_rq import errors, extend
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.cli.commands.compute import PARAMETERS
from mapreduce_rq.cli.registry import COMMANDS, main_group
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.reducers.catalogue import REDUCERS, reducer
from mapreduce_rq.core.reducers.histogram import Bins
from tests.support.commands import mrq
from tests.support.servers import ROOT

DOCS = ROOT / "docs"


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the table whose first line begins so."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" |")])
    assert found
    return found


def code(cell: str) -> str:
    """What stands in a cell as code."""
    return cell.strip("` ")


# -- URLs ----------------------------------------------------------------------------------------------------------


def test_the_table_of_urls_has_every_scheme_and_each_can_be_read() -> None:
    urls = [url for row in rows(DOCS / "fleet.md", "| the server |") for url in re.findall(r"`(\S+)`", row[1])]
    assert all(str(parse_url(url)) for url in urls)
    with pytest.raises(errors.BadURL) as caught:
        parse_url("http://host")
    known = re.findall(r"[\w+]+", str(caught.value).partition(": use ")[2].replace(" or ", " "))
    assert sorted({url.partition("://")[0] for url in urls}) == sorted(known)


# -- reducers ------------------------------------------------------------------------------------------------------

REDUCER_ROWS = rows(DOCS / "reducers.md", "| `reduce=` |")


def test_every_reducer_has_a_row() -> None:
    assert sorted([*(code(row[0]) for row in REDUCER_ROWS), "stats", "series"]) == sorted(REDUCERS)


@pytest.mark.parametrize("row", REDUCER_ROWS, ids=[code(row[0]) for row in REDUCER_ROWS])
def test_a_reducer_returns_what_its_row_says(row: list[str]) -> None:
    name, options, values, result = map(code, row[:4])
    given: dict[str, Any] = eval(f"dict({options})", {})  # our own page
    expected = eval(result, {"Bins": Bins, "Counter": Counter})
    made = reducer(name, **given)
    terms = ast.literal_eval(values)
    halves = [made.fold(lo, part) for lo, part in ((0, terms[:1]), (1, terms[1:]))]
    found = made.finish_native(made.merge(made.merge(made.zero(), halves[0]), halves[1]))
    assert found == expected
    assert type(found) is type(expected)


def test_what_stats_returns() -> None:
    made = reducer("stats")
    line = next(
        line for line in (DOCS / "reducers.md").read_text(encoding="utf-8").splitlines() if line.startswith("`stats`")
    )
    assert set(re.findall(r"`(\w+)`", line)) - {"stats"} == set(made.finish_native(made.fold(0, [1, 2])))


def test_the_readme_lists_the_reducers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.search(r"`reduce` is one of `([^`]+)`", text)
    assert listed
    assert set(listed[1].split()) == set(REDUCERS) - {"series"}


@pytest.mark.parametrize("row", rows(ROOT / "README.md", "| `reduce=` |"), ids=lambda row: row[0])
def test_a_reducer_makes_what_the_readme_says(row: list[str]) -> None:
    named, results = (re.findall(r"`([^`]+)`", cell) for cell in row[:2])
    for name, result in zip(named, results, strict=True):
        made = reducer(name)
        found = made.finish_native(made.fold(0, [3, 1, 4, 1, 5]))
        assert found == eval(result, {"Counter": Counter})  # our own page
        assert repr(found) == result


# -- what is built in ----------------------------------------------------------------------------------------------

COMPUTED = rows(DOCS / "numbers.md", "| `mrq compute …` |")


@pytest.mark.parametrize("row", COMPUTED, ids=[code(row[0]) for row in COMPUTED])
def test_a_computation_gives_what_its_row_says(row: list[str]) -> None:
    call, published, _, bound, digest = row
    ran = mrq("compute", *code(call).split(), "--json", seconds=110)
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert record["digest"].startswith(code(digest).rstrip("…"))
    kind = next(kind for kind in ("proven", "statistical", "exact", "none") if kind in bound)
    assert record["bound_kind"] == kind
    if re.match(r"\d", bound):
        assert record["bound"] == bound.split()[0].rstrip(",")
    value = record["value"]
    if re.fullmatch(r"\d+", published) or re.fullmatch(r"[\d.]+", published):
        assert value == published
    elif re.fullmatch(r"[\d.]+…", published):
        assert value.startswith(published[:7].rstrip("…"))
    elif published.startswith("…"):
        assert value.endswith((re.findall(r"…(\d+)", published))[-1][-3:])
    else:
        assert published == "e²"
        assert value.startswith("7.38905609893065022723042746057500781318031557055184")


# -- limits, options, commands, exit codes -------------------------------------------------------------------------


def test_every_limit_has_a_row_and_its_option_is_there() -> None:
    found = rows(DOCS / "functions.md", "| `Limits(…)` |")
    names = [code(row[0]).partition("=")[0] for row in found]
    assert set(names) == {field.name for field in msgspec.structs.fields(Limits)} - {"max_body"}
    for row, name in zip(found, names, strict=True):
        eval(f"Limits({code(row[0])})", {"Limits": Limits})
        assert code(row[1]) in {"", "--" + name.replace("_", "-")}


def common_options(name: str) -> set[str]:
    command: Any = main_group().load(name)
    if name == "compute":
        command = command.load("exp")
    return {
        flag
        for param in command.params
        if isinstance(param, TyperOption) and param.rich_help_panel != PARAMETERS
        for flag in param.opts
        if flag.startswith("--")
    }


def test_the_table_of_options_is_right_in_both_directions() -> None:
    told: dict[str, set[str]] = {name: set() for name in COMMANDS}
    for flags, of, _ in rows(DOCS / "commands.md", "| option |"):
        names = list(COMMANDS) if of == "all" else [name.strip() for name in of.split(",")]
        for name in names:
            if name != "mrq":
                told[name] |= set(re.findall(r"`(--[\w-]+)`", flags))
    for name in COMMANDS:
        real = common_options(name) - {"--json", "--once", "--now", "--help"}
        everywhere = {"--url", "--queue", "--key-file"}
        assert told[name] - everywhere == real - everywhere, name


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(number) for row in rows(DOCS / "operations.md", "| code |") for number in row[0].split(", ")}
    known = {
        kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MrqError)
    }
    assert known <= told
    assert told - known == {0, 3, 130, 143}


# -- how fast ------------------------------------------------------------------------------------------------------


def test_the_six_rows_of_the_readme_stand_in_the_results() -> None:
    results = (ROOT / "scripts" / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    medians = set(re.findall(r"\| ([\d .]+?) (?:\(|\|)", results))
    found = rows(ROOT / "README.md", "| two workers on two cores |")
    assert len(found) == 6
    for row in found:
        for cell in row[1:]:
            number = re.match(r"\**([\d .]*\d)", cell)
            assert number is None or number[1] in medians, cell


# -- names ---------------------------------------------------------------------------------------------------------


def described() -> set[str]:
    """The names that the pages describe from their docstrings."""
    return {
        line.removeprefix("::: ").rpartition(".")[2]
        for page in DOCS.glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("::: ")
    }


def test_every_public_name_is_described_and_no_other() -> None:
    of_errors = {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    public = {*mapreduce_rq.__all__, *extend.__all__} - of_errors - {"__version__"}
    assert described() == public | {"errors"}


# -- the glossary --------------------------------------------------------------------------------------------------


def test_the_glossary_has_the_words_that_the_readme_explains() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = [line for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False) if not before]
    words = {line for line in terms if line and not line.startswith((":", "#", "One word"))}
    assert {"master", "worker", "queue", "term", "task", "reducer", "kernel", "bound", "digest"} <= words


# -- the story -----------------------------------------------------------------------------------------------------


def test_the_story_of_a_failed_seed_could_happen_today() -> None:
    """With the rule switched off a seed fails as told, and its trace has the lines that the story explains."""
    from tests.sim.mutants import SAFETY
    from tests.sim.world import run_seed

    words = (" settle ", " commit ", " served  XREAD ", "(answer lost)", "b'differs'", " ## the accumulator of")
    with SAFETY["count_twice"]():
        verdicts = (run_seed(seed, listen=True) for seed in [178, *range(1000)])
        found = next(v for v in verdicts if v.failure and all(word in "\n".join(v.trace) for word in words))
    assert re.match(r"the accumulator of .* is .*, not ", found.failure)
