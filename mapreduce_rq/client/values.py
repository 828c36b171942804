"""The value of a job that another master has ended: it is computed again from what that master left in Redis."""

from __future__ import annotations

from msgspec.structs import replace

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import More, Outcome
from mapreduce_rq.core.job.ends import used
from mapreduce_rq.core.job.record import Done, Record
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.messages import MAP, OK
from mapreduce_rq.errors import BadMessage, JobError, MrqError
from mapreduce_rq.functions.trust import Trust


def outcome_of(jobs: Jobs, record: Done, trust: Trust) -> Outcome | None:
    """The outcome of a job that is done, from its checkpoint and, if the replies are its value, from those.

    None if they are no longer in Redis. Raises MrqError: BadFunction for a job whose reducer must not run here,
    BadMessage if the checkpoint is not the one that the record names (an older one would hold fewer terms).
    """
    state = jobs.load(record.job)
    if state is None or state.checkpoint is None:
        return None
    if state.checkpoint_mac != record.checkpoint:
        raise BadMessage(
            f"the value of {record.job} cannot be computed: the checkpoint in {jobs.keys.job(record.job)} is not the "
            "one that its record names: a program without the key has written there"
        )
    computation = load(state.spec.computation).to_lead(state.spec.params, trust)
    tally = Tally.restore(computation.reducer, state.checkpoint.runs, state.checkpoint.parts)
    if computation.reducer.keeps:
        for reply in jobs.values(state.job):
            tally.count(
                (answer.lo, answer.hi, answer.body)
                for answer in reply.answers
                if answer.status == OK and answer.op == MAP
            )
    terms, partial = tally.prefix()
    without = used(terms, (one.term for one in record.skipped), computation.law)
    if record.terms_used not in {without, terms}:  # a master of an older version has written all that were counted
        return None
    outcome = computation.conclude(partial, terms)
    return None if isinstance(outcome, More) else outcome


def with_value(jobs: Jobs, record: Record, trust: Trust) -> Record:
    """A record with its value and digest. If the value was too large for the record, it is fetched.

    Raises JobError if the value is gone.
    """
    if not isinstance(record, Done) or record.value is not None:
        return record
    result = fetched(jobs, record, trust)
    return replace(record, value=result.value, digest=result.digest)


def fetched(jobs: Jobs, record: Done, trust: Trust) -> Result:
    """The result of a job that is done, with its native value if that can be made. Raises as ``with_value``."""
    try:
        outcome = outcome_of(jobs, record, trust)
    except MrqError:
        if record.value is None:
            raise
        outcome = None
    if outcome is None and record.value is None:
        raise JobError(
            f"the value of {record.job} is not in Redis: it was large, and only its caller got it, or Redis lost it"
        )
    return Result(record, outcome)
