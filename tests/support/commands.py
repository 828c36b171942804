"""`mrq` as a user runs it: a process of its own with its streams, and a computation that waits when told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import msgspec

from mapreduce_rq.core.computation import Computation, TermError
from mapreduce_rq.core.outcome import More, Outcome
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.sums import IntSum
from tests.support import terms
from tests.support.servers import ROOT, die_with_parent
from tests.support.stage import Stage, allowed, until

MRQ = [sys.executable, "-m", "mapreduce_rq"]
KEY = "6b" * 32


class StagedParams(Params, frozen=True, kw_only=True):
    """Which function of tests/terms.py, over how many terms."""

    terms: Annotated[int, msgspec.Meta(description="how many terms", ge=1, le=100_000)]
    function: Annotated[Literal["noted", "slow", "gated", "poisoned"], msgspec.Meta(description="how they behave")] = (
        "noted"
    )


class Staged(Computation[int]):
    """The sum of a function of tests/terms.py: one that waits, takes its time or fails."""

    name: ClassVar[str] = "staged"
    summary: ClassVar[str] = "for tests"
    Params = StagedParams
    reducer = IntSum()

    def __init__(self, params: StagedParams) -> None:
        super().__init__(params)
        self.total: int | None = params.terms

    def map(self, lo: int, hi: int) -> int:
        function = getattr(terms, self.params.function)
        partial = 0
        for term in range(lo, hi):
            try:
                partial += function(term)
            except ValueError as error:
                raise TermError(term, str(error)) from error
        return partial

    def finish(self, partial: int, terms: int) -> Outcome | More:
        return Outcome(value=hex(partial), native=partial, bound="0", bound_kind="exact")


def offer_staged(directory: Path) -> None:
    """Have interpreters with this directory on their path find the computation, as one of another distribution."""
    info = directory / "staged-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: staged\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mapreduce_rq.computations]\nstaged = tests.support.commands:Staged\n")


def environment(extra: Mapping[str, str] | None = None, *, path: Sequence[Path] = ()) -> dict[str, str]:
    """An environment in which nothing is configured but what is given here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MRQ_") and name != "REDIS_URL"}
    kept |= {"PYTHONPATH": os.pathsep.join(str(place) for place in (ROOT, *path)), "COLUMNS": "80", "TERM": "xterm"}
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        kept.pop(name, None)
    return kept | dict(extra or {})


class Ran(NamedTuple):
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, read."""
        return json.loads(self.out)


def mrq(*arguments: str, env: Mapping[str, str] | None = None, seconds: float = 60.0) -> Ran:
    """Run a command to its end."""
    done = subprocess.run(
        [*MRQ, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=allowed(seconds),
        env=dict(env) if env is not None else environment(),
        cwd=ROOT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


class Running:
    """A command under way: what it has said so far, and the means to end it."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, program: Sequence[str] = tuple(MRQ)
    ) -> None:
        self._process = subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(env) if env is not None else environment(),
            cwd=ROOT,
            preexec_fn=die_with_parent,
        )
        self.pid = self._process.pid
        self.out: list[str] = []
        self.err: list[str] = []
        self._listeners = [
            threading.Thread(target=lines.extend, args=(stream,))
            for lines, stream in ((self.out, self._process.stdout), (self.err, self._process.stderr))
        ]
        for listener in self._listeners:
            listener.start()

    def hear(self, words: str, seconds: float = 20.0) -> str:
        """The first line on standard error that contains these words, waiting for it."""

        def heard() -> str | None:
            return next((line for line in list(self.err) if words in line), None)

        until(lambda: heard() is not None or self._process.poll() is not None, seconds, f"{words!r} said")
        if heard() is None:
            self.wait()
        found = heard()
        assert found is not None, f"it ended without saying {words!r}: {self.err}"
        return found

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = 30.0, *, traceback: bool = False) -> int:
        """Its exit code, waiting for its end. ``traceback``: it may show one (of a user's function)."""
        code = self._process.wait(allowed(seconds))
        for listener in self._listeners:
            listener.join()
        assert traceback or "Traceback" not in "".join(self.err), "".join(self.err)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for listener in self._listeners:
            listener.join()
        assert self._process.stdout
        assert self._process.stderr
        self._process.stdout.close()
        self._process.stderr.close()


class User:
    """A user at a shell who also has `mrq compute staged`. The commands that are started end with the test."""

    def __init__(self, folder: Path, **variables: str) -> None:
        offer_staged(folder)
        self.stage = Stage(folder)
        self.env = environment({terms.STAGE: str(folder), **variables}, path=[folder])
        self._stack = ExitStack()

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        """A command, to its end."""
        return mrq(*arguments, env=env or self.env)

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, program: Sequence[str] = tuple(MRQ)
    ) -> Running:
        """A command, and do not wait for it."""
        return self._stack.enter_context(Running(*arguments, env=env or self.env, program=program))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
