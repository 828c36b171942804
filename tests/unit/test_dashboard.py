"""The picture of a snapshot: everything is on it that should be, and it fits, whatever the terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mapreduce_rq.broker.inspect import ServerInfo
from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.cli.commands.dashboard import Changes
from mapreduce_rq.cli.screen.picture import ASCII, JOB_ORDER, UNICODE, WORKER_ORDER, Frame, bar, draw
from mapreduce_rq.cli.screen.views import Seen, job_state, snapshot_data, worker_state
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


def picture(shown: Snapshot, seen: Seen = SEEN, **frame: Any) -> list[str]:
    """The lines of the picture, without colours."""
    made = Frame("redis://:***@host:6379", 0.0002, **frame)
    encoding = "utf-8" if made.unicode else "ascii"
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=file, width=made.width, height=made.height or 100, color_system=None, legacy_windows=False)
    console.print(draw(shown, seen, made))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(encoding).splitlines()


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
    text = "\n".join(picture(snapshot((job(),))))
    for words in ("exp-abcdef ", "25 %", "250/1k", "125/s", "6.0 s left", "7.389 ± 1e-09", "3 workers"):
        assert words in text


def test_an_ended_job_shows_its_value_or_why_it_has_none() -> None:
    good = job(state="done", record=done(value="7.38905609893065", bound="3.853e-50"))
    bad = job("sum-bcdefghijk", "failed", record=failed(message="a bad term"))
    text = "\n".join(picture(snapshot((good, bad)), width=120))
    assert "7.38905609893065 ± 3.853e-50" in text
    assert "ValueError a bad term" in text


def test_a_job_without_a_master_is_said_to_wait() -> None:
    assert "no master" in "\n".join(picture(snapshot((job(master=""),))))
    assert job_state(job(), Seen(NOW, {"exp-abcdefghijkl": 16.0})) == "waiting"
    assert job_state(job(), Seen(NOW, {"exp-abcdefghijkl": 2.0})) == "running"


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


def test_what_does_not_fit_is_counted() -> None:
    jobs = tuple(job(f"exp-{k:06}xyz", "done" if k else "running", created=NOW - k) for k in range(50))
    workers = tuple(worker(f"host:{k}:ab", pid=k, name="") for k in range(50))
    lines = picture(snapshot(jobs, workers), height=24)
    assert len(lines) == 24
    text = "\n".join(lines)
    assert "exp-000000" in text, "what runs comes first"
    shown = sum("exp-0000" in line for line in lines if "done" in line or "%" in line)
    assert f"and {50 - shown} more jobs" in text
    assert "more workers" in text


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
    assert later == {"host:17:ab": 3.0, "exp-abcdefghijkl": 0.0}
    assert changes.look(snapshot(workers=(worker(count=2),)), 14.0) == {"host:17:ab": 0.0}


def test_the_machine_form_has_stable_keys() -> None:
    data = snapshot_data(snapshot((job(),), (worker(), WorkerView("h:1:a", None, "killed", 0))), SEEN, "redis://x", 0.1)
    assert data.keys() == {
        "schema", "at", "url", "queue", "server", "waiting", "in_flight", "dropped", "jobs", "workers",
    }  # fmt: skip
    assert data["jobs"][0]["counted"] == 250
    assert data["jobs"][0]["eta_s"] == pytest.approx(6.0)
    assert data["workers"][0]["state"] == "busy"
    assert data["workers"][1] | {"state": "dead", "obituary": "killed"} == data["workers"][1]
