"""A page of README or docs, cut into what a reader would do: fenced blocks, and the code that stands in lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.servers import ROOT

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[a-z]*) ?(?P<info>.*)$")
TITLE = re.compile(r'title="([^"]+)"')
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / name for name in ("RELEASING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github/CONTRIBUTING.md")),
]


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    line: int  # of its fence
    section: int  # the number of headings before it
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[tuple[str, list[str]]]:
        """What is typed in a block of the shell, each with the lines that must come of it.

        In a console block a typed line begins with ``$``; elsewhere all are typed and what comes of them is not shown.
        """
        found: list[tuple[str, list[str]]] = []
        typed = False
        for line in self.text.splitlines():
            begins = self.language == "sh" or line.startswith("$ ")
            if typed:  # goes on after a backslash
                found[-1] = (found[-1][0] + "\n" + line, [])
            elif begins and line.strip() and not line.startswith("#"):
                found.append((line.removeprefix("$ "), []))
            elif not begins:
                assert found, f"{self}: output before any command"
                found[-1][1].append(line)
            typed = (typed or begins) and line.endswith("\\")
        return found


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    section = line_of_fence = 0
    opened: re.Match[str] | None = None
    rows: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened is None:
            section += line.startswith("#")
            opened, rows, line_of_fence = FENCE.match(line), [], number
        elif line == opened["indent"] + "```":
            title = TITLE.search(opened["info"])
            text = "\n".join(row.removeprefix(opened["indent"]) for row in rows) + "\n"
            yield Block(page, line_of_fence, section, opened["language"], title[1] if title else "", text)
            opened = None
        else:
            rows.append(line)
    assert opened is None, f"{page}:{line_of_fence}: this fence is never closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    rows = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            rows.append(line)
    return "\n".join(rows)


def calls_of_mrq(text: str) -> Iterator[list[str]]:
    """The arguments of every call of mrq in a command line, which may have several and pipes between them."""
    try:
        words = shlex.split(text.replace("$(", " ; ").replace("\\\n", " "), comments=True)
    except ValueError:
        return
    call: list[str] | None = None
    for word in words:
        if word == "mrq" or word.endswith("/mrq"):
            call = []
        elif word in {"|", "&&", "||", ";", ">", "2>", "&", "<"} or word.endswith(";"):
            if call is not None:
                yield call
            call = None
        elif call is not None:
            call.append(word.rstrip(")"))
    if call is not None:
        yield call
