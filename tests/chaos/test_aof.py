"""The checker of histories: it passes true ones, on both servers, and finds what was tampered with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mapreduce_rq.core.sealing import Codecs, Keyring
from tests.chaos.aof import BadHistory, Command, Step, commands_of, files_of, steps_of
from tests.chaos.arena import KEY, Arena
from tests.chaos.conftest import HISTORY
from tests.chaos.faults import Faults
from tests.chaos.history import Bounds, History
from tests.chaos.stories import STORIES
from tests.support.servers import FLAVOURS, ROOT, RealServer, need_server

QUEUE = "history"
CODECS = Codecs(QUEUE, Keyring([KEY]))


@pytest.fixture(scope="module", params=FLAVOURS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The history of a job that was taken over, as one file."""
    need_server(request.param)
    story = STORIES["takeover"]
    copy = tmp_path_factory.mktemp("aof") / "history"
    with RealServer(request.param, **HISTORY) as server:
        # Enough terms that there are checkpoints before the end's own, however quick the workers are.
        with Arena(server, QUEUE, Faults(dict(story.faults)), terms=4 * story.terms) as arena:
            story.play(arena)
            arena.finish()
        copy.write_bytes(b"".join(file.read_bytes() for file in files_of(server.directory / "appendonlydir")))
    return copy


def check(path: Path, bounds: Bounds | None = None) -> History:
    history = History((KEY,), bounds)
    history.check(path)
    return history


def write(path: Path, steps: list[Step]) -> Path:
    """These steps as an append-only file."""

    def command(words: Command) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)

    path.write_bytes(
        b"".join(b"".join(map(command, [[b"MULTI"], *step, [b"EXEC"]] if len(step) > 1 else step)) for step in steps)
    )
    return path


def commits(steps: list[Step]) -> list[Command]:
    """Every change of the job, oldest first; they are the commands in ``steps`` themselves."""
    return [command for step in steps for command in step if command[0] == b"HSET" and b"}:j:" in command[1]]


def field(command: Command, name: bytes) -> int:
    """Where a field's value stands in an HSET."""
    return command.index(name) + 1


def test_a_true_history_passes(path: Path) -> None:
    found = check(path).found
    assert (found.jobs, found.ended, found.takeovers) == (1, 1, 1)
    assert found.checkpoints >= 3
    assert found.trimmed > 10


def test_a_history_is_read_as_far_as_it_was_written(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    whole = list(steps_of(path))
    cut = tmp_path / "cut"
    counts: list[int] = []
    for size in range(0, len(data), 97):
        cut.write_bytes(data[:size])
        steps = list(steps_of(cut))
        assert steps == whole[: len(steps)]
        if not counts or counts[-1] != len(steps):  # the same steps are checked once
            assert check(cut).found.steps == len(steps)
        counts.append(len(steps))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert len(whole) - 3 <= counts[-1] <= len(whole)


def another(value: bytes) -> Callable[[list[Step]], None]:
    def change(steps: list[Step]) -> None:
        command = commits(steps)[-2]
        command[field(command, b"tok")] = value

    return change


def old_master_returns(steps: list[Step]) -> None:
    row = commits(steps)
    old = row[0][field(row[0], b"tok")].rpartition(b":")[0]
    epoch = int(row[-1][field(row[-1], b"tok")].partition(b":")[0])
    row[-1][field(row[-1], b"tok")] = b"%d:%b:99" % (epoch + 1, old.partition(b":")[2])


def same_token(steps: list[Step]) -> None:
    row = commits(steps)
    row[-1][field(row[-1], b"tok")] = row[-2][field(row[-2], b"tok")]


def no_token(steps: list[Step]) -> None:
    command = next(command for command in commits(steps)[1:] if len(command) > 4)
    del command[2:4]


def after_the_end(steps: list[Step]) -> None:
    steps.append([[b"HSET", commits(steps)[0][1], b"tok", b"9:another:1"]])


def job_of(command: Command) -> str:
    return command[1].decode().partition("}:j:")[2]


def with_checkpoint(steps: list[Step]) -> list[Command]:
    return [command for command in commits(steps) if b"ck" in command]


def a_term_too_many(steps: list[Step]) -> None:
    command = with_checkpoint(steps)[-1]
    at = field(command, b"ck")
    codec = CODECS.checkpoint.at(job_of(command))
    checkpoint = codec.open(command[at])
    zero = (1 << 400).to_bytes(51, "little")
    command[at] = codec.seal(
        type(checkpoint)(
            **{name: getattr(checkpoint, name) for name in checkpoint.__struct_fields__} | {"parts": [(0, 0, zero)]}
        )
    )


def an_older_checkpoint(steps: list[Step]) -> None:
    row = [command for command in with_checkpoint(steps) if b"record" not in command]  # not the end's: another rule
    row[-1][field(row[-1], b"ck")] = row[1][field(row[1], b"ck")]


def an_uncounted_trim(steps: list[Step]) -> None:
    """The checkpoint that goes with the first trim stays as it was."""
    for step in steps:
        for command in step:
            if command[0] == b"HSET" and b"ck" in command and any(other[0] == b"XTRIM" for other in step):
                at = command.index(b"ck")
                del command[at : at + 2]
                return


def a_forged_digest(steps: list[Step]) -> None:
    command = commits(steps)[-1]
    at = field(command, b"record")
    codec = CODECS.record.at(job_of(command))
    command[at] = codec.seal(msgspec.structs.replace(codec.open(command[at]), digest="0" * 32))


def an_unfinished_end(steps: list[Step]) -> None:
    command = commits(steps)[-1]
    at = command.index(b"ck")
    del command[at : at + 2]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (another(b"7:stranger:1"), "does not follow"),
        (another(b"1:stranger:1"), "does not follow"),
        (another(b"0:stranger:cancel"), "a cancel's token on a job that is"),
        (old_master_returns, "is back after it was followed"),
        (same_token, "changed under the token"),
        (no_token, "changed under the token"),
        (after_the_end, "changed after its end"),
        (a_term_too_many, "is not the fold of"),
        (an_older_checkpoint, "counted before and not any more"),
        (an_uncounted_trim, "was trimmed and never counted"),
        (a_forged_digest, "is not that of its terms"),
        (an_unfinished_end, "done with"),
    ],
)
def test_what_must_not_be_is_found(path: Path, tmp_path: Path, change: Callable[[list[Step]], None], word: str) -> None:
    steps = list(steps_of(path))
    change(steps)
    with pytest.raises(BadHistory, match=word):
        check(write(tmp_path / "changed", steps))


@pytest.mark.parametrize(
    "bounds", [Bounds(waiting=1), Bounds(hand=0), Bounds(replies=0), Bounds(reply_bytes=10)], ids=str
)
def test_bounds_are_kept(path: Path, bounds: Bounds) -> None:
    with pytest.raises(BadHistory, match="are allowed"):
        check(path, bounds)


def test_a_snapshot_is_not_a_history(tmp_path: Path) -> None:
    with pytest.raises(BadHistory, match="aof-use-rdb-preamble no"):
        list(commands_of(b"REDIS0011"))
    with pytest.raises(BadHistory, match="no append-only directory"):
        list(steps_of(tmp_path))


def test_the_program_says_what_it_found(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: object) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos.check_aof", *map(str, words)],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    monkeypatch.setenv("MRQ_KEY", KEY.hex())
    code, said = run(path)
    assert code == 0
    assert said.startswith("all holds: steps ")
    steps = list(steps_of(path))
    after_the_end(steps)
    code, said = run(write(tmp_path / "changed", steps))
    assert code == 1
    assert "changed after its end" in said
    code, said = run(tmp_path)
    assert code == 1
    assert "there is no manifest" in said
    monkeypatch.setenv("MRQ_KEY", "nonsense")
    assert run(path)[0] == 2
