"""The picture of a snapshot: everything is on it that should be, and it fits, whatever the terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from rich.console import Console

from mapreduce_rq.broker.inspect import ServerInfo
from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.cli.screen.changes import Changes
from mapreduce_rq.cli.screen.charts import ASCII, UNICODE, bar
from mapreduce_rq.cli.screen.frame import Frame
from mapreduce_rq.cli.screen.job_rows import JOB_ORDER
from mapreduce_rq.cli.screen.picture import Known, draw
from mapreduce_rq.cli.screen.view import View
from mapreduce_rq.cli.screen.views import (
    LEADERLESS_SECONDS,
    WORKER_ORDER,
    Seen,
    job_state,
    living_first,
    remedy_words,
    silence,
    snapshot_data,
    state_words,
    task_words,
    value_words,
    worker_name,
    worker_state,
    workers_on,
)
from mapreduce_rq.cli.web.shown import job_rows
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.messages import Beat
from tests.support.records import cancelled, done, failed

NOW = 1_700_000_000.0
SEEN = Seen(NOW)
SERVER = ServerInfo("Valkey", "9.1.2", "master", "noeviction", 64 << 20, 5 << 20, True, False, 3)


def job(name: str = "exp-abcdefghijkl", state: str = "running", **changes: Any) -> JobView:
    report = Report(counted=250, total=1000, rate=125.0, elapsed_s=2.0, workers=3, value="7.389", error=1e-9)
    made = JobView(name, "exp", {"x": "2"}, State(state), NOW - 60, "1:n:1", "master:n", report, None)
    return replace(made, **changes)


def worker(wid: str = "host:17:ab", **changes: Any) -> WorkerView:
    beat: dict[str, Any] = {
        "count": 1, "host": "host", "pid": 17, "name": "host:17", "state": "busy", "job": "exp-abcdefghijkl",
        "lo": 100, "hi": 200, "seconds": 0.3, "done": 1234, "rate": 4.5, "rss": 30 << 20, "version": "1", "probe": "",
        "kid": 0, "at": NOW - 1,
    }  # fmt: skip
    return WorkerView(wid, Beat(**beat | changes), "", 2)


def snapshot(jobs: tuple[JobView, ...] = (), workers: tuple[WorkerView, ...] = (), **changes: Any) -> Snapshot:
    return replace(Snapshot("queue-1", SERVER, jobs, workers, 7, 3, len(jobs)), **changes)


def picture(
    shown: Snapshot, seen: Seen = SEEN, *, view: View | None = None, known: Known | None = None, **frame: Any
) -> list[str]:
    """The lines of the picture, without colours."""
    made = Frame("redis://:***@host:6379", 0.0002, **frame)
    encoding = "utf-8" if made.unicode else "ascii"
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=file, width=made.width, height=made.height or 400, color_system=None, legacy_windows=False)
    console.print(draw(shown, seen, made, view, known))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_facts_of_a_job_stand_apart_however_long_they_are(width: int) -> None:
    report = Report(counted=11_500, total=200_000, rate=39.6, elapsed_s=360_000.0, workers=3)
    long = structs.replace(report, counted=123_456_789_012, total=999_999_999_999, rate=999_999.0, elapsed_s=9e6)
    for one, words in (
        (report, "5 % 11.5k/200k 39.6/s 1:19:20 left"),
        (long, "12 % 123G/1T 1M/s 10 d 3 h left"),
    ):
        drawn = picture(snapshot((job(report=one),), (worker(),)), width=width)
        assert any(words in " ".join(line.split()) for line in drawn), drawn


@pytest.mark.parametrize("width", [40, 48, 56, 60, 64, 72, 80, 100, 160])
@pytest.mark.parametrize("alone", [False, True])
def test_no_number_of_a_running_job_is_cut(width: int, *, alone: bool) -> None:
    report = Report(counted=361_000_000, total=10**10, rate=8.75e6, elapsed_s=41.0, workers=3, out=26)
    workers = () if alone else (worker(job="primes-2bcfeeabcdef"),)
    one = snapshot((job("primes-2bcfeeabcdef", report=report),), workers)

    def words(columns: int) -> list[str]:
        line = next(line for line in picture(one, width=columns) if "primes-2bcfee" in line)
        return [word for word in line.split() if not set(word) <= set("│━─╸╺")]

    shown = " ".join(words(width))
    assert set(words(width)) <= set(words(200))
    assert ("no workers" if alone else "3 %") in shown
    if width >= 56 and not alone:
        assert "18:22 left" in shown


def test_an_empty_queue_says_what_to_do() -> None:
    text = "\n".join(picture(snapshot()))
    assert "no jobs: mrq compute" in text
    assert "no workers: mrq worker" in text
    assert "7 tasks waiting, 3 in hand" in text


def test_the_head_says_where_one_is() -> None:
    lines = picture(snapshot())
    assert lines[0].startswith("mrq  queue-1  redis://:***@host:6379")
    assert "Valkey 9.1.2" in lines[1]
    assert "0.2 ms away" in lines[1]
    assert "5 MB of 64 MB" in lines[1]


def test_a_running_job_shows_how_far_how_fast_how_long_and_what_so_far() -> None:
    workers = (worker(), worker("host:18:ab", pid=18), worker("host:19:ab", pid=19, job="other-abc"))
    text = "\n".join(picture(snapshot((job(),), workers)))
    for words in ("exp-abcdef ", "25 %", "250/1k", "125/s", "6.0 s left", "7.389 ± 1e-09", "2 workers, 0 tasks out"):
        assert words in text


def test_an_ended_job_shows_its_value_or_why_it_has_none() -> None:
    good = job(state="done", record=done(value="7.38905609893065", bound="3.853e-50"))
    bad = job("sum-bcdefghijk", "failed", record=failed(message="a bad term"))
    text = "\n".join(picture(snapshot((good, bad)), width=120))
    assert "7.38905609893065 ± 3.853e-50" in text
    assert "ValueError: a bad term" in text


@pytest.mark.parametrize("state", list(State))
def test_a_job_in_any_state_is_drawn_under_its_word(state: State) -> None:
    """A job that was cancelled with `--now` ended the dashboard with a traceback."""
    records = {"done": done(), "failed": failed(), "cancelled": cancelled(now=state is State.CANCELLED_NOW)}
    one = job(state=state.value, record=records.get(state.word))
    shown = snapshot((one,), (worker(),))
    for unicode in (True, False):
        for width in (60, 100, 200):
            assert "exp-abcdef" in "\n".join(picture(shown, width=width, unicode=unicode))
        view = View(page="job", selected={"jobs": one.job})
        page = "\n".join(picture(shown, view=view, known=Known(), width=100, unicode=unicode))
        assert state.word in page
        assert state.word == state.value or state.value not in page
    assert job_rows(shown, SEEN)[one.job]["state"] == state.word
    (data,) = snapshot_data(shown, SEEN, "redis://h", 0.1)["jobs"]
    assert data["state"] == state.word


def test_our_own_ends_are_not_named_twice() -> None:
    late = job("late-a", "failed", record=failed(kind="Deadline", message="the deadline passed with 0 terms counted"))
    given_up = job("given-a", "cancelled", record=cancelled(message="cancelled"))
    wanting = job("wanting-a", "cancelled", record=cancelled(message="no worker came in time"))
    assert value_words(late) == "the deadline passed with 0 terms counted"
    assert value_words(given_up) == ""
    assert value_words(wanting) == "no worker came in time"


def reported(seconds_ago: float) -> Report:
    return Report(counted=250, total=1000, rate=125.0, at=NOW - seconds_ago)


def test_a_job_without_a_master_says_so_and_what_to_do() -> None:
    text = "\n".join(picture(snapshot((job(master=""),), (worker(),))))
    assert "no master" in text
    assert "it has no master: mrq resume exp-abcdef" in text
    assert "left" not in text
    mine = job(master="", lazy=True)
    assert remedy_words(mine, snapshot((mine,)), SEEN).endswith("its items are gone with it: mrq cancel exp-abcdef")


@pytest.mark.parametrize(
    ("looked", "reported_ago", "silent"),
    [
        (None, 3600.0, 0.0),  # one look tells nothing, whatever the clocks say
        (0.0, 3600.0, 0.0),  # it has changed just now
        (1.0, 3600.0, 0.0),  # not for long enough
        (2.1, 23.0, 23.0),
        (2.1, 4.0, 4.0),
        (11.0, -3600.0, 11.0),  # its clock goes ahead
        (11.0, 0.5, 11.0),
    ],
)
def test_silence_is_what_our_own_looks_say_and_the_report_how_long(
    looked: float | None, reported_ago: float, silent: float
) -> None:
    one = job(report=reported(reported_ago))
    seen = Seen(NOW, {} if looked is None else {one.job: looked})
    assert silence(one, seen) == pytest.approx(silent)
    alone = silent >= LEADERLESS_SECONDS
    assert job_state(one, seen) == ("waiting" if alone else "running")
    words = remedy_words(one, snapshot((one,), (worker(),)), seen)
    assert words == (
        f"no sign of its master for {silent:.0f} s: mrq resume exp-abcdef" if silent >= LEADERLESS_SECONDS else ""
    )


@pytest.mark.parametrize(
    ("looked", "submitted_ago", "silent"), [(None, 60.0, 0.0), (1.0, 60.0, 0.0), (2.1, 60.0, 60.0), (2.1, 3.0, 3.0)]
)
def test_a_master_that_died_before_its_first_report_is_missed(
    looked: float | None, submitted_ago: float, silent: float
) -> None:
    one = job(report=Report(), created=NOW - submitted_ago)
    seen = Seen(NOW, {} if looked is None else {one.job: looked})
    assert silence(one, seen) == pytest.approx(silent)
    assert state_words(one, snapshot((one,), (worker(),)), seen) == (
        "no master" if silent >= LEADERLESS_SECONDS else "running"
    )


def test_a_job_without_workers_does_not_run() -> None:
    shown = snapshot((job(),), (WorkerView("host:17:ab", None, "killed", 0), worker("host:18:ab", at=NOW - 60)))
    assert state_words(shown.jobs[0], shown, SEEN) == "no workers"
    assert "no worker is on this queue: mrq worker" in "\n".join(picture(shown))
    assert state_words(shown.jobs[0], snapshot((job(),), (worker(),)), SEEN) == "running"


def test_each_worker_is_counted_for_one_job_alone() -> None:
    jobs = tuple(job(name) for name in ("a-1", "b-1", "c-1"))
    workers = tuple(worker(f"host:{pid}:ab", pid=pid, job=name) for pid, name in enumerate(["a-1", "b-1", "b-1", "x"]))
    shown = snapshot(jobs, workers)
    assert [workers_on(one, shown, SEEN) for one in jobs] == [1, 2, 0]
    ended = job(state="done", record=done(value="1", workers=5))
    assert workers_on(ended, snapshot((ended,), workers), SEEN) == 5


def test_a_worker_busy_for_a_job_that_has_ended_says_so() -> None:
    shown = snapshot((job(state="failed", record=failed(kind="Deadline", message="late")),), (worker(),))
    assert task_words(shown.workers[0], shown) == "exp-abcdefghijkl (over)"
    assert "exp-abcdef (over)" in "\n".join(picture(shown, width=100))


def test_the_dead_keep_their_names_and_stand_behind_the_living() -> None:
    dead = [
        WorkerView("host:5:ab", None, "killed by SIGKILL (painter:5 on host)", 0),
        WorkerView("host:6:ab", None, "killed by SIGKILL (host:6)", 0),
        WorkerView("host:7:ab", None, "killed (painter:8 on host)", 0),
        WorkerView("host:8:ab", None, "over the task timeout of 5 s", 0),
    ]
    assert [worker_name(one) for one in dead] == ["painter:5", "host:6", "host:7", "host:8"]
    shown = snapshot(workers=(*dead, worker("zoo:1:ab", state="idle"), worker("zoo:2:ab", at=NOW - 60)))
    assert [worker_state(one, SEEN) for one in living_first(shown, SEEN)] == ["idle", "silent", *["dead"] * 4]


def test_memory_that_is_not_known_is_not_nought() -> None:
    assert "0 B" not in "\n".join(picture(snapshot(workers=(worker(rss=0),)), width=120))


def test_a_worker_shows_what_it_does() -> None:
    text = "\n".join(picture(snapshot(workers=(worker(),)), width=120))
    for words in ("host:17 ", "busy", "exp-abcdef", "4.5", "0.3 s", "1.23k", "30 MB", "now"):
        assert words in text


def test_a_worker_is_judged_by_our_looks_before_its_clock() -> None:
    assert worker_state(worker(), SEEN) == "busy"
    assert worker_state(worker(at=NOW - 3600), SEEN) == "silent"
    assert worker_state(worker(at=NOW + 3600), SEEN) == "silent"
    assert worker_state(worker(at=NOW - 3600), Seen(NOW, {"host:17:ab": 1.0})) == "busy"
    assert worker_state(WorkerView("host:17:ab", None, "killed", 0), SEEN) == "dead"


def test_workers_of_one_name_can_be_told_apart() -> None:
    text = "\n".join(picture(snapshot(workers=(worker(name="box", pid=1), worker("host:2:b", name="box", pid=2)))))
    assert "box:1" in text
    assert "box:2" in text


def test_trouble_warnings_and_dropped_entries_are_said() -> None:
    server = replace(SERVER, eviction_policy="allkeys-lru")
    shown = snapshot(server=server, dropped=2, why_dropped="a beat fails its MAC")
    text = "\n".join(picture(shown, trouble="no answer from Redis for 3 s", keys="q quit"))
    assert "no answer from Redis for 3 s" in text
    assert "warning: this server evicts keys" in text
    assert "2 entries cannot be read: a beat fails its MAC" in text
    assert "q quit" in text


def test_trouble_is_told_to_its_end_and_leaves_room_for_the_keys() -> None:
    trouble = "not cancelled: redis://host:6379 does not let user mrq-viewer use a command: the user's rules lack one"
    drawn = picture(snapshot((job(),), (worker(),)), width=40, height=15, trouble=trouble, keys="q quit")
    assert len(drawn) == 15
    assert "the user's rules lack one" in "".join(drawn[2:6]).replace("  ", "")
    assert drawn[-1] == "q quit"
    drawn = picture(snapshot((job(),)), width=40, height=15, trouble="word " * 1000, keys="q quit")
    assert (len(drawn), drawn[-1].strip()) == (15, "q quit")


def test_what_does_not_fit_is_counted() -> None:
    jobs = tuple(job(f"exp-{k:06}xyz", "done" if k else "running", created=NOW - k) for k in range(50))
    workers = tuple(worker(f"host:{k}:ab", pid=k, name="") for k in range(50))
    lines = picture(snapshot(jobs, workers), height=24)
    assert len(lines) == 24
    text = "\n".join(lines)
    assert "exp-000000" in text, "what runs comes first"
    shown = sum("exp-0000" in line for line in lines if "done" in line or "%" in line)
    assert f"1 to {shown} of 50" in text
    there = sum(line.startswith("│ host:") for line in lines)
    assert f"1 to {there} of 50" in text
    assert shown > 2
    assert there > 2


def test_without_unicode_everything_is_ascii() -> None:
    lines = picture(
        snapshot((job(), job("a-b", "done", record=done(value="1", bound="2"))), (worker(),)), unicode=False
    )
    assert all(line.isascii() for line in lines)
    assert any("7.389 +- 1e-09" in line for line in lines)


def test_no_state_is_told_by_its_colour_alone() -> None:
    marks = {UNICODE.marks[state] for state in JOB_ORDER}
    assert len(marks) == len(JOB_ORDER)
    assert len({ASCII.marks[state] for state in JOB_ORDER}) == len(JOB_ORDER)
    assert UNICODE.full != UNICODE.empty
    assert "busy" in WORKER_ORDER


@given(st.none() | st.floats(-1, 2), st.integers(1, 200))
def test_a_bar_has_its_width_and_its_share(share: float | None, width: int) -> None:
    drawn = bar(share, width, UNICODE, "")
    assert drawn.cell_len == width
    if share is not None:
        halves = 2 * drawn.plain.count(UNICODE.full) + drawn.plain.count(UNICODE.half)
        assert halves == int(min(1.0, max(0.0, share)) * width * 2)


texts = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60)
jobs_strategy = st.builds(
    job,
    st.from_regex(r"[a-z]{1,12}-[a-z2-7]{26}", fullmatch=True),
    st.sampled_from(["running", "done", "failed", "cancelled"]),
    master=st.sampled_from(["", "master:n"]),
    report=st.builds(
        Report,
        counted=st.integers(0, 10**15),
        total=st.none() | st.integers(0, 10**15),
        rate=st.floats(0, 1e12),
        elapsed_s=st.floats(0, 1e8),
        value=st.none() | texts,
        error=st.none() | st.floats(0, 1e300),
        workers=st.integers(0, 500),
    ),
    record=st.none()
    | st.builds(done, value=texts, bound=st.none() | texts)
    | st.builds(failed, message=texts)
    | st.builds(cancelled, message=texts),
)
workers_strategy = st.builds(
    worker,
    st.from_regex(r"[a-z]{1,20}:[0-9]{1,7}:[0-9a-f]{16}", fullmatch=True),
    state=st.sampled_from(["idle", "busy", "stopped"]),
    name=texts,
    done=st.integers(0, 10**12),
    rate=st.floats(0, 1e7),
    rss=st.integers(0, 10**12),
    seconds=st.floats(0, 1e7),
    at=st.floats(NOW - 1e5, NOW + 1e5),
    hi=st.integers(0, 10**15),
)


@settings(max_examples=60)
@given(
    st.lists(jobs_strategy, max_size=12),
    st.lists(workers_strategy, max_size=12),
    st.integers(60, 200),
    st.none() | st.integers(16, 60),
    st.booleans(),
)
def test_every_picture_fits_its_frame(
    jobs: list[JobView], workers: list[WorkerView], width: int, height: int | None, unicode: bool
) -> None:
    lines = picture(snapshot(tuple(jobs), tuple(workers)), width=width, height=height, unicode=unicode, keys="q quit")
    assert max(map(len, lines)) <= width
    if height is not None:
        assert len(lines) == height
    assert lines[-1].startswith("q quit")


def test_changes_are_timed_by_our_own_clock() -> None:
    changes = Changes()
    assert changes.look(snapshot((job(),), (worker(),)), 10.0) == {}
    later = changes.look(snapshot((job(token="1:n:2"),), (worker(),)), 13.0)
    assert later == {"exp-abcdefghijkl": 0.0}  # a worker may have been silent for long before our first look
    assert changes.look(snapshot(workers=(worker(count=2),)), 14.0) == {"host:17:ab": 0.0}
    assert changes.look(snapshot(workers=(worker(count=2),)), 17.0) == {"host:17:ab": 3.0}


def test_the_machine_form_has_stable_keys() -> None:
    data = snapshot_data(snapshot((job(),), (worker(), WorkerView("h:1:a", None, "killed", 0))), SEEN, "redis://x", 0.1)
    assert data.keys() == {
        "schema", "at", "url", "queue", "server", "waiting", "in_flight", "dropped", "jobs", "workers",
    }  # fmt: skip
    assert data["jobs"][0]["counted"] == 250
    assert data["jobs"][0]["eta_s"] == pytest.approx(6.0)
    assert data["workers"][0]["state"] == "busy"
    assert data["workers"][1] | {"state": "dead", "obituary": "killed"} == data["workers"][1]
