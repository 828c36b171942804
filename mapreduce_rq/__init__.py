"""Map-reduce for people who already have Redis.

    from mapreduce_rq import Client

    with Client() as mrq:                          # no URL, no MRQ_URL: a private server, local workers
        mrq.map_reduce(f, range(1_000_000))        # the exact sum of f(k), the same bits for any schedule

A master cuts a computation into tasks on a Redis list; workers on any number of hosts take them, compute, and answer on
a reply stream; the master folds the answers into one result as they arrive.

The data's path
---------------
::

    cli, client ── plan ──> Spec, Computation
    ledger ── Push ──> master ── commit.lua ──> LIST q ── BLMOVE, settle.lua ──> LIST f:<worker>
    worker ── Computation.map(lo, hi) = partial ── settle.lua ──> STREAM r:<job>
    master ── XREAD ──> ledger ── tally, Reducer.merge ──> checkpoint ... Computation.finish = Outcome ──> record

The layers, each importing only what stands below it
----------------------------------------------------
::

    cli             for people: options, messages on the terminal
      commands        one module for each command
      screen          the dashboard's picture, tables and texts
      metrics         what a monitoring system reads: series for Prometheus, and whether a process is well
      web             the dashboard in a browser: one reader for all viewers, who may look, the page
    rq              what rq workers run: a map-reduce as one RQ job, and worker loops
    client          the Python API
    progress        how far a job is, shown to people: on a terminal, in a notebook, by tqdm and Rich
    runtime         loops, processes, clocks, signals
      master          leads one job: the loop, its lease, its looks around, standby, cancel
      worker          takes tasks, computes, settles
      pool            the supervisor of `mrq worker`: starts workers, beats for them, passes signals on
      server          the private Valkey, and the shelf of files for large bodies beside it
    pipes           workers over pipes and no Redis: the second wire under the broker's verbs
    broker          the only place that knows Redis; the wire format is broker/PROTOCOL.md
      lua             the steps that change anything: commit, settle, reap; and lay, for the pieces of a shuffle
    functions       users' functions: how they travel, whom to trust, their items
    files           files on the workers' machines: which may be read, their records, compressed or not
    computations    the built-ins, one file each
    core            pure: messages and spans, and in its rooms:
      job             what a master knows and decides: ledger, tally, sizes of tasks, record
      fleet           how much a worker takes, who is dead, what goes back to the queue
      reducers        how values are folded, one file for each kind
      per_key         below reducers: how the values of each key are held, one file for each form
      numbers         exact arithmetic and rounding
    errors          one tree, with exit codes

Beside them stands ``extend``, the names for authors of computations and reducers, taken from ``core``.

A good first read: ``core/job/tally.py`` (what "counted once" means), ``core/job/ledger.py`` (what a master knows),
``broker/lua`` (the steps that change anything), ``runtime/worker/worker.py`` and
``runtime/master/master.py`` (the loops).

Where to change what
--------------------
A test looks up each of these names.

How terms become tasks, and tasks become a result (core)::

    how many terms a task has          core/job/chunking.py Pace.size
    what a ledger is told, and says    core/job/events.py Replied, Surveyed, Push
    what an answer changes in it       core/job/answers.py Answers._replied
    what a look changes in it          core/job/ledger.py Ledger._surveyed
    why a late answer is not counted   core/job/tally.py Tally.count
    how a span is cut into tasks       core/job/supply.py Supply._cut, Supply._refill
    what a failed task is cut into     core/job/answers.py Answers._bad; core/job/cutting.py Parts
    how far a tolerance takes a job    core/job/goal.py further
    when a task is lost, or late       core/job/whereabouts.py Whereabouts; core/stragglers.py Patience
    what of a dead hand is blamed      core/fleet/give_back.py given_back; broker/lua/reap.lua
    how exact sums are folded          core/reducers/sums.py ExactSum; core/numbers/exact.py Total
    what bound a value has             core/reducers/base.py Reducer.describe; core/computation.py Computation.finish
    in which part a key lies           core/reducers/key_hash.py buckets_of
    how the values of a key are held   core/reducers/per_key/choice.py column_of
    a reducer's file, a new reducer    core/reducers/catalogue.py REDUCERS; core/reducers/base.py Reducer
    a computation's file, a new one    computations/__init__.py CATALOGUE; core/computation.py Computation
    which digits are certain           core/numbers/certain.py parted; progress/words.py so_far

What a worker does (runtime/worker, runtime/pool)::

    how a task leaves the list         broker/tasks.py Tasks.take, Tasks.settle; broker/lua/settle.lua
    how many tasks a worker takes      core/fleet/prefetch.py Prefetch.want
    its fair share of the queue        broker/lua/settle.lua share
    how it waits for several queues    runtime/worker/rota.py Rota._wait; broker/tasks.py Tasks.ask_to_watch
    which jobs a worker knows          runtime/worker/known_jobs.py KnownJobs.enter
    and refuses: version, numerics     runtime/worker/prepare.py Preparer._make; runtime/worker/probe.py numerics
    how a batch of tasks is computed   runtime/worker/computing.py Computing.compute
    when a job is over for a worker    runtime/worker/known_jobs.py KnownJobs.void; broker/lua/settle.lua
    how a worker's answers travel      runtime/worker/hand.py Hand.settle; runtime/worker/replies.py Replies
    when tasks are answered together   runtime/worker/joint_answers.py JointAnswer.full, JointAnswer.takes
    and folded into one partial        runtime/worker/joint_answers.py JointAnswer.grow; functions/onto.py Onto.fold
    when a task is answered in part    runtime/worker/part_answers.py; runtime/pool/supervisor.py LONG_SECONDS
    what a failed term's answer says   runtime/worker/failures.py failed; core/job/failures.py failure_of
    what of a traceback is shown       core/foreign_errors.py traceback_of
    what a worker does on SIGTERM      runtime/worker/worker.py Worker.told_to_stop, Worker.leave
    what its supervisor does then      runtime/pool/supervisor.py Pool._signalled
    when a dead one is replaced        runtime/pool/supervisor.py Pool._died, Pool._spawn_missing
    how a worker process begins        runtime/pool/forking.py Forker
    what functions print               runtime/worker/output.py Capture.add; progress/printed.py

What a master does (runtime/master, client)::

    when a master waits for workers    runtime/master/sweep.py Sweeper._count, Sweeper.despair
    how a job is created, taken over   runtime/master/owning.py Owning; runtime/master/lease.py Lease
    what a commit writes, and when     runtime/master/commits.py Commits._commit, Commits._commit_due
    what it does on SIGTERM, Ctrl-C    cli/interrupts.py Interrupts
    when a worker is dead              core/fleet/liveness.py DEAD_AFTER; runtime/pool/reporter.py BEAT_SECONDS
    which jobs have lost it            core/fleet/obituary.py Obituary; runtime/master/sweep.py Sweeper._mourn
    what a standby waits for           runtime/master/standby.py OrphanWatch.orphans, Standby.wait
    how a client opens and closes      client/base.py ClientBase
    where a client's jobs run          client/site.py Site
    what imap has next, and when       client/streams.py Values; client/open_job.py
    how many jobs `mrq master` leads   runtime/master/wheel.py Wheel.take
    whose turn it is among them        runtime/master/wheel.py Wheel._whose_turn
    which jobs it looks for            client/adopters.py Adopters.look
    what is told of a job's events     runtime/master/telling.py; broker/journal.py Journal.tell
    how often, if it happens often     core/job/gathered.py Gathered.due
    when a checkpoint is due           runtime/master/checkpoints.py Checkpoints.due
    who writes it, and what            runtime/master/commits.py Commits._commit; core/job/ledger.py Ledger.checkpoint
    what is written in a job's hash    runtime/master/fields.py Fields
    what is written at a job's end     runtime/master/ending.py Ending; core/job/ends.py record_of
    when a deadline ends a job         runtime/master/master.py Master._round, Master._finish_early
    ended jobs that are remembered     broker/pruning.py MAX_RECORDS
    what an item too large gives       runtime/master/oversize.py
    what a master says of an outage    runtime/master/outage.py Outage
    whose tasks go first               runtime/master/commits.py Commits._goes_first, YOUNG_SECONDS
    what an outage does to a new job   client/leading.py Leader.submit; runtime/master/master.py Master._resolve
    spans for OpenTelemetry            runtime/tracing.py begin_job, TaskSpans

Functions of users, and whom to trust (functions, core/sealing.py)::

    which functions a worker runs      functions/trust.py Trust
    by name, or as a pickle            functions/trust.py name_of; functions/shipping.py function_params
    how a pickle is made and read      functions/pickling.py Pickles
    what is called for a term          functions/called.py called
    when a pickle is refused           functions/trust.py Trust.pickles; functions/params.py check_trust
    what a job says of its function    functions/params.py FunctionParams; functions/folding.py reducer_of
    exceptions that become values      functions/raised.py guarded
    when a function is called again    functions/retries.py Retrying
    what a signature covers            core/sealing.py Codec, Keyring

Redis, pipes and files (broker, pipes, runtime/server)::

    a field of a message               core/messages.py Spec, Task, Answer, Beat, Checkpoint
    a key in Redis                     broker/keys.py Keys
    what any process reads of jobs     broker/reading.py Reading
    how a job's hash is read           broker/job_hash.py read_job
    what people are shown of a queue   broker/snapshot.py read_snapshot
    what Redis' refusals are called    broker/refusals.py translate
    how a server is connected to       broker/unix_link.py UnixLink; broker/connection.py how_to_connect
    what `pipes:` may be followed by   pipes/url.py parse_pipes; client/site.py Site
    how a master waits for pipes       pipes/waiting.py Collector
    who serves workers over pipes      pipes/hub.py Hub.wait, DEPUTY_SECONDS; pipes/lead.py Lead
    which of them has the next task    pipes/idle.py Idle.next_of
    what one asks over its line        pipes/serving.py Serving._do
    when one of them is dead           pipes/serving.py Serving._hang_up
    how the private server starts      runtime/server/embedded.py EmbeddedServer.start
    how files are cut and read         files/corpus.py parts_of; files/records.py records_of
    the error of a damaged file        files/records.py _read_through; files/compression.py is_damage
    which bodies are laid in a file    runtime/server/shelf.py ASIDE_BYTES
    and which stand apart in Redis     runtime/master/bodies.py APART_BYTES
    where pieces of a shuffle lie      broker/pieces.py LaidApart; broker/lua/lay.lua

What stands in the place of a pool, and RQ (client, rq)::

    Pool, and what it returns          client/pool.py Pool; client/pool_results.py AsyncResult
    an executor of futures             client/executor.py Executor; client/owned_executor.py executor
    the backend of joblib              client/joblib_backend.py MrqBackend; client/joblib_run.py Run
    how an event loop waits for jobs   client/aio.py AsyncClient; client/async_values.py AsyncValues
    a map-reduce as one RQ job         rq/__init__.py map_reduce; rq/lead.py run
    what RQ interrupts, and how        rq/lead.py Lead.let_go; rq/host.py Host.look
    when a worker loop leaves RQ       rq/loop.py Loop._reason
    how many loops RQ is to run        client/loops.py Loops

Errors, commands and pictures (errors.py, cli, progress)::

    the error of a bad item            functions/items.py refused; core/bodies.py PlainCodec
    the error of a failed job          core/job/result.py error_of
    an error's class and exit code     errors.py MrqError
    the error of a wrong number        core/numbers/rational.py parse_rational; cli/values.py integer
    any other message                  where it is raised: search for its words
    a command                          cli/registry.py COMMANDS; cli/commands
    an option of several commands      cli/options.py
    a URL, key or queue not given      client/environment.py chosen_url, chosen_queue, chosen_keys
    what progress= takes               progress/shown.py shown
    what stands above the bar          progress/few_events.py FewEvents; runtime/master/telling.py Telling.seen
    a job's line on the dashboard      cli/screen/job_rows.py _running, _ended; cli/screen/views.py
    its table of workers               cli/screen/worker_rows.py COLUMNS, worker_cells
    the time that a job has left       broker/snapshot.py JobView.seconds_left; cli/screen/job_rows.py _running
    a key of the dashboard             cli/screen/view.py pressed
    what the dashboard reads           cli/watching.py Watching.look
    what a browser is shown            cli/web/shown.py job_rows; cli/web/page.js
    a series for Prometheus            cli/metrics/exporter.py Collector.collect
    whether /healthz says ok           cli/metrics/exporter.py workers_of, master_in
    who may look with a browser        cli/web/guard.py Guard
    the headers of each of its pages   cli/web/guard.py HEADERS
    what `mrq doctor` checks           cli/commands/doctor.py; broker/inspect.py ServerInfo.warning

Where the tests are
-------------------
``scripts/test tests/unit`` runs one room of ``tests/``::

    unit            one part each, in this process
    properties      laws that hold for any input, by hypothesis
    broker          the verbs and scripts, on real servers and on the store of pipes
    system          commands and clients as people use them: real processes, a real server
    sim             masters and workers on a modelled Redis, with a clock of its own: scripts/sim --seed 7 --trace
    chaos           real processes and servers that are killed, stopped and cut off: scripts/chaos --list
    mutation        wrong edits, and whether the tests see them: scripts/mutants
    docs            each block and table of README and docs/
    examples        each file of examples/
    typing          what mypy makes of the public names
    support         what tests share: servers, workers and commands as processes, a terminal, a browser

``conftest.py`` beside them has what any test may ask for: ``server``, ``fresh_server``, ``queue``.

What is promised
----------------
- **Counted exactly once.** A term is folded into the result once, whatever dies, restarts or answers twice: workers,
  masters, Redis, the network. A job that cannot end well says why.
- **The same bits.** For a given computation the value and the digest do not depend on how many workers there are, how
  the terms are cut, in which order answers come or what crashed on the way. (Ending early by ``deadline`` is the
  exception: it counts what is there by then, and says so.)
- **An honest bound.** Beside a value stands the distance to the truth and what that is worth: ``proven`` (a theorem
  and exact arithmetic), ``statistical`` (a confidence interval), ``exact`` (no error but the last rounding),
  ``estimated``, or none. Approximate reducers are labelled.
- **Nothing from Redis is trusted** when a key is configured: every message is capped, authenticated and typed
  before it is used.

What is not
-----------
- Tasks run **at least** once: a function with side effects may have them twice.
- A function that gives different values for the same term makes the result depend on whichever answer came first.
- ``done`` can be seen, undone by a failover that loses the last writes, and announced again, with the same value.
- ``map_reduce`` returns when the job's end is on its way to Redis; the client's next job, or its ``close``, sees to it
  that it comes there. A program killed in between may leave a job that is complete and looks as if it ran.
- If Redis is wiped while no master of the job is alive, the job is unknown; it is never wrong.
- A worker that holds the signing key can lie.
- One queue lives on one shard: a Redis Cluster serves many queues, not one queue faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mapreduce_rq.version import __version__

if TYPE_CHECKING:
    from mapreduce_rq.client.aio import AsyncClient, AsyncFoundJob, AsyncJob
    from mapreduce_rq.client.async_values import AsyncValues
    from mapreduce_rq.client.client import Client
    from mapreduce_rq.client.executor import Executor
    from mapreduce_rq.client.found_job import FoundJob
    from mapreduce_rq.client.job import Job
    from mapreduce_rq.client.joblib import register_joblib
    from mapreduce_rq.client.owned_executor import executor
    from mapreduce_rq.client.pool import Pool
    from mapreduce_rq.client.pool_results import AsyncResult, IMapIterator
    from mapreduce_rq.client.streams import Values
    from mapreduce_rq.core.foreign_errors import RemoteError
    from mapreduce_rq.core.job.printed import Printed
    from mapreduce_rq.core.job.record import Report
    from mapreduce_rq.core.job.result import Result
    from mapreduce_rq.core.messages import Limits
    from mapreduce_rq.core.reducers.base import Law, Reducer
    from mapreduce_rq.core.reducers.combine import Combine
    from mapreduce_rq.core.reducers.keyed import by_key
    from mapreduce_rq.errors import (
        BadFunction,
        BadMessage,
        BadParameter,
        BadPlugin,
        BadURL,
        BrokerDown,
        BrokerError,
        BrokerFull,
        BrokerRefused,
        CannotWrite,
        DeadlineReached,
        ForeignKey,
        JobCancelled,
        JobError,
        JobFailed,
        MrqError,
        NoPermission,
        NoSuchJob,
        NoWorkers,
        OtherKey,
        ReadOnly,
        ServerFailed,
        Superseded,
        TooLarge,
        UnknownComputation,
        UsageError,
        VersionSkew,
        WrongType,
    )
    from mapreduce_rq.files.files import Files
    from mapreduce_rq.functions.draws import random_for
    from mapreduce_rq.functions.kernel import kernel


__all__ = [
    "AsyncClient",
    "AsyncFoundJob",
    "AsyncJob",
    "AsyncResult",
    "AsyncValues",
    "BadFunction",
    "BadMessage",
    "BadParameter",
    "BadPlugin",
    "BadURL",
    "BrokerDown",
    "BrokerError",
    "BrokerFull",
    "BrokerRefused",
    "CannotWrite",
    "Client",
    "Combine",
    "DeadlineReached",
    "Executor",
    "Files",
    "ForeignKey",
    "FoundJob",
    "IMapIterator",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "Law",
    "Limits",
    "MrqError",
    "NoPermission",
    "NoSuchJob",
    "NoWorkers",
    "OtherKey",
    "Pool",
    "Printed",
    "ReadOnly",
    "Reducer",
    "RemoteError",
    "Report",
    "Result",
    "ServerFailed",
    "Superseded",
    "TooLarge",
    "UnknownComputation",
    "UsageError",
    "Values",
    "VersionSkew",
    "WrongType",
    "__version__",
    "by_key",
    "executor",
    "kernel",
    "random_for",
    "register_joblib",
]

_HOMES = {
    "client.aio": ("AsyncClient", "AsyncFoundJob", "AsyncJob"),
    "client.async_values": ("AsyncValues",),
    "client.pool_results": ("AsyncResult", "IMapIterator"),
    "client.pool": ("Pool",),
    "client.joblib": ("register_joblib",),
    "client.streams": ("Values",),
    "client.client": ("Client",),
    "client.found_job": ("FoundJob",),
    "client.executor": ("Executor",),
    "client.owned_executor": ("executor",),
    "client.job": ("Job",),
    "core.job.printed": ("Printed",),
    "core.job.record": ("Report",),
    "core.job.result": ("Result",),
    "functions.kernel": ("kernel",),
    "functions.draws": ("random_for",),
    "core.messages": ("Limits",),
    "core.reducers.base": ("Law", "Reducer"),
    "core.foreign_errors": ("RemoteError",),
    "core.reducers.combine": ("Combine",),
    "files.files": ("Files",),
    "core.reducers.keyed": ("by_key",),
}
"""Where the public names are at home, by module of this package; all others are errors."""


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: `mrq --version` must not pay for redis."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # with the names it serves

    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    found = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
