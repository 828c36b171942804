"""`mrq worker --on slurm`: workers as tasks of a Slurm array, by submitit; Slurm itself is played by two scripts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import KEY, MRQ, User
from tests.support.fleet import children_of
from tests.support.servers import FreshServer, wait_gone
from tests.support.stage import until

SBATCH = """#!/bin/bash
# Runs each task of the array at once, with what Slurm puts into its environment.
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
for task in $(seq 0 "${last:-0}"); do
    export SLURM_JOB_ID=$((100 + task)) SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1
    export SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
    [ -z "$last" ] || export SLURM_ARRAY_JOB_ID=100 SLURM_ARRAY_TASK_ID=$task
    setsid bash "$1" >/dev/null 2>&1 &
    echo $! >>"$PLAYED/pids"
done
cp "$1" "$PLAYED/script"
echo "Submitted batch job 100"
"""
SRUN = """#!/bin/bash
# srun --unbuffered --output FILE --error FILE COMMAND...
exec "${@:6}" >>"$PLAYED/log" 2>&1
"""


@pytest.fixture
def at(fresh_server: FreshServer, tmp_path: Path) -> Iterator[User]:
    """A user on a host of a cluster whose Slurm is these two scripts."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with User(tmp_path, MRQ_URL=fresh_server("valkey").url, PATH=path, PLAYED=str(tmp_path)) as made:
        yield made
    pids = tmp_path / "pids"
    for pid in map(int, pids.read_text().split() if pids.exists() else []):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        wait_gone(pid)


def in_folder(at: User, *words: str) -> list[str]:
    """The words of a command that runs in the user's folder."""
    return ["env", "-C", str(at.stage.folder), *MRQ, *words]


def test_workers_on_slurm_do_a_job_and_end_with_it(at: User) -> None:
    (at.stage.folder / "mine.py").write_text("def double(k):\n    return 2 * k\n")
    at.env["MRQ_KEY"] = KEY
    also = {"MRQ_ON": "slurm", "MRQ_NTASKS": "3"}
    submitted = at.start(
        "-n", "2", "--name", "far", env=at.env | also, program=in_folder(at, "worker", "--on", "slurm")
    )
    assert submitted.hear("Slurm job 100") == (
        "mrq: Slurm job 100: 2 times `mrq worker -c 1`; its logs come to mrq-slurm; `scancel 100` ends it\n"
    )
    assert submitted.wait() == 0
    script = (at.stage.folder / "script").read_text()
    assert "#SBATCH --array=0-1%2" in script
    assert "#SBATCH --cpus-per-task=1" in script
    assert "--time" not in script
    password = at.env["MRQ_URL"].removeprefix("unix://:").partition("@")[0]
    written = "".join(path.read_bytes().decode("latin-1") for path in at.stage.folder.glob("mrq-slurm/**/*.*"))
    assert "--name=far" in written
    assert password not in written
    assert KEY not in written
    job = at.start(program=in_folder(at, "run", "mine:double", "--terms", "1000", "-o", "value", "-q"))
    assert job.wait(60) == 0
    assert job.out == ["999000\n"]
    names = {one["name"] for one in at.run("workers", "--json").json}
    assert names == {"far"}

    # Slurm tells every process of the job to end: each supervisor lets its worker finish.
    for pid in map(int, (at.stage.folder / "pids").read_text().split()):
        for supervisor in children_of(pid) or [pid]:
            os.kill(supervisor, signal.SIGTERM)
    until(lambda: at.run("workers", "--json").json == [], 20, "they have left")


LOCAL = """
import submitit
from mapreduce_rq.cli.slurm import place
print(place(submitit.LocalExecutor("local"), ["--concurrency=1", "--burst"], 2))
"""


def test_submitits_local_executor_runs_workers(at: User) -> None:
    placed = at.start(program=["env", "-C", str(at.stage.folder), sys.executable, "-c", LOCAL])
    assert placed.wait() == 0
    assert int(placed.out[0])
    logs = at.stage.folder / "local"

    def at_work() -> int:
        return sum("1 worker on queue" in path.read_text() for path in logs.glob("*.err"))

    until(lambda: at_work() == 2, 20, "both work")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-n", "2"], "-n goes with --on slurm; -c says how many"),
        (["--on", "condor"], "--on: 'condor' is not one of slurm"),
        (["--on", "slurm", "-n", "0"], "--ntasks: "),
        (["--on", "slurm", "--on-rq", "2"], "--on slurm: leave out --on-rq"),
    ],
)
def test_mistakes_are_one_line(at: User, words: list[str], said: str) -> None:
    ran = at.run("worker", *words)
    assert (ran.code, ran.err.count("\n"), said in ran.err) == (2, 1, True), ran.err


def test_without_slurm_and_with_its_errors(at: User) -> None:
    programs = at.stage.folder / "programs"
    (programs / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: fast' >&2\nexit 1\n")
    job = at.start(program=in_folder(at, "worker", "--on", "slurm"))
    assert job.wait() == 1
    assert len(job.err) == 1
    assert "invalid partition specified: fast" in job.err[0]
    (programs / "srun").unlink()
    job = at.start(program=in_folder(at, "worker", "--on", "slurm"))
    assert (job.wait(), job.err) == (
        2, ["mrq: --on slurm: there is no srun here: submit from a host of the cluster\n"]
    )  # fmt: skip
