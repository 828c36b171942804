"""A job that this process leads, from its plan to its printed result and exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from mapreduce_rq.cli.interrupts import Interrupts, Signalled
from mapreduce_rq.cli.modules import look_here
from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.cli.progress import Watcher
from mapreduce_rq.cli.screen.output import about, as_json
from mapreduce_rq.cli.streams import aside, interactive_output, or_else, say, show, write, write_bytes
from mapreduce_rq.client.environment import DEFAULT_QUEUE, chosen_keys, variable_of
from mapreduce_rq.core.foreign_errors import MASTER
from mapreduce_rq.core.job.record import Done, Failed, Record
from mapreduce_rq.core.job.result import error_of
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.text import job_label, plural
from mapreduce_rq.errors import CannotWrite
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

if TYPE_CHECKING:
    from mapreduce_rq.broker.jobs import Jobs
    from mapreduce_rq.client.client import Client
    from mapreduce_rq.client.part_folder import PartFolder
    from mapreduce_rq.core.computation import Computation
    from mapreduce_rq.core.job.events import Source
    from mapreduce_rq.core.messages import Spec
    from mapreduce_rq.runtime.master.ended import Ended
    from mapreduce_rq.runtime.master.observer import Observer
    from mapreduce_rq.runtime.master.standby import Standby

Plan = Callable[["Client", Limits], "tuple[Spec, Computation[Any], Source | None]"]
"""What a command makes from a client and limits: a job to lead."""

PARTIAL = 3
DEADLINE = 124


class Where(msgspec.Struct, frozen=True):
    """The place where a job runs. Without a URL it is a private server with local workers."""

    url: str = ""
    queue: str = DEFAULT_QUEUE
    local: int | None = None
    on_rq: int | None = None  # rq workers that are to help
    rq_queue: str = "default"
    key_file: str | None = None
    wait_workers: float | None = None
    allow: tuple[str, ...] = ()  # modules whose functions local workers may run


class Show(msgspec.Struct, frozen=True):
    """The settings for output."""

    form: str = "text"
    quiet: bool = False
    out: OutFile | PartFolder | None = None  # for the value


class Session(msgspec.Struct, frozen=True):
    """A command's work with one job: the place where it runs, and its output."""

    where: Where = Where()
    show: Show = Show()

    def lead(self, label: str, plan: Plan, limits: Limits) -> int:
        """Run a job to its end and return the exit code. Raises MrqError, Signalled."""
        with aside(), Interrupts() as interrupts, self.client() as client:
            spec, computation, source = plan(client, limits)
            watcher = Watcher(label, quiet=self.show.quiet)
            try:
                self.warn(client, watcher)
                wait = self.where.wait_workers
                master = client.leader.master(spec, computation, watcher, wait_workers=wait, source=source)
                if not client.embedded and not spec.lazy:
                    interrupts.leader = master
                try:
                    # Any process can go on with the job, or its server ends with this process: so it stays as it is.
                    goes_on = () if spec.lazy and not client.embedded else (Signalled,)
                    ended = client.leader.lead(master, interrupts.follow, leaves=goes_on)
                except Signalled:
                    watcher.close()
                    if spec.lazy or client.embedded:
                        say(ended_with_us(spec.job, client, cancelled=False))
                    raise
            finally:
                watcher.close()
            return self._end(client, interrupts, spec.job, ended)

    def detach(self, plan: Plan, limits: Limits) -> int:
        """Queue a job for an `mrq master` to lead, print its id, and return the exit code. Raises MrqError."""
        with aside(), self.client() as client:
            spec, computation, _ = plan(client, limits)
            job = client.detach(spec, computation)
            self.warn(client, Watcher("", quiet=self.show.quiet))
        with or_else(f"{job.id} is queued: mrq result {job.id} --wait | mrq cancel {job.id}"):
            write(as_json({"job": job.id, "queue": self.where.queue}) if self.show.form == "json" else job.id)
        return 0

    def resume(self, find: Callable[[Jobs], str]) -> int:
        """Lead the job that ``find`` names to its end, once it has no master, and return the exit code."""
        with aside(), Interrupts() as interrupts, self.client() as client:
            job = find(client.verbs)
            watcher = Watcher(job.rpartition("-")[0], quiet=self.show.quiet)
            from mapreduce_rq.runtime.master.master import Master  # it was imported with the client

            watching: Standby | Master | None = None

            def take(leader: Standby | Master) -> None:
                nonlocal watching
                interrupts.follow(leader)
                watching = leader

            try:
                self.warn(client, watcher)
                watcher.noticed(f"watching {job}, to lead it when it has no master")
                ended = client.leader.follow(job, watcher, take)
            except Signalled:
                watcher.close()
                led = True if isinstance(watching, Master) else watching.led if watching is not None else None
                say(left_alone(job, led=led))
                raise
            finally:
                watcher.close()
            return self._end(client, interrupts, job, ended)

    def client(self) -> Client:
        """A client of the server that ``where`` names. Raises UsageError, BrokerError."""
        where = self.where
        server = None
        keys = chosen_keys(where.key_file)
        if not where.url:
            server = EmbeddedServer.start()
        try:
            from mapreduce_rq.client.client import (
                Client,  # takes 0.2 s, most of it redis: a private server boots meanwhile
            )
        except BaseException:
            if server is not None:
                server.stop()
            raise
        look_here()  # now that our own modules are imported; local workers, forked from here on, search the same places
        loops = None
        if where.on_rq is not None:
            from mapreduce_rq.cli.rq_loops import loops_at  # RQ takes 0.1 s to import

            loops = loops_at(where.url, where.rq_queue, where.queue, where.on_rq)
        return Client(
            where.url, local=where.local, queue=where.queue, keys=keys, server=server, allow=where.allow, loops=loops
        )

    def warn(self, client: Client, watcher: Observer) -> None:
        """Print a warning about the server before a job begins, if there is one."""
        if variable := variable_of(self.where.url):
            watcher.noticed(f"on {client.endpoint}, as {variable} says")
        if client.info is not None and client.info.warning:
            watcher.noticed(f"warning: {client.info.warning}")

    def _end(self, client: Client, interrupts: Interrupts, job: str, ended: Ended | None) -> int:
        if ended is None:
            say(detached(job))
            if interrupts.pressed_again():
                client.cancel(job)
                say(f"cancelled: {job}")
            raise Signalled(interrupts.number)
        interrupts.leader = None
        record = ended.record
        if isinstance(record, Done):
            if isinstance(self.show.out, OutFile):
                return self._save(client, self.show.out, ended, record)
            if self.show.out is not None:
                result = client.result_of(ended)
                files = self.show.out.write(result)
                what = f"{plural(files.keys, 'key')} written to {plural(len(files.files), 'file')} in {files.folder}"
                return self.report(replace(record, value=what, digest=result.digest))
            if record.value is None:
                result = client.result_of(ended)
                record = replace(record, value=result.value, digest=result.digest)
        with or_else(_left(client, job)):
            return self.report(record)

    def _save(self, client: Client, out: OutFile, ended: Ended, record: Done) -> int:
        """Write the value to the file, print the report and return the exit code.

        Raises CannotWrite; in that case the value is kept in Redis, or printed.
        """
        result = client.result_of(ended)
        try:
            with or_else(_left(client, record.job)):
                written = out.write(result.written())
        except OSError as error:
            content = result.content
            why = f"--out: cannot write {out.path}: {error.strerror}"
            if not client.embedded:
                keeps = f"{record.job} keeps its result for now"
                raise CannotWrite(f"{why}; {keeps}: mrq resume {record.job} --out FILE") from None
            if content == f"{record.value}\n".encode():
                self.report(record)
                raise CannotWrite(f"{why}; the value is on standard output") from None
            if interactive_output():
                raise CannotWrite(f"{why}, and a terminal cannot show it: run it again") from None
            write_bytes(content)
            raise CannotWrite(f"{why}; it is on standard output, {plural(len(content), 'byte')}") from None
        return self.report(replace(record, value=f"{plural(written, 'byte')} written to {out.path}"))

    def report(self, record: Record) -> int:
        """Print how a job ended and return the exit code. Raises JobFailed, JobCancelled."""
        if not isinstance(record, Done):
            if self.show.form == "json":
                write(as_json(record.data))
            if isinstance(record, Failed):
                if record.kind == "Deadline":
                    say(record.message)
                    return DEADLINE
                if record.traceback and not self.show.quiet:
                    who = MASTER if record.where == MASTER else "the worker"
                    say(f"{who}'s traceback:", below=record.traceback.rstrip())
            raise error_of(record)
        write(as_json(record.data) if self.show.form == "json" else record.value or "")
        if self.show.form == "text":
            show(about(record.data))
        return exit_code(record)


def _left(client: Client, job: str) -> str:
    """The message about a job whose result could not be printed."""
    return "run it again" if client.embedded else f"{job} keeps its result for now: mrq result {job}"


def exit_code(record: Done) -> int:
    """The exit code for a job that ended with a value."""
    if record.ended == "deadline":
        return DEADLINE
    return PARTIAL if record.skipped or record.ended == "tolerance not met" else 0


def ended_with_us(job: str, client: Client, *, cancelled: bool) -> str:
    """The message about a job with which no other process can go on. ``cancelled``: whether it is over if we have not
    tried to cancel it.
    """
    if client.ends_with_it:
        return f"stopped: {job} has ended, for its {client.ends_with_it} ended with this command"
    if client.leader.abandoned.get(job, cancelled):
        return f"cancelled: {job}: its items came from this process alone"
    return f"{job} may not be cancelled, because Redis did not answer, and nobody can resume it: mrq cancel {job}"


def left_alone(job: str, *, led: bool | None) -> str:
    """The message about a job that this command no longer watches. ``led``: None if that is not known yet."""
    if led is None:
        return f"{job} goes on as before if its master lives: mrq status {job} | mrq resume {job} | mrq cancel {job}"
    if led:
        return f"{job} goes on as before: mrq attach {job} | mrq cancel {job}"
    return f"{job} has no master now and does not go on: mrq resume {job} | mrq cancel {job}"


def unled(job: str) -> str:
    """The message about a job that waits until a process leads it: what to start."""
    return f"{job} has no master: mrq master leads all such jobs, mrq resume {job_label(job)} this one alone"


def detached(job: str) -> str:
    """The message about a job that this command has let go of: how to go on with it."""
    short = job_label(job)
    return f"detached: {job} keeps what is counted: mrq resume {short} | mrq cancel {short} (or Ctrl-C again, now)"
