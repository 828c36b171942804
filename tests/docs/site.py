"""Reads a built site: nothing in it may be loaded from another host, and every page of the docs is there.

For ``scripts/docs``, which has just built it: ``python -m tests.docs.site FOLDER``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src",),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "link": ("href",),
}
"""What a browser fetches without being asked."""

FETCHED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}

IN_STYLES = re.compile(r"url\(\s*['\"]?((?:https?:)?//[^)'\"]+)|@import\s+['\"]((?:https?:)?//[^'\"]+)")


ROLES = re.compile(r":(?:meth|class|func|mod|attr|data):")
"""What another tool would make a link of; ours shows it to the reader."""


class Fetches(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        given = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        if tag == "link" and not FETCHED_LINKS & set(given.get("rel", "").split()):
            return
        for name in LOADED.get(tag, ()):
            if re.match(r"(https?:)?//", given.get(name, "").strip()):
                self.found.append(given[name])
        self.found += from_styles(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Text, perhaps of a style sheet."""
        if self._style:
            self.found += from_styles(data)


def from_styles(text: str) -> list[str]:
    """What a style sheet loads from elsewhere."""
    return [first or second for first, second in IN_STYLES.findall(text)]


def faults(site: Path, docs: Path) -> Iterator[str]:
    """What is wrong with the site, in words."""
    for page in sorted(site.rglob("*.html")):
        reader = Fetches()
        text = page.read_text(encoding="utf-8")
        reader.feed(text)
        yield from (f"{page.relative_to(site)} shows {role} as it is" for role in set(ROLES.findall(text)))
        yield from (f"{page.relative_to(site)} loads {found}" for found in reader.found)
    for sheet in sorted(site.rglob("*.css")):
        found = from_styles(sheet.read_text(encoding="utf-8"))
        yield from (f"{sheet.relative_to(site)} loads {one}" for one in found)
    for source in sorted(docs.rglob("*.md")):
        name = source.relative_to(docs).with_suffix(".html")
        if not (site / name).is_file():
            yield f"there is no {name}"


def main() -> int:
    """The exit code: 0 if all is well."""
    found = list(faults(Path(sys.argv[1]), Path("docs")))
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
