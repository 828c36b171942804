"""Workers that can do nothing for a job: both sides say so, and `--wait-workers` does not count them."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.sealing import Codecs, Keyring, kid_text
from mapreduce_rq.errors import JobFailed, NoWorkers
from tests.support.commands import KEY, User
from tests.support.servers import ROOT, RealServer
from tests.support.stage import allowed, until

OTHER = "6c" * 32
SOON = 5.0


def name_of(key: str) -> str:
    """How people see a key."""
    return kid_text(Keyring([bytes.fromhex(key)] if key else []).kid)


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    (tmp_path / "shop.py").write_text("def one(k):\n    return 1\n")
    (tmp_path / "depot.py").write_text("def one(k):\n    return 1\n")
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def keyed(at: User, key: str) -> dict[str, str]:
    return at.env | ({"MRQ_KEY": key} if key else {})


@pytest.mark.parametrize(("masters", "workers"), [(KEY, ""), ("", KEY), (KEY, OTHER)])
def test_both_sides_say_who_has_which_key(at: User, masters: str, workers: str) -> None:
    worker = at.start("worker", "-c", "1", env=keyed(at, workers))
    worker.hear("1 worker on queue")
    began = time.monotonic()
    master = at.start("compute", "exp", "1", "--wait-workers", "4", env=keyed(at, masters))
    told = master.hear("1 worker on queue", SOON)
    assert name_of(workers).removeprefix("no ") in told
    assert name_of(masters).removeprefix("no ") in told
    dropped = worker.hear("left to other workers: a task is", SOON)
    assert time.monotonic() - began < allowed(SOON + 2)
    assert masters == "" or name_of(masters) in dropped
    assert workers == "" or name_of(workers) in dropped
    assert master.wait() == NoWorkers.exit_code
    assert "no worker that can do this job came" in master.err[-1]
    assert not any("appeared" in line for line in master.err)


def test_a_worker_that_can_is_counted_beside_those_that_cannot(at: User) -> None:
    at.start("worker", "-c", "2").hear("2 workers on queue")
    at.start("worker", "-c", "1", env=keyed(at, KEY)).hear("1 worker on queue")
    master = at.start("compute", "exp", "1", "-o", "value", "--wait-workers", "10", env=keyed(at, KEY))
    assert (master.wait(), master.out) == (0, ["2.718281828459045\n"])


@pytest.mark.parametrize("wait", [True, False])
def test_a_worker_with_another_allow_list_says_so_to_the_master(at: User, wait: bool) -> None:
    at.start("worker", "-c", "2", "--allow", "depot").hear("2 workers on queue")
    patience = ("--wait-workers", "3") if wait else ()
    ran = at.run("run", "shop:one", "--terms", "10", "-q" if wait else "--json", *patience)
    assert ran.code == (NoWorkers.exit_code if wait else JobFailed.exit_code)
    assert "start it with --allow shop" in ran.err
    assert ran.err.count("start it with --allow shop") == 1


def test_one_that_refuses_is_told_of_once_and_another_does_the_job(at: User) -> None:
    at.start("worker", "-c", "1", "--allow", "depot").hear("1 worker on queue")
    master = at.start("run", "shop:one", "--terms", "1e4", "-o", "value", "--wait-workers", "30")
    told = master.hear("cannot do function-", SOON)
    assert "start it with --allow shop" in told
    at.start("worker", "-c", "1", "--allow", "shop").hear("1 worker on queue")
    assert (master.wait(), master.out) == (0, ["10000\n"])
    assert sum("cannot do function-" in line for line in master.err) == 1


def test_one_that_cannot_import_the_module_says_which_and_the_job_goes_on_elsewhere(at: User) -> None:
    gate = "from tests.support.terms import gated\n\n\ndef one(k):\n    gated(k)\n    return 1\n"
    (at.stage.folder / "shop.py").write_text(gate)
    at.stage.write("gated", "0")
    bare = keyed(at, KEY) | {"PYTHONPATH": str(ROOT)}
    without = at.start("worker", "-c", "2", "--name", "bare", env=bare)
    without.hear("2 workers on queue")
    with_it = at.start("worker", "-c", "1", env=keyed(at, KEY))
    with_it.hear("1 worker on queue")
    job = at.start("run", "shop:one", "--terms", "200", "--chunk", "1", "-o", "value", env=keyed(at, KEY))
    job.hear("the job goes on elsewhere")
    at.stage.open()
    assert (job.wait(60), job.out) == (0, ["200\n"])
    refused = without.hear("refuses function-")
    host = socket.gethostname()
    assert re.search(rf" WARNING {host}:\d+ bare refuses function-\w+: .*there is no module shop on {host}: ", refused)
    told = [line for line in job.err if "the job goes on elsewhere" in line]
    assert len(told) == 1
    assert f"{host} cannot work for function-" in told[0]
    assert f"there is no module shop on {host}: " in told[0]


OLDER = """
import mapreduce_rq.version as version
version.__version__ = "0.0.1"
import mapreduce_rq.runtime.worker.prepare as prepare
prepare.code_of = lambda made: "older"
from mapreduce_rq.cli.app import main
raise SystemExit(main())
"""


def test_what_all_workers_refuse_is_told_of_a_worker_and_its_host_and_of_no_term(at: User) -> None:
    """It "failed at term 0", and the module was missing "here", in the words of a worker read elsewhere."""
    bare = keyed(at, KEY) | {"PYTHONPATH": str(ROOT)}
    at.start("worker", "-c", "1", env=bare).hear("1 worker on queue")
    ran = at.run("run", "shop:one", "--terms", "5", env=keyed(at, KEY))
    host = re.escape(socket.gethostname())
    assert ran.code == 1
    assert re.search(
        rf"^mrq: shop:one failed on {host}:\d+: BadFunction: .*no module shop on {host}: ", ran.err, re.MULTILINE
    )
    assert "Traceback" not in ran.err


def test_a_worker_of_another_version_says_so_to_the_master(at: User) -> None:
    at.start("worker", "-c", "1", program=[sys.executable, "-c", OLDER]).hear("1 worker on queue")
    ran = at.run("compute", "exp", "1", "--wait-workers", "3")
    assert ran.code == NoWorkers.exit_code
    assert "this worker is 0.0.1" in ran.err


def test_the_doctor_names_what_nobody_can_read_and_clears_it(at: User, server: RealServer, queue: str) -> None:
    codecs = Codecs(queue, Keyring([bytes.fromhex(OTHER)]))
    prefix = f"mrq1:{{{queue}}}:"
    with server.client() as client:
        client.lpush(f"{prefix}q", codecs.task.seal(Task("exp-gone", 0, 1)), b"\0\0nonsense")
        client.hset(f"{prefix}j:exp-gone", mapping={"tok": "1:a:1", "state": "running", "spec": b"\1\2spec"})
        client.zadd(f"{prefix}J", {"exp-gone": 1.0})
        client.lpush(f"{prefix}f:lost:7:ab", b"a task")
        client.xadd(f"{prefix}r:exp-over", {"a": b"late"})
        client.hset(f"{prefix}w", "far:8:cd", b"\1\2beat")
        client.set(f"{prefix}j:exp-string", "x")
        client.zadd(f"{prefix}J", {"exp-string": 2.0})
    ran = at.run("doctor", "--watch", "0.2")
    for words in (
        "2 tasks in the queue that our key cannot read", f"{prefix}j:exp-gone", "lost:7",
        f"{prefix}r:exp-over", "far:8", f"{prefix}j:exp-string", "mrq doctor --clear",
    ):  # fmt: skip
        assert words in ran.out, (words, ran.out)
    ran = at.run("doctor", "--watch", "0.2", "--clear")
    assert "cleared" in ran.out
    with server.client() as client:
        assert until(lambda: not client.keys(f"{prefix}*"), 1, "nothing left"), client.keys(f"{prefix}*")


@pytest.mark.parametrize("watch", ["4", "0"])
def test_the_doctor_clears_nothing_of_somebody_who_is_there(at: User, watch: str) -> None:
    """With a watch of less than two beats it took a worker's tasks from it."""
    at.stage.write("gated", "1")
    theirs = keyed(at, KEY)
    at.start("worker", "-c", "1", env=theirs).hear("1 worker on queue")
    master = at.start("compute", "staged", "--terms", "4", "--function", "gated", "-o", "value", env=theirs)
    at.stage.begun(1)
    ran = at.run("doctor", "--watch", watch, "--clear")
    assert "left alone" in ran.out
    at.stage.open()
    assert master.wait() == 0


def test_purge_says_what_it_cannot_read(at: User) -> None:
    assert at.run("compute", "exp", "2", "--terms", "5", "--local", "1", env=keyed(at, KEY)).code == 0
    for how, did in (("--dry-run", "0 records would be deleted"), ("--yes", "deleted: 0 records")):
        ran = at.run("purge", how, env=keyed(at, OTHER))
        assert ran.code == 0
        assert "1 job cannot be read here, and will be left alone (" in ran.err
        assert did in ran.err
    ran = at.run("purge", "--yes", env=keyed(at, KEY))
    assert ran.err == "mrq: deleted: 1 record\n"


@pytest.mark.parametrize("ours", ["", OTHER])
def test_what_another_key_hides_is_not_said_to_be_absent(at: User, ours: str) -> None:
    """ "No jobs" stood below a line that named the key of one."""
    at.stage.write("gated", "1")
    theirs, mine = keyed(at, KEY), keyed(at, ours)
    at.start("worker", "-c", "1", env=theirs).hear("1 worker on queue")
    master = at.start("compute", "staged", "--terms", "4", "--function", "gated", "-o", "value", env=theirs)
    at.stage.begun(1)
    for command, words in (
        (["jobs"], "1 job cannot be read here, and no other is there"),
        (["jobs", "--state", "failed"], "1 job cannot be read here, and no other is failed"),
        (["workers"], "1 worker cannot be read here, and no other is there"),
        (["status"], "1 that cannot be read here"),
        (["dashboard", "--once"], "1 job cannot be read here, and no other is there"),
        (["dashboard", "--once"], "1 worker cannot be read here, and no other is there"),
        (["doctor", "--watch", "0.2"], "1 worker cannot be read here, and no other is there"),
        (["doctor", "--watch", "0.2"], "0 running, 0 ended, 1 that cannot be read here"),
    ):
        ran = at.run(*command, env=mine)
        said = ran.out + ran.err
        assert words in said, (command, said)
        assert not re.search(r"no jobs|no workers|: none|(jobs|workers) +none", said), (command, said)
    assert at.run("jobs", "--state", "failed", env=theirs).err == "mrq: no job is failed\n"
    at.stage.open()
    assert master.wait() == 0


def test_a_job_whose_workers_have_another_key_is_not_told_that_there_are_none(at: User) -> None:
    at.start("worker", "-c", "1", env=keyed(at, OTHER)).hear("1 worker on queue")
    mine = keyed(at, KEY)
    at.start("compute", "exp", "1", env=mine).hear("worker")
    said = until(lambda: text if "no workers" in (text := at.run("jobs", env=mine).out) else "", 10, "it is listed")
    assert said
    ran = at.run("jobs", env=mine)
    assert "1 worker cannot be read here, and no other is there: mrq doctor" in ran.err
