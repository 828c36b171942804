"""The verbs do the same over everything that carries them: a server of each flavour, pipes, and the simulation's model.

What only a server has (a memory limit, forgotten scripts, keys of other programs, times to live) stands in test_commit,
test_settle and test_reap. ``test_model`` and ``test_pipes_store`` compare the commands below the verbs, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

from mapreduce_rq.broker import pruning
from mapreduce_rq.broker.jobs import FIRST_REPLY, REPLIES_AT_ONCE, STRIKE_OFF, Committed, Jobs, Lost
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.pruning import delete_ended, prune
from mapreduce_rq.broker.tasks import SettleAnswer, Tasks
from mapreduce_rq.core.messages import Answer, Reply, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from tests.broker.grounds import GROUNDS, Ground, Looks, Simulated, on_pipes, on_server
from tests.support.records import cancelled
from tests.support.servers import RealServer, need_server

WID = "host:1:w"


@pytest.fixture(scope="module")
def a_server() -> Iterator[Callable[[str], RealServer]]:
    """The server of a flavour, started when it is first asked for."""
    with ExitStack() as running:

        @cache
        def of(flavour: str) -> RealServer:
            need_server(flavour)
            return running.enter_context(RealServer(flavour))

        yield of


@pytest.fixture(params=GROUNDS)
def ground(request: pytest.FixtureRequest, queue: str, a_server: Callable[[str], RealServer]) -> Iterator[Ground]:
    """What carries the verbs."""
    if request.param == "the simulation":
        yield Simulated()
    elif request.param == "pipes":
        with on_pipes(queue) as pipes:
            yield pipes
    else:
        with on_server(a_server(request.param)) as served:
            yield served


@pytest.fixture
def jobs(ground: Ground, keys: Keys, codecs: Codecs) -> Jobs:
    """A master's verbs."""
    return Jobs(ground.wire("master"), keys, codecs)


@pytest.fixture
def tasks(ground: Ground, keys: Keys, codecs: Codecs) -> Tasks:
    """A worker's verbs."""
    return Tasks(ground.wire("worker"), keys, codecs)


@pytest.fixture
def raw(ground: Ground) -> Looks:
    """To look, and to put things there."""
    return Looks(ground.wire("worker"))


@pytest.fixture
def running(jobs: Jobs) -> str:
    """A running job."""
    create(jobs)
    return "job"


def create(jobs: Jobs, job: str = "job", token: str = "1:a:1", **more: Any) -> Committed | Lost:
    return jobs.commit(job, "", token, what="create", number=1000, fields=[("state", "running")], **more)


def hold(raw: Looks, keys: Keys, *tasks: bytes) -> None:
    """Oldest first."""
    raw.lpush(keys.in_flight(WID), *tasks)


def wait(raw: Looks, keys: Keys, *tasks: bytes) -> None:
    """First to be taken first."""
    raw.lpush(keys.queue, *tasks)


def replies(raw: Looks, keys: Keys, job: str) -> list[bytes]:
    return [sealed for _, sealed in raw.entries(keys.replies(job))]


def reply(job: str, lo: int) -> Reply:
    return Reply(job, WID, [Answer(lo, lo + 1, 0, 0, 0, b"body", 1)])


# -- commit ------------------------------------------------------------------------------------------------------------


def test_create_makes_the_job_its_stream_and_its_listing(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    assert create(jobs, tasks=[b"t0", b"t1"]) == Committed(waiting=2)
    assert raw.hash(keys.job("job")) == {b"tok": b"1:a:1", b"state": b"running"}
    assert raw.exists(keys.replies("job"))
    assert raw.entries(keys.replies("job")) == []
    assert raw.members(keys.jobs) == ["job"]
    assert raw.lrange(keys.queue) == [b"t1", b"t0"]  # the first is taken first, from the right


def test_create_where_the_job_is_changes_nothing(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    create(jobs)
    assert create(jobs, token="1:b:1", tasks=[b"t"]) == Lost("1:a:1", "running")
    assert raw.hash(keys.job("job"))[b"tok"] == b"1:a:1"
    assert raw.llen(keys.queue) == 0
    assert raw.entries(keys.replies("job")) == []


@pytest.mark.parametrize("expect", ["", "1:a:2", "1:a:1 ", "1:A:1"])
def test_another_token_changes_nothing(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks, expect: str) -> None:
    create(jobs)
    tasks.settle(WID, [("job", b"r")], 0, 0, 0)
    before = raw.hash(keys.job("job")), raw.entries(keys.replies("job"))
    for what in ("", "over", "9999999999999-0"):
        answer = jobs.commit("job", expect, "2:x:1", what=what, number=9, fields=[("ck", b"other")], tasks=[b"t"])
        assert answer == Lost("1:a:1", "running")
    assert (raw.hash(keys.job("job")), raw.entries(keys.replies("job"))) == before
    assert raw.llen(keys.queue) == 0


def test_a_job_that_is_gone_is_lost_with_an_empty_token(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    assert jobs.commit("job", "1:a:1", "1:a:2", fields=[("ck", b"x")], tasks=[b"t"]) == Lost("", "")
    assert raw.exists(keys.job("job"), keys.queue) == 0


def test_go_on_sets_fields_and_pushes_behind_what_waits(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    create(jobs, tasks=[b"t0"])
    assert jobs.commit("job", "1:a:1", "1:a:2", fields=[("ck", b"\0\xff"), ("progress", b"p")], tasks=[b"t1"]) == (
        Committed(waiting=2)
    )
    assert raw.hash(keys.job("job")) == {b"tok": b"1:a:2", b"state": b"running", b"ck": b"\0\xff", b"progress": b"p"}
    assert [tasks.take(WID, 0.01) for _ in range(2)] == [b"t0", b"t1"]


def test_a_token_serves_once(jobs: Jobs) -> None:
    create(jobs)
    assert isinstance(jobs.commit("job", "1:a:1", "1:a:2"), Committed)
    assert jobs.commit("job", "1:a:1", "1:a:2") == Lost("1:a:2", "running")


def test_trim_removes_exactly_what_lies_below(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    create(jobs)
    for number in range(20):
        tasks.settle(WID, [("job", b"%d" % number)], 0, 0, 0)
    entries = raw.entries(keys.replies("job"))
    jobs.commit("job", "1:a:1", "1:a:2", what=entries[13][0], fields=[("ck", b"x")])
    assert raw.entries(keys.replies("job")) == entries[13:]


def test_a_trimmed_stream_is_still_there_when_it_is_empty(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    create(jobs)
    tasks.settle(WID, [("job", b"r")], 0, 0, 0)
    ((entry, _),) = raw.entries(keys.replies("job"))
    milliseconds, _, number = entry.partition("-")
    jobs.commit("job", "1:a:1", "1:a:2", what=f"{milliseconds}-{int(number) + 1}")
    assert raw.entries(keys.replies("job")) == []
    assert raw.exists(keys.replies("job"))  # or workers would take the job for over
    assert tasks.settle(WID, [("job", b"r")], 0, 0, 0).over == []


def test_over_ends_the_stream_and_leaves_the_record(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    create(jobs)
    end = jobs.commit("job", "1:a:1", "1:a:2", what="over", number=7, fields=[("state", "done"), ("record", b"r")])
    assert isinstance(end, Committed)
    assert not raw.exists(keys.replies("job"))
    assert raw.hash(keys.job("job")) == {b"tok": b"1:a:2", b"state": b"done", b"record": b"r"}
    assert jobs.commit("job", "1:a:1", "1:a:3", fields=[("ck", b"late")]) == Lost("1:a:2", "done")
    assert tasks.settle(WID, [("job", b"r")], 0, 0, 0).over == [0]


def test_the_replies_of_a_job_are_kept_as_its_value(jobs: Jobs, tasks: Tasks, codecs: Codecs) -> None:
    create(jobs)
    for lo in range(3):
        tasks.settle(WID, [("job", codecs.reply.seal(reply("job", lo)))], 0, 0, 0)
    jobs.commit("job", "1:a:1", "1:a:2", what="over, kept", number=60, fields=[("state", "done")])
    assert list(jobs.values("job")) == [reply("job", lo) for lo in range(3)]
    assert tasks.settle(WID, [("job", b"r")], 0, 0, 0).over == [0]
    assert delete_ended(jobs, ["job"]) == 1
    assert list(jobs.values("job")) == []


def test_many_tasks_and_fields_at_once(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    many = [b"%d" % n for n in range(16_384)]  # Lua's unpack gives up at about 8000
    assert create(jobs, tasks=many) == Committed(waiting=len(many))
    assert raw.lrange(keys.queue) == many[::-1]


def test_token_and_leases_say_what_stands_there(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    assert jobs.token("job") == Lost("", "")
    create(jobs)
    jobs.commit("job", "1:a:1", "1:a:2", fields=[("master", "master:a")])
    create(jobs, "ended", "1:b:1")
    jobs.commit("ended", "1:b:1", "1:b:2", what="over", number=60, fields=[("state", "done")])
    raw.zadd(keys.jobs, "expired", 5)
    assert jobs.token("job") == Lost("1:a:2", "running")
    assert jobs.leases() == {"job": ("1:a:2", "master:a")}
    assert jobs.listed() == ["expired", "ended", "job"]


@pytest.mark.parametrize("what", ["", "9999999999999-0"])
def test_a_running_job_whose_listing_was_lost_is_listed_again(jobs: Jobs, keys: Keys, raw: Looks, what: str) -> None:
    create(jobs)
    raw.delete(keys.jobs)
    jobs.commit("job", "1:a:1", "1:a:2", what=what)
    assert jobs.leases() == {}
    jobs.commit("job", "1:a:2", "1:a:3", what=what, number=1000)
    assert raw.members(keys.jobs) == ["job"]
    raw.delete(keys.jobs)
    jobs.commit("job", "1:a:3", "1:a:4", what="over", number=9)
    assert not raw.exists(keys.jobs)


def test_a_stream_that_was_lost_is_opened_again(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    create(jobs)
    raw.delete(keys.replies("job"))
    assert jobs.commit("job", "1:a:1", "1:a:2", what="9999999999999-0") == Committed(waiting=0, reopened=True)
    assert raw.exists(keys.replies("job"))
    assert raw.entries(keys.replies("job")) == []
    assert jobs.commit("job", "1:a:2", "1:a:3") == Committed(waiting=0, reopened=False)
    raw.delete(keys.replies("job"))
    assert jobs.commit("job", "1:a:3", "1:a:4", what="over", number=9) == Committed(waiting=0)
    assert not raw.exists(keys.replies("job"))


def test_the_oldest_ended_jobs_are_forgotten_and_running_ones_never(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    for n in range(10):
        jobs.commit(f"job{n}", "", f"1:{n}:1", what="create", number=n, fields=[("state", "running")])
        if n != 1:
            jobs.commit(f"job{n}", f"1:{n}:1", f"1:{n}:2", what="over", number=600, fields=[("state", "done")])
    raw.zadd(keys.jobs, "expired", -1)
    assert prune(jobs, keep=6) == 4
    assert [n for n in range(10) if raw.exists(keys.job(f"job{n}"))] == [1, 4, 5, 6, 7, 8, 9]
    assert prune(jobs, keep=8) == 0
    assert jobs.token("job1").state == "running"
    assert jobs.leases() == {"job1": ("1:1:1", "")}


def test_detached_jobs_are_remembered_longer(
    jobs: Jobs, keys: Keys, raw: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        fields = [("state", "done"), ("detached", "1")] if n < 6 else [("state", "done")]
        jobs.commit(f"job{n}", "", f"1:{n}:1", what="create", number=n, fields=fields)
    assert prune(jobs, keep=2) == 2
    assert raw.members(keys.jobs) == [f"job{n}" for n in (0, 1, 2, 3, 4, 5, 8, 9)]
    monkeypatch.setattr(pruning, "MAX_DETACHED", 5)
    assert prune(jobs, keep=2) == 3
    assert raw.members(keys.jobs) == [f"job{n}" for n in (3, 4, 5, 8, 9)]


def test_tasks_that_go_ahead_are_taken_before_those_that_wait(jobs: Jobs, keys: Keys, raw: Looks) -> None:
    create(jobs, tasks=[b"t0", b"t1"])
    assert jobs.commit("job", "1:a:1", "1:a:2", what="ahead", tasks=[b"t2", b"t3"]) == Committed(waiting=4)
    urgent = jobs.commit("other", "", "1:b:1", what="create, ahead", number=1, tasks=[b"u0", b"u1"])
    assert urgent == Committed(waiting=6)
    assert raw.lrange(keys.queue)[::-1] == [b"u0", b"u1", b"t2", b"t3", b"t0", b"t1"]
    assert raw.members(keys.jobs) == ["other", "job"]
    assert raw.exists(keys.replies("job"))


# -- settle ------------------------------------------------------------------------------------------------------------


def test_answers_settles_and_takes(tasks: Tasks, keys: Keys, raw: Looks, running: str) -> None:
    hold(raw, keys, b"t0", b"t1", b"t2")
    wait(raw, keys, b"t3", b"t4", b"t5")
    assert tasks.settle(WID, [(running, b"r")], 3, 2, 2) == SettleAnswer(True, [], [b"t3", b"t4"])
    assert tasks.in_hand(WID) == [b"t2", b"t3", b"t4"]
    assert raw.lrange(keys.queue) == [b"t5"]
    assert replies(raw, keys, running) == [b"r"]


def test_nothing_to_take_and_nothing_in_hand(tasks: Tasks, running: str) -> None:
    assert tasks.settle(WID, [(running, b"r")], 0, 0, 5) == SettleAnswer(True, [], [])


def test_another_hand_than_expected_settles_nothing_but_answers(
    tasks: Tasks, keys: Keys, raw: Looks, running: str
) -> None:
    hold(raw, keys, b"t0", b"t1")
    wait(raw, keys, b"t2")
    assert tasks.settle(WID, [(running, b"r")], 3, 2, 2) == SettleAnswer(False, [], [b"t0", b"t1"])
    assert tasks.in_hand(WID) == [b"t0", b"t1"]
    assert raw.llen(keys.queue) == 1
    assert replies(raw, keys, running) == [b"r"]


def test_a_job_that_is_over_takes_no_answer_and_stays_over(tasks: Tasks, keys: Keys, raw: Looks, running: str) -> None:
    hold(raw, keys, b"t0")
    answer = tasks.settle(WID, [("over", b"x"), (running, b"r"), ("gone", b"y")], 1, 1, 0)
    assert answer == SettleAnswer(True, [0, 2], [])
    assert not raw.exists(keys.replies("over"), keys.replies("gone"), keys.in_flight(WID))
    assert replies(raw, keys, running) == [b"r"]


@pytest.mark.parametrize(
    "case",  # waiting, workers, wanted, got
    [(10, 1, 4, 4), (10, 4, 8, 3), (3, 4, 8, 1), (1, 4, 8, 1), (8, 0, 9, 8), (100, 3, 512, 34)],
)
def test_no_more_than_a_fair_share(tasks: Tasks, keys: Keys, raw: Looks, case: tuple[int, int, int, int]) -> None:
    waiting, workers, want, got = case
    wait(raw, keys, *(b"%d" % n for n in range(waiting)))
    if workers:
        tasks.beat({f"w{n}": b"beat" for n in range(workers)})
    answer = tasks.settle(WID, [], 0, 0, want)
    assert answer.tasks == [b"%d" % n for n in range(got)]
    assert tasks.in_hand(WID) == answer.tasks


@pytest.mark.parametrize(("waiting", "got"), [(7, 3), (1, 0), (8, 4)])
def test_who_has_something_left_leaves_the_odd_ones_to_others(
    tasks: Tasks, keys: Keys, raw: Looks, waiting: int, got: int
) -> None:
    hold(raw, keys, b"done", b"left")
    wait(raw, keys, *(b"%d" % n for n in range(waiting)))
    tasks.beat({"w0": b"beat", "w1": b"beat"})
    assert tasks.settle(WID, [], 2, 1, 8).tasks == [b"%d" % n for n in range(got)]
    assert len(tasks.settle(WID, [], 1 + got, 1 + got, 8).tasks) == -(-(waiting - got) // 2)


def test_what_is_given_back_is_next_for_others_and_oldest_first(
    tasks: Tasks, keys: Keys, raw: Looks, running: str
) -> None:
    hold(raw, keys, b"done", b"kept", b"t1", b"t2")
    wait(raw, keys, b"t3")
    assert tasks.settle(WID, [(running, b"r")], 4, 1, -2) == SettleAnswer(True, [], [])
    assert tasks.in_hand(WID) == [b"kept"]
    assert [tasks.take("other", 1) for _ in range(3)] == [b"t1", b"t2", b"t3"]


def test_it_can_be_asked_first_and_heard_later(tasks: Tasks, keys: Keys, raw: Looks, running: str) -> None:
    hold(raw, keys, b"t0", b"t1")
    wait(raw, keys, b"t2")
    tasks.ask_to_settle(WID, [(running, b"r")], 2, 1, 1)
    assert tasks.settled() == SettleAnswer(True, [], [b"t2"])
    assert tasks.in_hand(WID) == [b"t1", b"t2"]


def test_twice_answers_twice_and_settles_once(tasks: Tasks, keys: Keys, raw: Looks, running: str) -> None:
    hold(raw, keys, b"t0", b"t1")
    assert tasks.settle(WID, [(running, b"r")], 2, 2, 0).as_expected
    again = tasks.settle(WID, [(running, b"r")], 2, 2, 0)
    assert again == SettleAnswer(False, [], [])
    assert replies(raw, keys, running) == [b"r", b"r"]


def test_take_files_the_task_under_its_worker(tasks: Tasks, keys: Keys, raw: Looks) -> None:
    wait(raw, keys, b"t0", b"t1")
    assert tasks.take(WID, 0.01) == b"t0"
    assert tasks.in_hand(WID) == [b"t0"]
    assert tasks.take(WID, 0.01) == b"t1"
    assert tasks.in_hand(WID) == [b"t0", b"t1"]
    assert tasks.take(WID, 0.01) is None


def test_a_take_that_waits_has_the_task_that_comes(
    ground: Ground, jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks
) -> None:
    taken: list[bytes | None] = []
    ground.together(lambda: taken.append(tasks.take(WID, 10)), lambda: create(jobs, tasks=[b"t0"]))
    assert taken == [b"t0"]
    assert raw.lrange(keys.in_flight(WID)) == [b"t0"]
    assert not raw.exists(keys.queue)


def test_of_many_takers_each_task_has_one(ground: Ground, keys: Keys, codecs: Codecs, raw: Looks) -> None:
    sent = [b"%d" % n for n in range(30)]
    workers = [Tasks(ground.wire("worker"), keys, codecs) for _ in range(3)]
    taken: list[bytes] = []

    def work(worker: Tasks, wid: str) -> None:
        while (task := worker.take(wid, 0.2)) is not None:
            taken.append(task)
            worker.settle(wid, [], 1, 1, 0)

    ground.together(
        *(lambda at=at, one=one: work(one, f"w{at}") for at, one in enumerate(workers)),
        lambda: wait(raw, keys, *sent),
    )
    assert sorted(taken) == sorted(sent)
    assert not raw.exists(keys.queue, *(keys.in_flight(f"w{at}") for at in range(3)))


def test_a_dropped_task_goes_and_equal_ones_stay(tasks: Tasks, keys: Keys, raw: Looks) -> None:
    hold(raw, keys, b"t0", b"t1", b"t0")
    tasks.drop(WID, [b"t0", b"unknown"])
    assert tasks.in_hand(WID) == [b"t1", b"t0"]
    tasks.drop(WID, [])
    assert tasks.in_hand(WID) == [b"t1", b"t0"]


def test_a_worker_enters_with_what_it_holds(tasks: Tasks, keys: Keys, raw: Looks) -> None:
    assert tasks.enter(WID, b"beat") == []
    hold(raw, keys, b"t0", b"t1")
    assert tasks.enter(WID, b"beat 2") == [b"t0", b"t1"]
    assert raw.hash(keys.workers) == {WID.encode(): b"beat 2"}


def test_what_is_put_back_waits_last_and_what_is_passed_on_first(tasks: Tasks, keys: Keys, raw: Looks) -> None:
    wait(raw, keys, b"t2")
    hold(raw, keys, b"t0", b"t1")
    tasks.pass_on(WID, [b"t0", b"answered since", b"t1"])
    tasks.pass_on(WID, [])
    assert tasks.put_back([b"t3"]) == 4
    assert tasks.put_back([]) == 0
    assert tasks.in_hand(WID) == []
    assert [tasks.take("other", 0.01) for _ in range(4)] == [b"t0", b"t1", b"t2", b"t3"]


def test_a_leaver_gives_back_in_order_and_is_struck_off(tasks: Tasks, keys: Keys, raw: Looks) -> None:
    tasks.beat({WID: b"beat", "other": b"beat"})
    wait(raw, keys, b"t2", b"t3")
    hold(raw, keys, b"t0", b"t1")
    tasks.give_back(WID, tasks.in_hand(WID))
    assert [tasks.take("other", 0.01) for _ in range(4)] == [b"t0", b"t1", b"t2", b"t3"]
    assert raw.hash(keys.workers) == {b"other": b"beat"}
    assert not raw.exists(keys.in_flight(WID))


def test_only_a_record_of_the_job_has_its_workers_killed(tasks: Tasks, running: str, raw: Looks) -> None:
    def sealed(job: str, *, now: bool) -> bytes:
        return tasks.codecs.record.at(job).seal(cancelled(job, now=now))

    jobs = [running, "other", "gone"]
    key = tasks.keys.job(running)
    assert tasks.cancelled_now(jobs) == set()
    raw.hset(key, "state", b"cancelled-now")
    assert tasks.cancelled_now(jobs) == set()
    for record in (b"", b"garbage", sealed("other", now=True), sealed(running, now=False)):
        raw.hset(key, "record", record)
        assert tasks.cancelled_now(jobs) == set(), record
    raw.hset(key, "record", sealed(running, now=True))
    assert tasks.cancelled_now(jobs) == {running}
    assert tasks.cancelled_now([]) == set()


def test_beating_for_nobody_is_nothing(tasks: Tasks, keys: Keys, raw: Looks) -> None:
    tasks.beat({})
    assert not raw.exists(keys.workers)


# -- reap, surveys and replies -----------------------------------------------------------------------------------------


def test_what_is_reaped_is_taken_next(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    wait(raw, keys, b"t2")
    hold(raw, keys, b"t0", b"t1")
    assert jobs.reap(WID, "", [(b"t1", b"t1"), (b"t0", b"t0 again")]) == 2
    assert [tasks.take("other", 0.01) for _ in range(3)] == [b"t0 again", b"t1", b"t2"]
    assert not raw.exists(keys.in_flight(WID))


def test_of_many_reapers_each_task_goes_back_once(ground: Ground, keys: Keys, codecs: Codecs, raw: Looks) -> None:
    held = [b"%d" % n for n in range(50)]
    hold(raw, keys, *held)
    given: list[int] = []
    reapers = [Jobs(ground.wire("worker"), keys, codecs) for _ in range(4)]

    def reap(jobs: Jobs) -> None:
        given.extend(jobs.reap(WID, "", [(task, task)]) for task in held)

    ground.together(*(lambda one=one: reap(one) for one in reapers))
    assert sum(given) == len(held)
    assert sorted(raw.lrange(keys.queue)) == sorted(held)


def test_an_obituary_stays_until_the_worker_is_struck_off(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    tasks.beat({WID: b"beat"})
    jobs.reap(WID, "X:killed by SIGKILL", [])
    assert raw.hash(keys.workers) == {WID.encode(): b"X:killed by SIGKILL"}
    hold(raw, keys, b"ghost")  # a pop on its behalf was still under way
    jobs.reap(WID, STRIKE_OFF, [])
    assert raw.hash(keys.workers) == {WID.encode(): b"X:killed by SIGKILL"}
    assert jobs.reap(WID, STRIKE_OFF, [(b"ghost", b"ghost")]) == 1
    assert not raw.exists(keys.workers)


def test_a_survey_sees_queue_and_all_hands(jobs: Jobs, tasks: Tasks, keys: Keys, raw: Looks) -> None:
    empty = jobs.survey("job", 1)
    assert (empty.beats, empty.waiting, empty.held) == ({}, [], {})
    tasks.beat({"a": b"1", "b": b"2"})
    wait(raw, keys, b"t0", b"t1")
    raw.lpush(keys.in_flight("a"), b"t2")
    found = jobs.survey("job", 2)
    assert found.beats == {"a": b"1", "b": b"2"}
    assert found.waiting == [b"t1", b"t0"]
    assert found.held == {"a": [b"t2"], "b": []}
    assert jobs.hand("a") == [b"t2"]
    assert jobs.registry() == found.beats
    assert raw.hash(keys.masters) == {b"job": b"2"}
    jobs.forget_master("job")
    assert not raw.exists(keys.masters)


def test_replies_in_order_behind_a_cursor(jobs: Jobs, tasks: Tasks, codecs: Codecs, running: str) -> None:
    assert jobs.replies(running, FIRST_REPLY, 0)[1:] == ([], 0)
    for lo in range(REPLIES_AT_ONCE + 3):
        tasks.settle(WID, [(running, codecs.reply.seal(reply(running, lo)))], 0, 0, 0)
    cursor, first, bad = jobs.replies(running, FIRST_REPLY, 0)
    assert (first, bad) == ([reply(running, lo) for lo in range(REPLIES_AT_ONCE)], 0)
    cursor, rest, bad = jobs.replies(running, cursor, 0)
    assert (rest, bad) == ([reply(running, lo) for lo in range(REPLIES_AT_ONCE, REPLIES_AT_ONCE + 3)], 0)
    assert jobs.replies(running, cursor, 0) == (cursor, [], 0)


def test_waiting_for_a_reply_ends_with_the_reply(
    ground: Ground, jobs: Jobs, tasks: Tasks, codecs: Codecs, running: str
) -> None:
    found: list[Any] = []
    sealed = codecs.reply.seal(reply(running, 7))
    ground.together(
        lambda: found.append(jobs.replies(running, FIRST_REPLY, 9)),
        lambda: tasks.settle(WID, [(running, sealed)], 0, 0, 0),
    )
    assert [replies for _, replies, _ in found] == [[reply(running, 7)]]


def test_a_job_is_created_and_its_replies_are_waited_for_in_one_breath(
    ground: Ground, jobs: Jobs, tasks: Tasks, codecs: Codecs
) -> None:
    found: list[Any] = []

    def lead() -> None:
        jobs.ask_to_create("job", "1:a:1", number=1, fields=[("state", "running")], tasks=[b"t0"], listen=9)
        found.append(jobs.created())
        found.append(jobs.replies_asked("job", FIRST_REPLY)[1])
        jobs.ask_to_end("job", "1:a:1", "1:a:2", what="over", keep=9, fields=[("state", "done")], heard=found.append)
        jobs.wire.hear()

    def work() -> None:
        assert tasks.take(WID, 9) == b"t0"
        tasks.settle(WID, [("job", codecs.reply.seal(reply("job", 0)))], 1, 1, 0)

    ground.together(lead, work)
    created, replied, ended = found
    assert isinstance(created, Committed)
    assert replied == [reply("job", 0)]
    assert isinstance(ended, Committed)
    assert jobs.token("job") == Lost("1:a:2", "done")


def test_waiting_in_vain_gives_nothing(jobs: Jobs, running: str) -> None:
    cursor, _, _ = jobs.replies(running, FIRST_REPLY, 0)
    assert jobs.replies(running, cursor, 0.001) == (cursor, [], 0)
    assert jobs.replies("gone", FIRST_REPLY, 0.001) == (FIRST_REPLY, [], 0)


def test_forged_and_misplaced_replies_are_dropped_and_counted(
    jobs: Jobs, tasks: Tasks, codecs: Codecs, queue: str, running: str
) -> None:
    good = codecs.reply.seal(reply(running, 1))
    strange = [
        Codecs(queue).reply.seal(reply(running, 2)),  # unsigned
        Codecs(queue, Keyring([b"x" * 32])).reply.seal(reply(running, 3)),  # another key
        Codecs("other", codecs.keyring).reply.seal(reply(running, 4)),  # another queue
        codecs.reply.seal(reply("other", 5)),  # another job
        codecs.task.seal(Task(running, 6, 7)),  # another kind
        b"",
        b"\xff" * 100,
        good[:-1],
    ]
    for each in [*strange, good]:
        tasks.settle(WID, [(running, each)], 0, 0, 0)
    _, found, bad = jobs.replies(running, FIRST_REPLY, 0)
    assert found == [reply(running, 1)]
    assert bad == len(strange)


def test_withdraw_takes_one_jobs_tasks_and_leaves_the_rest(jobs: Jobs, keys: Keys, codecs: Codecs, raw: Looks) -> None:
    mine = [codecs.task.seal(Task("job", lo, lo + 1)) for lo in range(3)]
    others = [codecs.task.seal(Task("other", 0, 1)), b"not a task"]
    wait(raw, keys, mine[0], others[0], mine[1], others[1], mine[2], mine[2])
    jobs.withdraw("job")
    assert raw.lrange(keys.queue) == [others[1], others[0]]
