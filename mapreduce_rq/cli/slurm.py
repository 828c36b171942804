"""`mrq worker --on slurm`: supervisors as the tasks of a Slurm array, submitted with submitit.

The submitted script has no secret: URL, password and key go with the environment, which sbatch passes on.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from typing import Any

from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import CannotWrite, MrqError, UsageError

FOLDER = "mrq-slurm"
"""The folder for the submitted script and the workers' logs, in the current folder, which all nodes must see."""
NO_SUBMITIT = "--on slurm needs submitit: pip install 'mapreduce-rq[slurm]'"


def submit(words: Sequence[str], count: int, cores: int) -> str:
    """Have Slurm run ``mrq worker`` with these words ``count`` times; what was done, for people.

    Raises UsageError where submitit or Slurm is not there, CannotWrite for the folder, MrqError with Slurm's own words.
    """
    if find_spec("submitit") is None:
        raise UsageError(NO_SUBMITIT)
    from submitit import SlurmExecutor  # 0.2 s, and only here

    for variable in ("MRQ_ON", "MRQ_NTASKS"):
        os.environ.pop(variable, None)  # on the nodes they would submit once more
    try:
        executor = SlurmExecutor(FOLDER, python=f"{shlex.quote(sys.executable)} -P")
    except RuntimeError:
        raise UsageError("--on slurm: there is no srun here: submit from a host of the cluster") from None
    # No time limit of ours: the partition's, or SBATCH_TIMELIMIT.
    executor.update_parameters(job_name="mrq-worker", time=None, cpus_per_task=cores, array_parallelism=count)
    job = place(executor, words, count)
    workers = f"{plural(count, 'time')} `mrq worker -c {cores}`"
    return f"Slurm job {job}: {workers}; its logs come to {FOLDER}; `scancel {job}` ends it"


def place(executor: Any, words: Sequence[str], count: int) -> str:
    """Submit to any executor of submitit's; the id of the job, or of the array."""
    try:
        with redirect_stderr(StringIO()):  # what sbatch says is in the error, too
            jobs = executor.map_array(become_worker, [list(words)] * count)
    except OSError as error:
        raise CannotWrite(f"--on slurm: cannot write to {FOLDER}: {error.strerror}") from None
    except Exception as error:  # submitit's own for what sbatch says
        raise MrqError(f"--on slurm: {' '.join(str(error).split())[:500]}") from None
    name: str = jobs[0].job_id
    return name.partition("_")[0]


def become_worker(words: Sequence[str]) -> None:
    """On a node: go on as `mrq worker`, so that what Slurm sends comes to the supervisor itself."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "mapreduce_rq", "worker", *words])
