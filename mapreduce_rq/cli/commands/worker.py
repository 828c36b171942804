"""`mrq worker`: a supervisor with its workers, in the foreground."""

from __future__ import annotations

import logging
import os
import signal
from typing import Annotated

import typer

from mapreduce_rq.cli.connect import primary, wait_for
from mapreduce_rq.cli.modules import look_here
from mapreduce_rq.cli.options import (
    HOW,
    OUTPUT,
    RQ_QUEUE,
    KeyFile,
    MetricsPort,
    OnRq,
    Queues,
    Quiet,
    RqQueue,
    Url,
    chosen_queues,
    required,
    rq_workers,
)
from mapreduce_rq.cli.streams import say
from mapreduce_rq.cli.values import choice, integer, seconds
from mapreduce_rq.client.environment import chosen_keys
from mapreduce_rq.core.sealing import kid_text
from mapreduce_rq.core.text import is_utf8, not_utf8, plural
from mapreduce_rq.errors import BadParameter, UsageError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.log import JsonFormatter, start_log
from mapreduce_rq.runtime.pool.by_redis import ByRedis
from mapreduce_rq.runtime.pool.cores import usable_cores
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.signals import SIGNALS
from mapreduce_rq.runtime.pool.supervisor import Pool
from mapreduce_rq.runtime.pool.systemd import Notifier
from mapreduce_rq.runtime.worker.wid import hostname

MAX_WORKERS = 4096
MAX_NAME_BYTES = 200


def worker(
    *,
    url: Url = None,
    concurrency: Annotated[
        str,
        typer.Option(
            "-c",
            "--concurrency",
            envvar="MRQ_CONCURRENCY",
            metavar="N|auto",
            help="How many workers. auto: one for each core that this process may use.",
            rich_help_panel=HOW,
        ),
    ] = "auto",
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            envvar="MRQ_ON",
            metavar="slurm",
            help="Have Slurm run this command on its nodes, -n times with -c cores each (1 if that is not given).",
            rich_help_panel=HOW,
        ),
    ] = None,
    ntasks: Annotated[
        str | None,
        typer.Option(
            "-n",
            "--ntasks",
            envvar="MRQ_NTASKS",
            metavar="N",
            help="With --on slurm: how many times Slurm runs it.",
            rich_help_panel=HOW,
        ),
    ] = None,
    on_rq: OnRq = None,
    rq_queue: RqQueue = RQ_QUEUE,
    queue: Queues = None,
    key_file: KeyFile = None,
    burst: Annotated[
        bool, typer.Option("-b", "--burst", help="Leave when the queue is empty.", rich_help_panel=HOW)
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            envvar="MRQ_NAME",
            metavar="NAME",
            help="The workers' name in the dashboard. Default: host:pid.",
            rich_help_panel=HOW,
        ),
    ] = "",
    max_tasks: Annotated[
        str | None,
        typer.Option(
            "--max-tasks",
            envvar="MRQ_MAX_TASKS",
            metavar="N",
            help="Replace a worker by a new process after this number of tasks.",
            rich_help_panel=HOW,
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory",
            envvar="MRQ_MAX_MEMORY",
            metavar="MB",
            help="A worker with more than this many million bytes ends after its task, and is replaced.",
            rich_help_panel=HOW,
        ),
    ] = None,
    max_idle: Annotated[
        str | None,
        typer.Option(
            "--max-idle-time",
            envvar="MRQ_MAX_IDLE_TIME",
            metavar="TIME",
            help="Leave when no worker has had a task for this time, such as 10m.",
            rich_help_panel=HOW,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            envvar="MRQ_ALLOW",
            metavar="MODULE,...",
            help="Functions that unsigned messages may run: foo, foo.* or foo:f. With a key: all functions.",
            rich_help_panel=HOW,
        ),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            envvar="MRQ_ALLOW_PICKLE",
            help="Also run pickled functions. This needs a signing key, since a pickle can run any code.",
            rich_help_panel=HOW,
        ),
    ] = False,
    files: Annotated[
        str | None,
        typer.Option(
            "--files",
            envvar="MRQ_FILES",
            metavar="DIR",
            help="The only folder that jobs such as wordcount may read. Default: with a key all files, else none.",
            rich_help_panel=HOW,
        ),
    ] = None,
    log_format: Annotated[
        str,
        typer.Option(
            "--log-format",
            envvar="MRQ_LOG_FORMAT",
            metavar="text|json",
            help="How the log looks: lines for people, or one JSON object a line.",
            rich_help_panel=OUTPUT,
        ),
    ] = "text",
    metrics_port: MetricsPort = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Log each job and each task, too.", rich_help_panel=OUTPUT)
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Run workers until told to stop.

    After TERM or Ctrl-C each worker finishes the task in hand, gives the rest back and ends; after a second one it ends
    at once. TTIN starts one more worker, TTOU ends one, HUP replaces all, USR1 logs what each does and its Python
    stacks. The log goes to standard error.
    """
    first, *also = chosen_queues(queue)
    size = (
        usable_cores() if concurrency == "auto" else integer("--concurrency", concurrency, 1, MAX_WORKERS, word="auto")
    )
    most = None if max_tasks is None else integer("--max-tasks", max_tasks, 1)
    memory = None if max_memory is None else integer("--max-memory", max_memory, 1, 10**9) * 10**6
    idle = None if max_idle is None else seconds("--max-idle-time", max_idle)
    choice("--log-format", log_format, ("text", "json"))
    if allow_pickle and not chosen_keys(key_file):
        raise UsageError("--allow-pickle needs a signing key on both sides: make one with `mrq key`, set MRQ_KEY to it")
    if files is not None and not os.path.isdir(files):
        raise UsageError(f"--files: {files} is not a folder")
    trust = Trust(
        signed=bool(chosen_keys(key_file)),
        allow=tuple(" ".join(allow or ()).replace(",", " ").split()),
        allow_pickle=allow_pickle,
        files=None if files is None else os.path.realpath(files),
    )
    if not is_utf8(name):
        raise BadParameter(f"--name: {not_utf8(name)}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise BadParameter(f"--name: {len(name)} characters; it stands in each sign of life: {MAX_NAME_BYTES} at most")
    loops = rq_workers(on_rq, url)
    if loops is not None and also:
        raise UsageError("--on-rq: each worker loop has one queue: give one --queue")
    limited = most is not None or memory is not None or idle is not None
    if loops is not None and (burst or limited or concurrency != "auto" or allow or allow_pickle or files):
        raise UsageError(
            "--on-rq: the workers are jobs of rq workers, and run what these run: leave out --concurrency, --burst, "
            "--max-tasks, --max-memory, --max-idle-time, --allow, --allow-pickle and --files"
        )
    where = required(url, "worker")
    if on is not None or ntasks is not None:
        if on is None:
            raise UsageError("-n goes with --on slurm; -c says how many workers run here")
        choice("--on", on, ("slurm",))
        if loops is not None or metrics_port is not None:
            raise UsageError("--on slurm: leave out --on-rq and --metrics-port; `mrq metrics` serves metrics")
        words = [f"--queue={name}" for name in (first, *also)] + [f"--allow={name}" for name in allow or ()]
        given = {
            "--name": name, "--max-tasks": max_tasks, "--max-memory": max_memory, "--max-idle-time": max_idle,
            "--files": files, "--log-format": log_format, "--key-file": key_file,
        }  # fmt: skip
        words += [f"{option}={value}" for option, value in given.items() if value]
        flags = {"--burst": burst, "--allow-pickle": allow_pickle, "--verbose": verbose, "--quiet": quiet}
        words += [option for option, value in flags.items() if value]
        return _on_slurm(where, words, ntasks, 1 if concurrency == "auto" else size)
    look_here()
    host, called = (text.replace("%", "%%") for text in (hostname(), f"{name} " if name else ""))
    start_log(
        f"%(asctime)s %(levelname)s {host}:%(process)d {called}%(message)s",
        logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO,
        JsonFormatter(hostname(), name) if log_format == "json" else None,
    )
    if metrics_port is not None:
        if loops is not None:
            raise UsageError(
                "--on-rq: the workers are on other hosts: `mrq metrics` serves metrics, not --metrics-port"
            )
        _serve_metrics(metrics_port, where, first, key_file)
    place = (
        primary(where, first, key_file)
        if burst
        else wait_for(where, first, key_file, "waiting for it (with --burst this is an error)")
    )
    for other in also:
        primary(where, other, key_file).wire.close()
    if loops is not None:
        place.wire.close()
        if not quiet:
            say(f"{plural(loops, 'worker')} on queue {first} of {place.wire.endpoint}, as jobs of RQ queue {rq_queue}")
        from mapreduce_rq.cli.rq_loops import keep_loops  # RQ takes 0.1 s to import

        return keep_loops(where, rq_queue, first, loops)
    place.wire.close()  # nothing of ours may be open while workers are forked
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # who reads the lines below may send one: they wait for the pool
    if not quiet:
        if place.info.warning:
            say(f"warning: {place.info.warning}")
        kid = place.codecs.keyring.kid
        signed = (
            f"; signed ({kid_text(kid)})"
            if kid
            else "; not signed: every program that can write to this Redis can give them tasks"
        )
        product = f"{place.info.product} {place.info.version}"
        queues = f"queue{'s' * bool(also)} {', '.join([first, *also])}"
        say(f"{plural(size, 'worker')} on {queues} of {place.wire.endpoint} ({product}){signed}")
    settings = PoolSettings(
        place.wire.endpoint,
        first,
        place.codecs.keyring,
        size,
        also=tuple(also),
        name=name,
        burst=burst,
        max_tasks=most,
        max_idle=idle,
        max_memory=memory,
        trust=trust,
    )
    return Pool(settings, ByRedis, notifier=Notifier()).run()


def _on_slurm(url: str, words: list[str], ntasks: str | None, cores: int) -> int:
    count = 1 if ntasks is None else integer("--ntasks", ntasks, 1, MAX_WORKERS)
    os.environ["MRQ_URL"] = url  # it may have a password, so it is in no argument
    from mapreduce_rq.cli.slurm import submit  # for those who have Slurm

    say(submit([f"--concurrency={cores}", *words], count, cores))
    return 0


def _serve_metrics(port: str, url: str, queue: str, key_file: str | None) -> None:
    from mapreduce_rq.cli.metrics.exporter import listen, serve_beside, workers_of  # 40 ms, for those who want metrics

    serve_beside(listen("--metrics-port", port), url, queue, key_file, workers_of(os.getpid()))
