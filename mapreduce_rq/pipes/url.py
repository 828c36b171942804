"""Reads ``pipes:`` in the place of a URL, with ``?collect=`` and ``once=`` behind it."""

from __future__ import annotations

import resource
from urllib.parse import parse_qsl

import msgspec

from mapreduce_rq.errors import BadURL, UsageError
from mapreduce_rq.pipes.waiting import BEST, COLLECTORS, MOST_FOR_SELECT

SCHEME = "pipes:"
OTHER_DESCRIPTORS = 32
"""About the number of descriptors that a process has open besides the lines."""
NO_SERVER = (
    "pipes: has no server: workers and jobs live and end with the process of `mrq compute`, `mrq run` or a Python "
    "Client, so nothing else can see, resume or work for them: give the URL of a Redis"
)
FORMS = f"{SCHEME} or {SCHEME}?collect={'|'.join(COLLECTORS)}"


class Pipes(msgspec.Struct, frozen=True):
    """Workers over pipes: ``collect`` is the mechanism to wait by; ``once``: each does one task and leaves."""

    collect: str = BEST
    once: bool = False

    def __str__(self) -> str:
        return f"{SCHEME}?collect={self.collect}{'&once=1' if self.once else ''}"

    def check_room(self, workers: int) -> None:
        """Raise UsageError if this process may not have this number of lines, or this user this number of processes."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        needed = workers + OTHER_DESCRIPTORS
        if self.collect == "select" and needed > MOST_FOR_SELECT:
            raise UsageError(
                f"{workers} workers: select waits for descriptors below {MOST_FOR_SELECT}, and each worker has one: "
                f"at most {MOST_FOR_SELECT - OTHER_DESCRIPTORS}, or another --collect"
            )
        if descriptors != resource.RLIM_INFINITY and needed > descriptors:
            raise UsageError(
                f"{workers} workers: each needs a descriptor here, and this process may have {descriptors} "
                f"(RLIMIT_NOFILE): ulimit -n {needed}, or fewer workers"
            )
        if processes != resource.RLIM_INFINITY and workers > processes:
            raise UsageError(
                f"{workers} workers: this user may have {processes} processes (RLIMIT_NPROC): "
                f"ulimit -u {needed}, or fewer workers"
            )


def is_pipes(url: object) -> bool:
    """Whether a URL means workers over pipes."""
    return isinstance(url, str) and url.strip().startswith(SCHEME)


def parse_pipes(url: str) -> Pipes:
    """The settings in a URL that begins with ``pipes:``. Raises BadURL."""
    rest = url.strip().removeprefix(SCHEME)
    if rest and not rest.startswith("?"):
        raise BadURL(f"pipes lead to no host: write {FORMS}")
    try:
        options = dict(parse_qsl(rest[1:], strict_parsing=bool(rest[1:])))
    except ValueError:
        raise BadURL(f"the URL cannot be read: write {FORMS}") from None
    collect, once = options.pop("collect", BEST), options.pop("once", "0")
    if options or once not in {"0", "1"}:
        raise BadURL(f"pipes have the options collect, and once=1, and no others: write {FORMS}")
    if collect not in COLLECTORS:
        raise BadURL(f"collect: {collect!r}: there is no such mechanism on this system: it has {', '.join(COLLECTORS)}")
    return Pipes(collect, once == "1")
