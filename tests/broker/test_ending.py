"""How a job's end is written: what stands in Redis after it, what is gone, and which master goes on before that."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest
import redis

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.computations import load
from mapreduce_rq.core import messages
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.events import Push, Replied, Resumed, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import Record, Report
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.messages import MAP, OK, Answer, Checkpoint, Limits, Reply, Spec, Task
from mapreduce_rq.core.outcome import Deferred, Outcome
from mapreduce_rq.core.sealing import AddressedCodec, Codecs, mac_of
from mapreduce_rq.errors import TooLarge
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.aside import LaidAside
from mapreduce_rq.runtime.master.bodies import Bodies
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.ending import PIPELINED_BYTES, Closing, Ending
from mapreduce_rq.runtime.master.exchange import Exchange
from mapreduce_rq.runtime.master.fields import Fields
from mapreduce_rq.runtime.master.lease import Lease, LeaseLost
from mapreduce_rq.runtime.master.observer import Silent
from mapreduce_rq.runtime.master.telling import Telling
from tests.support.records import done, failed

JOB = "exp-a"
TERMS = 4
KEEP = 500
ERROR = Deferred(str, "no")


class Place:
    """Where workers lay large bodies aside."""

    cleared = 0

    def clear(self) -> None:
        self.cleared += 1


class Led:
    """A job in Redis and its master's parts, with all terms counted but those of ``out``."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        reduce: str = "int_sum",
        pipelined: bool = False,
        value_stays: bool = True,
        unseen: bool = False,
        journal: bool = False,
        withheld: bool = False,
        laid: bool = False,
        on_error: Literal["fail", "skip"] = "fail",
    ) -> None:
        params = {"function": "tests.support.terms:fingerprint", "reduce": reduce, "terms": TERMS}
        self.computation: Computation[Any] = load("function").create(params)
        self.jobs = jobs
        self.spec = Spec(
            job=JOB,
            computation="function",
            params=params,
            total=TERMS,
            limits=Limits(chunk=1, keep=KEEP, on_error=on_error),
            created=0.0,
            version="",
        )
        clock, recorder = Clock(), Recorder(0.0)
        self.ledger = Ledger(self.spec, self.computation, 0.0, recorder=recorder)
        self.tasks = [
            task for made in self.ledger.receive(Resumed(), 0.0) if isinstance(made, Push) for task in made.tasks
        ]
        self.lease = Lease(jobs, JOB, "a")
        self.bodies = Bodies(jobs.codecs.task, self.ledger.all_out, apart=True, items=False)
        keeps = self.computation.reducer.keeps
        self.exchange = Exchange(jobs, JOB, self.lease, self.bodies, bell=None, keeps=keeps)
        self.fields = Fields(jobs, self.spec)
        self.place = Place()
        self.aside = LaidAside(self.place, items=laid)  # type: ignore[arg-type]  # all that an end asks of it
        journaled = Journal(jobs.wire, jobs.keys, jobs.codecs) if journal else None
        self.telling = Telling(clock, JOB, Silent(), recorder, journaled, withheld=withheld)
        self.timeline = Timeline(
            job=JOB,
            version="1",
            master="h:1",
            began=0.0,
            before=0.0,
            seconds=1.0,
            width=1.0,
            rows=[],
            buckets=[],
            longest=[],
            marks=[],
            more_marks=0,
            points=[],
        )
        self.ending = Ending(
            jobs,
            self.spec,
            self.lease,
            self.exchange,
            self.fields,
            self.aside,
            self.telling,
            pipelined=pipelined,
            value_stays=value_stays,
            unseen=unseen,
        )
        jobs.wire.call("DEL", jobs.keys.job(JOB), jobs.keys.replies(JOB))
        row: list[tuple[str, Argument]] = [("state", "running"), ("master", "a"), ("ck", b"what was counted")]
        self.lease.commit(what="create", number=1, fields=row, load=self.bodies.load(self.tasks))
        jobs.wire.call("HSET", jobs.keys.masters, JOB, 1)

    def answer(self, *terms: int, sent: bool = False) -> Led:
        """Count these terms. ``sent``: their replies are in the stream, too."""
        for lo in terms:
            body = self.computation.reducer.encode(self.computation.map(lo, lo + 1))
            answer = Answer(lo, lo + 1, 0, MAP, OK, body, 1000)
            if sent:
                sealed = self.jobs.codecs.reply.seal(Reply(JOB, "w", [answer]))
                self.jobs.wire.call("XADD", self.jobs.keys.replies(JOB), "*", "a", sealed)
            self.ledger.receive(Replied("w", [answer]), 0.1)
        return self

    def all_answered(self) -> Led:
        """All terms are counted, and their tasks taken from the queue."""
        self.jobs.wire.call("DEL", self.jobs.keys.queue)
        return self.answer(*range(TERMS))

    def closing(self, **changes: Any) -> Closing:
        facts: dict[str, Any] = {
            "ledger": self.ledger, "report": lambda: Report(counted=TERMS), "timeline": lambda: self.timeline,
            "now": 0.2, "stored": True, "lasts": True, "swept": False, "sure": True, "hear": lambda: False,
        }  # fmt: skip
        return Closing(**facts | changes)

    def end(self, record: Any = None, **changes: Any) -> Ended:
        """End it with a value."""
        outcome = Outcome(value="7.389")
        return self.ending.well(done(JOB) if record is None else record, outcome, {}, self.closing(**changes))

    def hash(self) -> dict[str, bytes]:
        """What stands in the job's hash."""
        flat = self.jobs.wire.call("HGETALL", self.jobs.keys.job(JOB))
        return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def record(self) -> Any:
        """The record there."""
        return self.jobs.codecs.record.at(JOB).open(self.hash()["record"])

    def checkpoint(self) -> Checkpoint:
        """The checkpoint there."""
        found: Checkpoint = self.jobs.codecs.checkpoint.at(JOB).open(self.hash()["ck"])
        return found


def test_an_end_leaves_the_record_and_no_master(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs).all_answered()
    ended = led.end()
    assert ended.record == done(JOB)
    assert ended.outcome == Outcome(value="7.389")
    assert led.ending.made is ended
    assert not led.ending.in_doubt
    found = led.hash()
    assert (found["state"], found["master"], found["ck"]) == (b"done", b"", b"what was counted")
    assert led.record() == done(JOB)
    assert jobs.codecs.report.at(JOB).open(found["progress"]).counted == TERMS
    assert jobs.codecs.timeline.at(JOB).open(found["timeline"]) == led.timeline
    assert 0 < raw.ttl(keys.job(JOB)) <= KEEP
    assert not raw.exists(keys.replies(JOB))
    assert raw.hexists(keys.masters, JOB)  # nobody has looked for it yet: the next look of another master deletes it


def test_a_master_that_is_superseded_ends_nothing(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs).all_answered()
    raw.hset(keys.job(JOB), "tok", "2:b:1")
    with pytest.raises(LeaseLost):
        led.end()
    assert raw.hget(keys.job(JOB), "state") == b"running"


# -- before Redis has answered -----------------------------------------------------------------------------------------


def test_who_waits_for_the_value_alone_has_it_before_redis_has_answered(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    sure: list[bool] = []
    led.ending.when_sure = lambda: sure.append(led.ending.in_doubt)
    doubts = [led.ending.in_doubt]
    assert led.end().record == done(JOB)
    doubts.append(led.ending.in_doubt)
    assert sure == []
    assert jobs.token(JOB).state == "done"  # the next request hears of it
    doubts.append(led.ending.in_doubt)
    assert doubts == [False, True, False]
    assert sure == [False]
    assert led.record() == done(JOB)


def test_an_end_that_redis_refuses_stays_in_doubt(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    sure: list[bool] = []
    led.ending.when_sure = lambda: sure.append(led.ending.in_doubt)
    raw.hset(keys.job(JOB), "tok", "2:b:1")
    led.end()
    assert jobs.token(JOB).state == "running"
    assert led.ending.in_doubt
    assert sure == []


def test_an_end_in_doubt_that_nobody_asks_about_becomes_sure(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    led.end()
    assert jobs.token(JOB).state == "done"
    assert not led.ending.in_doubt


def test_a_failure_is_not_waited_for_either(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    led.ending.badly(failed(JOB), ERROR, led.closing())
    assert led.ending.in_doubt


def size_of_end(led: Led, value: str) -> int:
    """The bytes that an end with this value sends."""
    found = led.fields.report(Report(counted=TERMS)), led.fields.record(done(JOB, value=value))
    return sum(map(len, [*found, led.fields.timeline(led.timeline)]))


def test_a_small_end_is_one_of_64_kib(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    value = "7" * 60_000
    value += "7" * (PIPELINED_BYTES - size_of_end(led, value))
    assert size_of_end(led, value) == PIPELINED_BYTES == 64 * 1024
    led.end(done(JOB, value=value))
    assert led.ending.in_doubt


def test_a_larger_one_is_waited_for(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    value = "7" * 60_000
    value += "7" * (PIPELINED_BYTES - size_of_end(led, value) + 1)
    led.end(done(JOB, value=value))
    assert not led.ending.in_doubt


def test_the_end_of_a_value_too_large_for_its_record_is_waited_for(jobs: Jobs) -> None:
    """Else the caller would have to keep it."""
    led = Led(jobs, pipelined=True).all_answered()
    led.end(done(JOB, value=None))
    assert not led.ending.in_doubt


@pytest.mark.parametrize("changes", [{"swept": True}, {"sure": False}])
def test_an_end_after_a_look_around_or_in_an_outage_is_waited_for(jobs: Jobs, changes: dict[str, bool]) -> None:
    led = Led(jobs, pipelined=True).all_answered()
    led.end(**changes)
    assert not led.ending.in_doubt


def test_an_end_with_tasks_out_is_waited_for(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True).answer(0, 1)
    led.end()
    assert not led.ending.in_doubt


def test_an_end_that_others_are_told_of_is_waited_for(jobs: Jobs) -> None:
    led = Led(jobs, pipelined=True, journal=True).all_answered()
    led.end()
    assert not led.ending.in_doubt


def test_an_end_waits_until_the_jobs_creation_is_sure(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    for unseen in (False, True):
        led = Led(jobs, unseen=unseen).all_answered()
        raw.delete(keys.job(JOB), keys.replies(JOB))
        led.lease.token = ""
        led.exchange.create(1, [("state", "running")], [], 0.0, "create")
        led.end()
        assert raw.hget(keys.job(JOB), "state") == (None if unseen else b"done")
        assert jobs.token(JOB).state == ("" if unseen else "done")  # each request has had its own answer


# -- the value and its checkpoint --------------------------------------------------------------------------------------


def test_the_record_names_the_checkpoint_that_has_its_value(jobs: Jobs) -> None:
    led = Led(jobs).all_answered()
    record = led.end(stored=False).record
    assert led.checkpoint().runs == [(0, TERMS)]
    assert led.record() == record
    assert led.record().checkpoint == mac_of(led.hash()["ck"]) != b""


def test_a_checkpoint_that_is_there_is_named_and_not_written_again(jobs: Jobs) -> None:
    led = Led(jobs).all_answered()
    led.fields.checkpoint_mac = b"as it was stored"
    led.end()
    assert led.record().checkpoint == b"as it was stored"
    assert led.hash()["ck"] == b"what was counted"


def test_a_checkpoint_that_others_cannot_use_is_deleted(jobs: Jobs) -> None:
    led = Led(jobs).all_answered()
    led.fields.checkpoint_mac = b"as it was stored"
    for stored in (True, False):
        assert led.end(lasts=False, stored=stored).record == done(JOB)
        assert led.hash()["ck"] == b""


@pytest.mark.parametrize("stays", [True, False])
def test_of_a_value_too_large_for_its_record_the_checkpoint_stays_if_others_may_want_it(
    jobs: Jobs, stays: bool
) -> None:
    led = Led(jobs, value_stays=stays).all_answered()
    led.end(done(JOB, value=None), stored=False)
    assert bool(led.hash()["ck"]) == bool(led.record().checkpoint) == stays


def test_a_value_in_its_record_keeps_its_checkpoint_whoever_wants_it(jobs: Jobs) -> None:
    led = Led(jobs, value_stays=False).all_answered()
    led.end(stored=False)
    assert led.checkpoint().runs == [(0, TERMS)]


def with_less_room(codecs: Codecs, queue: str) -> Codecs:
    """Records and checkpoints have to be smaller than they are told to be otherwise."""
    codecs.record = AddressedCodec("record", Record, queue, codecs.keyring, 4096)
    codecs.checkpoint = AddressedCodec("check", Checkpoint, queue, codecs.keyring, 64)
    return codecs


def test_a_value_too_large_for_its_record_is_left_out_of_it(jobs: Jobs, codecs: Codecs, queue: str) -> None:
    with_less_room(codecs, queue)
    led = Led(jobs, pipelined=True).all_answered()
    ended = led.end(done(JOB, value="7" * 5000))
    assert ended.record == led.record() == done(JOB, value=None)
    assert ended.outcome == Outcome(value="7.389")  # the caller has it
    assert led.ending.made is ended
    assert not led.ending.in_doubt


def test_a_record_too_large_even_without_its_value_is_an_error(jobs: Jobs, codecs: Codecs, queue: str) -> None:
    with_less_room(codecs, queue)
    led = Led(jobs).all_answered()
    for value in (None, "7.389"):
        with pytest.raises(TooLarge):
            led.end(done(JOB, value=value, notes=["7" * 5000]))
    assert led.hash()["state"] == b"running"


def test_a_checkpoint_too_large_for_redis_is_left_out_unless_it_is_the_value(
    jobs: Jobs, codecs: Codecs, queue: str
) -> None:
    with_less_room(codecs, queue)
    led = Led(jobs).all_answered()
    with pytest.raises(TooLarge):
        led.end(done(JOB, value=None), stored=False)
    assert led.hash()["ck"] == b"what was counted"
    assert led.end(stored=False).record == done(JOB)
    assert led.hash()["ck"] == b""


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failure_leaves_its_record_and_its_exception(jobs: Jobs) -> None:
    led = Led(jobs).answer(0, 1)
    ended = led.ending.badly(failed(JOB), ERROR, led.closing())
    assert led.ending.made is ended
    assert ended == Ended(failed(JOB), None, {None: ERROR})
    assert led.record() == failed(JOB)
    assert led.hash()["state"] == b"failed"


def test_a_failure_whose_parameters_are_too_large_ends_without_them(jobs: Jobs, codecs: Codecs, queue: str) -> None:
    with_less_room(codecs, queue)
    led = Led(jobs).answer(0, 1)
    ended = led.ending.badly(failed(JOB, params={"x": "7" * 5000}), ERROR, led.closing())
    assert led.ending.made is ended
    assert ended == Ended(failed(JOB), None, {None: ERROR})
    assert led.record() == failed(JOB)


# -- who is told -------------------------------------------------------------------------------------------------------


def test_others_are_told_of_the_end(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, journal=True).all_answered()
    led.end()
    events = Journal(jobs.wire, keys, jobs.codecs).read("0-0")[1]
    assert [(event.job, event.what, event.text) for event in events] == [(JOB, "done", "50 terms counted in 0.5 s")]
    assert raw.xrange(keys.values(JOB))[0][1] == {b"end": b""}  # type: ignore[index]
    assert raw.xlen(keys.values(JOB)) == 1
    assert 0 < raw.ttl(keys.values(JOB)) <= KEEP


def test_a_short_call_is_told_of_if_it_fails_and_at_no_other_time(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, journal=True, withheld=True).all_answered()
    led.end()
    assert not raw.exists(keys.events, keys.values(JOB))
    led = Led(jobs, journal=True, withheld=True).all_answered()
    led.ending.badly(failed(JOB), ERROR, led.closing())
    assert [event.what for event in Journal(jobs.wire, keys, jobs.codecs).read("0-0")[1]] == ["failed"]


# -- what is left over -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unseen", [False, True])
def test_tasks_in_the_queue_and_the_sign_of_life_go_with_the_job(
    jobs: Jobs, keys: Keys, raw: redis.Redis, unseen: bool
) -> None:
    led = Led(jobs, unseen=unseen).answer(0, 1)
    other = jobs.codecs.task.seal(Task("exp-b", 0, 1))
    raw.rpush(keys.queue, other)
    led.end()
    assert raw.lrange(keys.queue, 0, -1) == [other]
    assert not raw.hexists(keys.masters, JOB)


@pytest.mark.parametrize("unseen", [False, True])
def test_after_a_look_around_both_go_too(jobs: Jobs, keys: Keys, raw: redis.Redis, unseen: bool) -> None:
    led = Led(jobs, unseen=unseen).answer(*range(TERMS))  # its tasks are in the queue a second time
    led.end(swept=True)
    assert raw.llen(keys.queue) == 0
    assert not raw.hexists(keys.masters, JOB)


def test_nothing_stays_of_a_job_that_no_other_process_sees(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, unseen=True).all_answered()
    assert raw.zscore(keys.jobs, JOB) == 1
    ended = led.end()
    assert led.ending.made is ended
    assert ended == Ended(done(JOB), Outcome(value="7.389"), {})
    assert not raw.exists(keys.job(JOB), keys.replies(JOB), keys.jobs)


def test_a_job_that_another_master_leads_stays_even_if_it_should_be_unseen(
    jobs: Jobs, keys: Keys, raw: redis.Redis
) -> None:
    led = Led(jobs, unseen=True).all_answered()
    raw.hset(keys.job(JOB), "tok", "2:b:1")
    with pytest.raises(LeaseLost):
        led.end()
    assert raw.exists(keys.job(JOB), keys.replies(JOB), keys.jobs) == 3


HOW: list[dict[str, Any]] = [{}, {"pipelined": True}, {"unseen": True}]


@pytest.mark.parametrize("how", HOW, ids=["", "pipelined", "unseen"])
def test_what_workers_have_laid_aside_is_cleared(jobs: Jobs, how: dict[str, Any]) -> None:
    led = Led(jobs, laid=True, **how).all_answered()
    led.end()
    assert led.place.cleared == 1


@pytest.mark.parametrize("how", HOW, ids=["", "pipelined", "unseen"])
def test_where_nothing_was_laid_aside_nothing_is_cleared(jobs: Jobs, how: dict[str, Any]) -> None:
    """To look for it takes longer than a small job's end."""
    led = Led(jobs, **how).all_answered()
    led.end()
    assert led.place.cleared == 0


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("why", ["tasks are out", "it has looked around", "an outage", "a worker died"])
def test_where_a_worker_may_have_laid_something_unheard_it_is_cleared(jobs: Jobs, unseen: bool, why: str) -> None:
    led = Led(jobs, unseen=unseen)
    if why == "a worker died":
        again = [msgspec.structs.replace(task, attempt=1, why="killed") for task in led.tasks[:1]]
        led.ledger.receive(Surveyed(again, [], 1, False, []), 0.1)
    if why == "tasks are out":
        led.answer(0, 1)
    else:
        led.all_answered()
    led.end(swept=why == "it has looked around", sure=why != "an outage")
    assert led.place.cleared == 1


# -- replies that are the value ----------------------------------------------------------------------------------------


def test_replies_that_are_the_value_stay_as_long_as_the_record(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, reduce="list").answer(*range(TERMS), sent=True)
    assert led.exchange.hear(0, wants_items=False)[1] == TERMS
    led.end()
    assert raw.xlen(keys.values(JOB)) == TERMS
    assert 0 < raw.ttl(keys.values(JOB)) <= KEEP


def test_the_rest_of_the_replies_is_read_before_they_count_as_the_value(
    jobs: Jobs, keys: Keys, raw: redis.Redis
) -> None:
    led = Led(jobs, reduce="list").answer(*range(TERMS), sent=True)
    led.end(hear=lambda: led.exchange.hear(0, wants_items=False)[1] > 0)
    assert raw.xlen(keys.values(JOB)) == TERMS


def test_replies_of_which_some_are_lost_are_not_the_value(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, reduce="list").answer(1, 2, 3, sent=True).answer(0)
    led.end(hear=lambda: led.exchange.hear(0, wants_items=False)[1] > 0)
    assert not raw.exists(keys.values(JOB), keys.replies(JOB))


def test_a_term_that_was_left_out_needs_no_reply(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, reduce="list", on_error="skip").answer(1, 2, 3, sent=True)
    failure = messages.encode_failure(messages.Failure(0, "ValueError", "no", "", "h:1"))
    led.ledger.receive(Replied("w", [Answer(0, 1, 0, MAP, messages.ERROR, failure, 1)]), 0.1)
    led.end(hear=lambda: led.exchange.hear(0, wants_items=False)[1] > 0)
    assert raw.xlen(keys.values(JOB)) == 3


@pytest.mark.parametrize(("value", "stays", "kept"), [("[]", False, True), (None, False, False), (None, True, True)])
def test_replies_do_not_stay_if_the_caller_alone_wants_a_large_value(
    jobs: Jobs, raw: redis.Redis, value: str | None, stays: bool, kept: bool
) -> None:
    led = Led(jobs, reduce="list", value_stays=stays).answer(*range(TERMS), sent=True)
    led.exchange.hear(0, wants_items=False)
    led.end(done(JOB, value=value))
    assert raw.exists(jobs.keys.values(JOB)) == kept


def test_the_replies_of_a_failed_job_do_not_stay(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs, reduce="list").answer(*range(TERMS), sent=True)
    led.exchange.hear(0, wants_items=False)
    led.ending.badly(failed(JOB), ERROR, led.closing())
    assert not raw.exists(keys.values(JOB), keys.replies(JOB))


def test_the_replies_of_a_sum_do_not_stay(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    led = Led(jobs).answer(*range(TERMS), sent=True)
    led.exchange.hear(0, wants_items=False)
    led.end()
    assert not raw.exists(keys.values(JOB), keys.replies(JOB))
