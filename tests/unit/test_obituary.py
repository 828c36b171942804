"""What stands in the place of a dead worker's beat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.fleet.obituary import Obituary, jobs_of, read_obituary
from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.sealing import Codecs, Keyring

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(why=WORDS, jobs=st.frozensets(WORDS.filter(bool), max_size=4))
def test_it_is_read_as_it_was_written(why: str, jobs: frozenset[str]) -> None:
    assert read_obituary(str(Obituary(why, jobs)).encode()) == Obituary(why, jobs)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (b"\x12\x34 a beat", None),
        (b"", None),
        (b"X:killed by SIGKILL (host:1)", Obituary("killed by SIGKILL (host:1)")),  # an older supervisor names no job
        (b"X:", Obituary("")),
        (b"X:\xff\0\0\xff", Obituary("\ufffd", frozenset(["", "\ufffd"]))),  # anybody's
    ],
)
def test_any_entry_is_read(entry: bytes, found: Obituary | None) -> None:
    assert read_obituary(entry) == found


def test_the_jobs_of_a_hand_are_those_of_its_tasks() -> None:
    codecs = Codecs("queue", Keyring([b"sixteen bytes of a key"]))
    held = [codecs.task.seal(Task(job, 0, 1)) for job in ("a", "b", "a")]
    assert jobs_of(codecs, [*held, b"no task", b""]) == {"a", "b"}
    assert jobs_of(Codecs("queue", Keyring()), held) == set()
