"""Every command and every snippet of README and docs does what it says.

A page is worked through from top to bottom, as its reader would. What cannot be done in a test (install something,
start containers) is held against what it names: files, options, services, extras.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mapreduce_rq.cli.commands.term import SERIES
from mapreduce_rq.cli.registry import COMMANDS, main_group
from mapreduce_rq.computations import CATALOGUE
from mapreduce_rq.errors import MrqError
from tests.docs.page import INLINE, PAGES, Block, blocks, calls_of_mrq, prose
from tests.docs.shell import Shell, matches
from tests.support.servers import ROOT

ELSEWHERE = (
    "docker",
    "kubectl",
    "systemctl",
    "useradd",
    "pip",
    ".venv/bin/pip",
    "pipx",
    "uv",
    "git",
    "python3 -m venv",
    ". ",
    "source",
    "scripts/",
    "cd ",
)
"""Commands that begin so change a machine, or take minutes: they are read, not run."""

DATA: dict[str, Callable[[str], Any]] = {"toml": tomllib.loads, "json": json.loads, "yaml": yaml.safe_load}


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


def elsewhere(block: Block) -> bool:
    return any(command.startswith(ELSEWHERE) for command, _ in block.commands())


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_what_a_page_says_works(page: Path, tmp_path: Path) -> None:
    section = 0
    printed: str | None = None
    with Shell(tmp_path) as shell:
        for block in blocks(page):
            if block.section != section:
                shell.end_section()
                section = block.section
            if block.language == "text" and block.title == "prints":
                assert printed is not None, f"{block}: nothing has printed"
                assert matches(block.text.splitlines(), printed.splitlines()), f"{block}: {printed}"
            elif block.language in DATA and block.title:
                shell.do(block)
                DATA[block.language]((tmp_path / block.title).read_text(encoding="utf-8"))
            elif block.language in DATA:
                DATA[block.language](block.text)
            elif block.language in {"sh", "console"} and elsewhere(block):
                for command, _ in block.commands():
                    check(block, command)
            elif block.language == "python" and not block.title:
                printed = shell.run_python(block)
            elif block.language != "text":
                shell.do(block)
        shell.end_section()


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_code_within_lines_names_what_there_is(page: Path) -> None:
    for text in INLINE.findall(prose(page)):
        for call in calls_of_mrq(text):
            check_mrq(names(page), call)
        if re.fullmatch(r"scripts/\S+", text.partition(" ")[0]):
            check_script(names(page), shlex.split(text))
        if re.fullmatch(r"(mapreduce_rq|tests|docs|examples|\.github)/[\w./-]+", text):
            assert (ROOT / text).exists(), f"{names(page)}: there is no {text}"


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not target.startswith(("https://", "#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{names(page)}: {target}"


def test_workflows_call_scripts_that_are_there_with_options_that_they_have() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            choices = job.get("strategy", {}).get("matrix", {}).get("what", [""])
            for step in job["steps"]:
                for what in choices:
                    called = step.get("run", "").replace("${{ matrix.what }}", what)
                    if called.startswith("scripts/"):
                        check_script(path.name, shlex.split(called))


def test_no_block_is_left_out() -> None:
    kinds = {block.language for page in PAGES for block in blocks(page)}
    assert kinds <= {"sh", "console", "python", "text", *DATA}
    assert sum(1 for page in PAGES for _ in blocks(page)) > 40


# -- commands that are read ----------------------------------------------------------------------------------------


def check(block: Block, command: str) -> None:
    """A command that is not run: all that it names is there."""
    for call in calls_of_mrq(command):
        check_mrq(str(block), call)
    for part in re.split(r"\s*(?:&&|;|\|)\s*", command.partition("#")[0].strip()):
        words = shlex.split(part)
        if not words or words[0].endswith("mrq") or "=" in words[0]:
            continue
        if words[0] == "docker":
            check_docker(str(block), words)
        elif words[0].startswith("scripts/"):
            check_script(str(block), words)
        elif words[0] in {"kubectl", "systemctl", "cp"}:
            check_placed(str(block), words)
        elif words[:2] != ["install", "-d"] and "install" in words:
            for target in words[words.index("install") + 1 :]:
                if not target.startswith("-"):
                    check_installed(str(block), target)
        else:
            known = words[:3] == ["python3", "-m", "venv"] or words[0] in {
                ".", "source", "cd", "git", "export", "useradd", "install"
            }  # fmt: skip
            assert known, f"{block}: nobody knows how to check {part!r}"


def check_mrq(where: str, call: list[str]) -> None:
    """A call of mrq: the command, the computation and the options are there."""
    words = [word for word in call if word not in {"…", "..."}]
    if not words or words[0].startswith("-"):
        if words[:1] in (["--install-completion"], ["--show-completion"]) and len(words) > 1:
            assert words[1:] == ["bash"], (where, call)
            return
        assert set(words) <= {"--version", "--help", "-h", "--install-completion", "--show-completion"}, (where, call)
        return
    name, rest = words[0], words[1:]
    if name in {"help", "version"}:  # other words for --help and --version
        return
    assert name in COMMANDS, f"{where}: there is no command {name!r}"
    if name == "compute" and rest and not rest[0].startswith("-") and rest[0] in CATALOGUE:
        known = options(name, rest[0])
    elif name == "compute":
        known = options(name, "exp")  # NAME, or one of the example plugin: those of every computation
        rest = [word for word in rest if word.startswith("-")]
    elif name == "term" and rest and rest[0] in SERIES:
        known = options(name, rest[0])
    else:
        known = options(name)
    for word in rest:
        if word.startswith("-") and not re.match(r"-\d|-$", word):
            assert word.partition("=")[0] in known, f"{where}: `mrq {name}` has no option {word}"


@cache
def options(name: str, computation: str = "") -> set[str]:
    found: Any = main_group().load(name)
    if computation:
        found = found.load(computation)
    context = found.make_context(name, [], resilient_parsing=True)
    return {option for param in found.get_params(context) for option in (*param.opts, *param.secondary_opts)}


def check_script(where: str, words: list[str]) -> None:
    """A script of ours: it is there, and knows its options."""
    path = ROOT / words[0]
    assert path.is_file(), f"{where}: there is no {words[0]}"
    if path.suffix in {".md", ".svg"}:
        return
    assert path.stat().st_mode & 0o100, f"{where}: {words[0]} is not executable"
    text = path.read_text(encoding="utf-8")
    if module := re.search(r"python -m (tests\.[\w.]+)", text):
        source = ROOT / module[1].replace(".", "/")
        text = (source / "__main__.py" if source.is_dir() else source.with_suffix(".py")).read_text(encoding="utf-8")
    for word in words[1:]:
        if word.startswith("-") and words[0] != "scripts/test":  # whose arguments go to pytest
            assert f'"{word}"' in text, f"{where}: {words[0]} has no option {word}"


def check_installed(where: str, target: str) -> None:
    """What pip, pipx or uv is to install: this package with an extra that it has, or a folder with a package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, _, extras = target.strip("'").rstrip("]").partition("[")
    for extra in filter(None, extras.split(",")):
        assert extra in project["optional-dependencies"], f"{where}: there is no extra {extra}"
    assert name in {".", project["name"]} or (ROOT / name / "pyproject.toml").is_file(), f"{where}: {target}"


def check_docker(where: str, words: list[str]) -> None:
    """A call of docker compose: the services are there, and the arguments of one that runs mrq."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert words[1] == "compose", where
    for word in words:
        if "=" in word:
            assert word.partition("=")[0] in services, f"{where}: {word}"
    if "run" in words:
        rest = [word for word in words[words.index("run") + 1 :] if word != "--rm"]
        assert rest[0] in services, where
        check_mrq(where, [*services[rest[0]]["entrypoint"][1:], *rest[1:]])


def check_placed(where: str, words: list[str]) -> None:
    """A file of deploy/, or something that stands in one, is named."""
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy").iterdir())
    for word in words[1:]:
        if word.startswith("deploy/"):
            assert (ROOT / word).is_file(), f"{where}: there is no {word}"
        elif "mrq" in word and "=" not in word:
            name = word.rpartition("/")[2]
            assert name in text or (ROOT / "deploy" / f"{name}.service").is_file(), f"{where}: nothing is called {word}"


@pytest.mark.parametrize(
    "wrong",
    [
        "mrq compute exp --y 2",
        "mrq rune x:y",
        "docker compose up --scale wroker=4",
        "pip install '.[bnech]'",
        "pip install requests",
        "scripts/simm",
        "scripts/sim --sed 4",
        "docker compose run --rm compute exp --yy 2",
        "kubectl apply -f deploy/kubernets.yaml",
        "systemctl reload mrq-wroker",
        "reboot",
    ],
)
def test_finds(wrong: str) -> None:
    block = Block(PAGES[0], 1, 0, "sh", "", f"{wrong}\n")
    with pytest.raises((AssertionError, MrqError)):
        check(block, wrong)


def test_output_matches_with_dots_for_anything() -> None:
    assert matches(["a ... c", "...", "z"], ["a b c", "d", "e", "z"])
    assert not matches(["a"], ["a", "b"])
    assert not matches(["a.c"], ["abc"])
