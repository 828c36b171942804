"""The server comes back with any beginning of its history: the job goes on from there, and leaves nothing behind.

The job is a shuffle whose bodies stand apart: so at some cuts there are bodies without tasks, pieces without answers,
answers whose pieces are there, and a job that is over. What is left at the end is looked at by ``Arena.finish``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.aof import boundaries_of, commands_of, files_of
from tests.chaos.arena import Arena
from tests.chaos.conftest import HISTORY
from tests.chaos.faults import Faults
from tests.chaos.stories import STORIES
from tests.support.servers import RealServer

STORY = STORIES["laid"]
TERMS = 40  # more than in the story: so more steps of the history
SHARES = 4


class Recording:
    """A server, the file in which it keeps its history, and that of one job."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        with Arena(server, "cuts", Faults(), terms=TERMS, laid=True) as arena:
            STORY.play(arena)
            arena.finish()
            self.job = arena.job
        server.kill9()
        self.file: Path = files_of(server.directory / "appendonlydir")[-1]
        self.whole = self.file.read_bytes()
        self.cuts = boundaries_of(self.whole)

    def begin_at(self, size: int) -> None:
        """Start the server with so many bytes of its history."""
        self.server.kill9()
        self.file.write_bytes(self.whole[:size])
        self.server.start()


@pytest.fixture(scope="module")
def recording() -> Iterator[Recording]:
    with RealServer("valkey", **HISTORY) as server:
        yield Recording(server)


@pytest.mark.parametrize("share", range(SHARES))
def test_a_job_goes_on_from_any_beginning_of_its_history(recording: Recording, share: int) -> None:
    """A cut within a step is one before it: so each step but the last is there whole, and half of the next."""
    lived = 0
    for number in range(share, len(recording.cuts), SHARES):
        end = recording.cuts[number]
        half = (recording.cuts[number + 1] - end) // 2 if number + 1 < len(recording.cuts) else 0
        recording.begin_at(end + half)
        with Arena(recording.server, "cuts", Faults(), terms=TERMS, laid=True) as arena:
            arena.job, arena.before = recording.job, {"host"}
            if arena.state() is None:
                continue  # it was not yet submitted
            lived += 1
            arena.crew("later", 1)
            arena.stand_by()
            try:
                arena.finish()
            except AssertionError as error:
                raise AssertionError(f"cut behind step {number}: {error}") from error
    assert lived > 5


def test_the_cuts_are_at_all_that_a_shuffle_does(recording: Recording) -> None:
    named = (command for command in commands_of(recording.whole) if b"}:" in b"".join(command[1:2]))
    words = {(command[0].upper(), command[1].split(b":")[2]) for command in named}
    kinds = {kind for word, kind in words if word == b"HSET"}
    assert {b"j", b"p", b"b", b"w"} <= kinds
    assert (b"XADD", b"r") in words
