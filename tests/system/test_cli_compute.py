"""`mrq compute` as a user runs it: real processes, real servers, and every mistake one can make."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from tests.support.commands import KEY, MRQ, User, environment, mrq
from tests.support.servers import ROOT, FreshServer, RealServer
from tests.support.stage import allowed, until
from tests.support.terms import total, total_without

KEYS = [
    "schema", "job", "computation", "params", "value", "float", "bound", "bound_kind", "terms", "terms_used", "tasks",
    "workers", "elapsed_s", "digest",
]  # fmt: skip


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    with User(tmp_path) as made:
        yield made


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    """A user whose environment names a server, a queue and a key."""
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY=KEY) as made:
        yield made


# -- the main job ------------------------------------------------------------------------------------------------------


def test_the_main_job() -> None:
    ran = mrq("compute", "exp", "--x", "2", "--terms", "50")
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0] == "7.38905609893065"
    rest = {line[:15].strip(): line[15:] for line in lines[1:]}
    assert rest["error bound"] == "3.853e-50 (proven)"
    assert rest["x"] == "2 (exact)"
    assert rest["terms"] == "50"
    assert rest.keys() >= {"tasks", "workers", "seconds", "digest"}


def test_the_json_of_a_result_has_stable_keys() -> None:
    ran = mrq("compute", "exp", "--x", "1/3", "--terms", "20", "--json")
    record = ran.json
    assert list(record)[: len(KEYS)] == KEYS
    assert (record["computation"], record["params"]) == ("exp", {"x": "1/3", "terms": 20})
    assert record["float"] == float(record["value"])
    assert record["terms"] == record["terms_used"] == 20
    exact = sum((Fraction(1, 3) ** n / Fraction(_factorial(n)) for n in range(20)), Fraction(0))
    assert record["float"] == exact.numerator / exact.denominator
    assert mrq("compute", "exp", "--x", "1/3", "--terms", "20", "-o", "json").json["digest"] == record["digest"]


def _factorial(n: int) -> int:
    return 1 if n == 0 else n * _factorial(n - 1)


def test_the_same_digest_for_any_number_of_workers_and_any_cut() -> None:
    digests = set()
    for local, chunk in (("1", "1"), ("2", "7"), ("5", "auto"), ("5", "1")):
        record = mrq("compute", "exp", "--x", "-30", "--local", local, "--chunk", chunk, "--json").json
        assert record["value"] == "9.357622968840175e-14"
        digests.add((record["digest"], record["terms_used"]))
    assert len(digests) == 1


def test_a_tolerance_takes_a_random_sample_of_a_range() -> None:
    """The first terms of 0, 1, 2, ... said 2047.5 with a bound of 36."""
    ran = mrq("run", "builtins:float", "--terms", "1e6", "--reduce", "mean", "--rel-tol", "0.05", "--json")
    assert ran.code == 0
    found = ran.json
    assert (found["ended"], found["bound_kind"]) == ("tolerance met", "statistical")
    assert found["terms_used"] < found["terms"] == 10**6
    assert abs(found["float"] - 499_999.5) <= float(found["bound"]) <= 0.05 * found["float"]


def test_large_numbers_as_people_write_them() -> None:
    record = mrq("compute", "exp", "--x", "2", "--terms", "1_000", "--chunk", "1e2", "--json").json
    assert record["terms_used"] == 1000
    assert record["tasks"] == 10


def test_standard_output_is_the_result_alone(server: RealServer, queue: str) -> None:
    ran = mrq("compute", "exp", "--x", "2", "-o", "value", "-u", server.url, "--queue", queue, "--local", "1")
    assert (ran.code, ran.out) == (0, "7.38905609893065\n")
    quiet = mrq("compute", "exp", "--x", "2", "-o", "value", "-u", server.url, "--queue", queue, "--local", "1", "-q")
    assert (quiet.out, quiet.err) == ("7.38905609893065\n", "")


def test_nobody_reads_the_result() -> None:
    done = subprocess.run(
        f"{' '.join(MRQ)} compute exp --x 2 | true", shell=True, capture_output=True, text=True, env=environment(),
        cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.stderr == ""


def test_a_private_server_leaves_nothing_behind(tmp_path: Path) -> None:
    ran = mrq("compute", "exp", "--x", "2", env=environment({"TMPDIR": str(tmp_path)}))
    assert ran.code == 0
    assert list(tmp_path.iterdir()) == []


# -- several processes -------------------------------------------------------------------------------------------------


def test_two_workers_and_a_master_each_in_a_process_of_their_own(at: User) -> None:
    workers = [at.start("worker", "-c", "1", "--name", name) for name in "ab"]
    until(lambda: len(at.run("workers", "--json").json) == 2, 10, "both workers seen")
    record = at.run("compute", "exp", "--x", "2", "--terms", "1000", "--chunk", "1", "--json").json
    assert record["value"] == "7.38905609893065"
    assert record["tasks"] == 1000
    assert {worker["name"] for worker in at.run("workers", "--json").json} == {"a", "b"}
    for worker in workers:
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert at.run("workers", "--json").json == []


def test_without_workers_it_says_so_and_goes_on_when_one_appears(at: User, queue: str) -> None:
    master = at.start("compute", "exp", "--x", "2", "-o", "value")
    assert "start `mrq worker`" in master.hear(f"0 workers on queue {queue}", seconds=4.0)
    at.start("worker", "-c", "1")
    assert master.wait() == 0
    assert master.out == ["7.38905609893065\n"]


def test_no_worker_in_time(at: User, server: RealServer, queue: str) -> None:
    ran = at.run("compute", "exp", "--x", "2", "--wait-workers", "0.5")
    assert (ran.code, ran.out) == (75, "")
    late = f"mrq: no worker came to queue {queue} within 0.5 s: start `mrq worker` with the same URL\n"
    assert ran.err.endswith(late)
    with server.client() as client:
        assert client.llen(f"mrq1:{{{queue}}}:q") == 0


def test_a_worker_killed_in_the_middle_changes_nothing(at: User) -> None:
    at.stage.write("gated", "5")
    at.start("worker", "-c", "2")
    master = at.start("compute", "staged", "--terms", "40", "--function", "gated", "--chunk", "1", "--json")
    victim = at.stage.begun(5)
    os.kill(victim, signal.SIGKILL)
    at.stage.begun(5, but=victim)
    at.stage.open()
    assert master.wait() == 0
    assert json.loads(master.out[0])["value"] == hex(total(40))


# -- endings -----------------------------------------------------------------------------------------------------------


def test_a_failing_term_ends_the_job_with_its_traceback(user: User) -> None:
    user.stage.write("poison", "7:raise")
    process = user.start("compute", "staged", "--terms", "20", "--function", "poisoned", "--json")
    assert process.wait(traceback=True) == 1
    last = process.err[-1]
    assert last.startswith("mrq: staged")
    assert "failed at term 7 on " in last
    assert "ValueError: a poisoned term" in last
    assert "terms.py" in "".join(process.err), "where the worker failed"
    record = json.loads(process.out[0])
    assert (record["state"], record["term"], record["kind"]) == ("failed", 7, "ValueError")


def test_failing_terms_are_left_out_and_listed(user: User) -> None:
    user.stage.write("poison", "3:raise 7:raise")
    job = ("compute", "staged", "--terms", "20", "--function", "poisoned", "--on-error", "skip")
    ran = user.run(*job, "--json")
    assert ran.code == 3
    assert ran.json["value"] == hex(total_without(20, 3, 7))
    assert sorted(one["term"] for one in ran.json["skipped"]) == [3, 7]
    text = user.run(*job)
    assert text.code == 3
    assert "2 of the terms have no value" in text.out


def test_a_deadline_ends_it_with_what_is_counted(user: User) -> None:
    user.stage.write("gated", "10")
    job = ("compute", "staged", "--terms", "20", "--function", "gated", "--chunk", "1")
    ran = user.run(*job, "--deadline", str(allowed(1)), "--json")
    assert ran.code == 124
    assert ran.json["ended"] == "deadline"
    assert 0 < ran.json["terms_used"] < 20


# -- mistakes ----------------------------------------------------------------------------------------------------------


def test_a_mistake_is_one_line_and_exit_code_2() -> None:
    ran = mrq("compute", "exp", "--x", "nan")
    assert ran == (2, "", "mrq: exp: x: nan is not a finite number\n")


def refuses(url: str, words: str, *, env: dict[str, str] | None = None, code: int = 69) -> None:
    """Both sides say so in one line, and end."""
    for arguments in (("compute", "exp", "--x", "2"), ("worker", "-c", "1", "--burst"), ("status",)):
        ran = mrq(*arguments, "-u", url, env=env)
        assert (ran.code, ran.out) == (code, ""), ran.err
        assert words in ran.err
        assert ran.err.startswith("mrq: ")
        assert ran.err.count("\n") == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        refuses(f"redis://127.0.0.1:{taken.getsockname()[1]}", "cannot reach redis://127.0.0.1:")
    refuses(f"unix://{tmp_path}/none", "cannot reach unix://")


def test_the_wrong_password_is_refused_and_never_shown(fresh_server: FreshServer) -> None:
    server = fresh_server("redis", tcp=True)
    url = f"redis://:geheim-123@127.0.0.1:{server.port}"
    refuses(url, "invalid username-password pair")
    assert "geheim-123" not in mrq("status", "-u", url).err
    refuses(f"redis://127.0.0.1:{server.port}", "refuses us: Authentication required (the password comes from")
    good = environment({"MRQ_PASSWORD": server.password})
    assert mrq("status", "-u", f"redis://127.0.0.1:{server.port}", env=good).code == 0


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A TCP port on which every line is answered like this."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while connection.recv(65_536):
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_not_a_redis_at_all() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        refuses(f"redis://127.0.0.1:{port}", "it is not a Redis")


def test_a_redis_that_is_too_old() -> None:
    info = b"# Server\r\nredis_version:6.2.14\r\n"
    with answering(b"$%d\r\n%b\r\n" % (len(info), info)) as port:
        refuses(f"redis://127.0.0.1:{port}", "Redis 6.2.14 is too old")


def test_a_server_that_evicts_is_warned_about(fresh_server: FreshServer) -> None:
    server = fresh_server("redis", maxmemory="64mb", maxmemory_policy="allkeys-lru")
    ran = mrq("compute", "exp", "--x", "2", "-u", server.url, "--local", "1", "-o", "value")
    assert (ran.code, ran.out) == (0, "7.38905609893065\n")
    assert "warning: this server evicts keys" in ran.err


def test_a_key_of_another_program_under_our_prefix(fresh_server: FreshServer) -> None:
    server = fresh_server("redis")
    with server.client() as client:
        client.set("mrq1:{default}:q", "mine")
        refuses(server.url, "key mrq1:{default}:q holds a string, and mrq needs a list")
        assert client.get("mrq1:{default}:q") == b"mine"
        assert client.dbsize() == 1


# -- precedence --------------------------------------------------------------------------------------------------------


def test_a_flag_goes_before_its_variable_and_that_before_the_default() -> None:
    env = environment({"MRQ_OUTPUT": "value"})
    assert mrq("compute", "exp", "--x", "0", env=env).out == "1.0\n"
    assert mrq("compute", "exp", "--x", "0", "-o", "json", env=env).json["value"] == "1.0"
    assert len(mrq("compute", "exp", "--x", "0").out.splitlines()) > 5


def test_mrq_url_goes_before_redis_url(server: RealServer, queue: str) -> None:
    dead = "redis://127.0.0.1:1"
    env = environment({"REDIS_URL": dead, "MRQ_QUEUE": queue})
    assert mrq("status", env=env).code == 69
    assert mrq("status", env=env | {"MRQ_URL": server.url}).code == 0
    assert mrq("status", "-u", server.url, env=env | {"MRQ_URL": dead}).code == 0


def test_a_variable_for_a_flag() -> None:
    assert mrq("compute", "exp", "--x", "0", "-o", "value", env=environment({"MRQ_QUIET": "yes"})).code == 0
    wrong = mrq("compute", "exp", "--x", "0", env=environment({"MRQ_QUIET": "perhaps"}))
    assert (wrong.code, wrong.err) == (2, "mrq: MRQ_QUIET is 'perhaps': say 1 or 0\n")


@pytest.mark.parametrize(
    ("redirect", "code", "out", "err"),
    [
        ("2>&-", 0, "7.38905609893065\n", ""),
        (">&-", 74, "", "mrq: cannot write to standard output: it is closed; run it again\n"),
        (">/dev/full", 74, "", "mrq: cannot write to standard output: No space left on device; run it again\n"),
    ],
)
def test_closed_and_full_streams_are_said_in_a_line(redirect: str, code: int, out: str, err: str) -> None:
    line = f"{sys.executable} -m mapreduce_rq compute exp --x 2 -o value {redirect}"
    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (code, out, err)
