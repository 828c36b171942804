"""`mrq web` in a real browser: what it shows while workers and Redis are killed, who may look, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

import pytest

from mapreduce_rq.cli.web.feed import MOST_VIEWERS
from tests.support.browser import Browser
from tests.support.commands import KEY, Running, User
from tests.support.servers import FreshServer, RealServer
from tests.support.stage import allowed, until

TOKEN = "5e" * 16
EVIL = "<img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def address(running: Running) -> str:
    """Where it serves."""
    found = re.search(r"at (http://\S+)", running.hear("at http://"))
    assert found
    return found[1]


def get(
    url: str, path: str = "/", method: str = "GET", body: str = "", **headers: str
) -> tuple[int, str, dict[str, str]]:
    """Status, text and headers, for a request with these headers (``_`` for ``-``)."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=allowed(20))
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


class Stream:
    """A viewer that is no browser."""

    def __init__(self, url: str, path: str = "/stream", **headers: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=allowed(20))
        self._connection.request(
            "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        self.answer = self._connection.getresponse()

    def next(self) -> dict[str, object]:
        """The next message."""
        while True:
            line = self.answer.readline()
            assert line, "the stream has ended"
            if line.startswith(b"data: "):
                found: dict[str, object] = json.loads(line[6:])
                return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def test_a_server_that_hangs_is_told_of_soon(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at, Stream(address(at.start("web", "--port", "0"))) as viewer:
        assert viewer.next()["trouble"] == ""
        os.kill(server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            until(lambda: str(viewer.next()["trouble"]).startswith("no answer from Redis for "), 20, "it is told")
            assert time.monotonic() - began < allowed(5)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        until(lambda: viewer.next()["trouble"] == "", 20, "it is back")


def test_a_browser_sees_workers_and_then_redis_die(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey", aof=True)
    with User(tmp_path, MRQ_URL=server.url) as at, Browser(tmp_path) as browser:
        at.start("worker", "-c", "2", "--name", "painter").hear("2 workers")
        at.stage.write("seconds", "0.05")
        at.stage.open()
        job = at.start("compute", "staged", "--terms", "100000", "--function", "slow", "--chunk", "10")
        web = at.start("web", "--port", "0")
        browser.open(address(web))
        browser.until("document.querySelectorAll('#workers tr').length === 2")
        browser.until("document.querySelector('#jobs li .state')?.textContent.includes('running')")

        # The keys: down to the job, into its page, and back to where one was.
        browser.press("j", "Enter")
        browser.until("location.hash.startsWith('#job/staged-') && document.querySelector('.map')")
        for words in ("submitted", "led by", "checkpoint", "painter:"):
            browser.until(f"document.getElementById('page').textContent.includes('{words}')")
        browser.press("Escape")
        browser.until("!document.getElementById('lists').hidden")
        assert browser.value("document.activeElement.textContent").startswith("staged-")
        browser.press("/", *"nothing-has-this")
        browser.until("document.getElementById('jobs-none').textContent === 'no job has this in it'")
        browser.press("Escape")
        browser.until("!document.querySelector('#jobs li').hidden")

        victim = int(browser.value("document.querySelector('#workers a').textContent.split(':')[1]"))
        os.kill(victim, signal.SIGKILL)
        browser.until(f"document.getElementById('events').textContent.includes('painter:{victim}: killed by SIGKILL')")
        browser.until("document.getElementById('events').textContent.includes('joined')")

        server.kill9()
        browser.until("document.getElementById('trouble').textContent.startsWith('no answer from Redis for')")
        assert browser.value("document.querySelectorAll('#jobs li').length") == 1  # its last answer
        server.start()
        browser.until("document.getElementById('trouble').textContent === ''", 30)
        browser.until("document.getElementById('events').textContent.includes('Redis answers again')")
        browser.until("document.body.dataset.live === 'true'")
        assert browser.errors == []

        started = time.monotonic()
        web.signal(signal.SIGTERM)
        assert web.wait() == 143
        assert time.monotonic() - started < allowed(2), "it ends with a stream open"
        browser.until("document.getElementById('trouble').textContent.startsWith('no news for')", 30)
        job.signal(signal.SIGTERM)
        job.wait()


def test_every_size_and_both_colours(at: User, tmp_path: Path) -> None:
    at.start("worker", "-c", "2").hear("2 workers")
    at.run("compute", "montecarlo", "--samples", "300000")
    web = at.start("web", "--port", "127.0.0.1:0")
    with Browser(tmp_path) as browser:
        browser.open(address(web))
        browser.until("document.querySelectorAll('#jobs li').length === 1 && document.querySelector('#workers tr')")
        papers = set()
        for page in ("", "#job"):
            if page:
                browser.press("1", "Enter")
                browser.until("document.getElementById('report')")
            for width in (400, 1600):
                for scheme in ("light", "dark"):
                    picture = tmp_path / f"web{page}-{width}-{scheme}.png"
                    browser.look(width, 900, scheme, picture)
                    assert picture.stat().st_size > 5000
                    assert browser.value("document.documentElement.scrollWidth <= innerWidth"), (page, width)
                    papers.add(browser.value("getComputedStyle(document.body).backgroundColor"))
        assert len(papers) == 2
        # The report of the job, under the page's own address.
        browser.value("document.getElementById('report').click()")
        browser.until("document.body.textContent.includes('Workers over time')")
        assert browser.value("location.pathname").startswith("/report/montecarlo-")
        assert browser.value("getComputedStyle(document.body).maxWidth") == "1000px", "its style is not refused"
        assert browser.errors == []


def test_no_name_is_more_than_a_text(at: User, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(
        f"def f(k):\n    if k == 3:\n        raise ValueError({EVIL!r} + '\\u202e')\n    return k\n"
    )
    at.start("worker", "-c", "1", "--name", EVIL, "--allow", "evil").hear("1 worker")
    ran = at.run("run", "evil:f", "--terms", "10", "--on-error", "skip", "-o", "value")
    assert (ran.code, ran.out) == (3, "42\n"), ran.err
    web = at.start("web", "--port", "0")
    with Browser(tmp_path) as browser:
        browser.open(address(web))
        browser.until("document.querySelector('#workers tr') && document.querySelector('#events li')")
        assert EVIL in browser.value("document.getElementById('workers').textContent")
        assert EVIL in browser.value("document.getElementById('events').textContent")
        browser.press("1", "Enter")
        browser.until(f"document.getElementById('page').textContent.includes({json.dumps(EVIL)})")
        assert "\u202e" not in browser.value("document.body.textContent")
        browser.press("Escape")
        browser.press("2", "Enter")
        browser.until("document.querySelector('#page .facts')")
        browser.value(f"location.hash = 'job/' + encodeURIComponent({json.dumps(EVIL)})")
        browser.until("document.getElementById('page').textContent.includes('is not among the newest jobs')")
        browser.value("location.hash = 'job/%E0%A4%A'")  # a link that was cut
        browser.until("!document.getElementById('lists').hidden")
        assert browser.value("document.querySelectorAll('img').length") == 0
        assert browser.value("document.title") != "taken"
        assert not [url for url in browser.requests if url.endswith("/x")]
        assert browser.errors == []
    status, _, headers = get(address(web), "/report/" + quote(EVIL, safe=""))
    assert status == 404
    assert headers["content-type"].startswith("text/plain")


def test_a_token_opens_it_and_no_other(at: User, tmp_path: Path) -> None:
    at.start("worker", "-c", "1").hear("1 worker")
    at.run("compute", "exp", "--x", "2")
    job = json.loads(at.run("jobs", "--json").out)[0]["job"]
    (tmp_path / "token").write_text(TOKEN + "\n")
    web = at.start("web", "--port", "0.0.0.0:0", "--token-file", str(tmp_path / "token"))
    assert TOKEN not in web.hear("with a token")
    url = address(web).replace("0.0.0.0", "127.0.0.1")
    forged = TOKEN[:-1] + "f"
    for path in ("/", "/page.js", "/stream", f"/report/{job}", "/nothing"):
        for headers in ({}, {"Authorization": f"Bearer {forged}"}, {"Cookie": f"mrq-00000000={TOKEN}; token={TOKEN}"}):
            status, text, _ = get(url, path, **headers)
            assert (status, "exp" in text) == (401, False), (path, headers)
    assert get(url, f"/report/{job}", Authorization=f"Bearer {TOKEN}")[0] == 200
    status, _, found = get(url, "/sign-in", "POST", f"token={forged}")
    assert (status, "set-cookie" in found) == (401, False)
    assert get(url, "/sign-in", "POST", "token=" + "x" * 5000)[0] == 413
    status, _, found = get(url, "/sign-in", "POST", f"token={TOKEN}")
    assert (status, found["location"]) == (303, "/")
    cookie, *rest = found["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(rest)
    assert TOKEN not in cookie
    assert get(url, f"/report/{job}", Cookie=f"a=b; {cookie}")[0] == 200
    assert get(url, f"/report/{job}", Cookie=cookie[:-1] + ("0" if cookie[-1] != "0" else "1"))[0] == 401
    # With a token its host may have any name; but no other site's script may use a browser that has it.
    assert get(url, Host="mrq.example", Cookie=cookie)[0] == 200
    assert get(url, "/stream", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Cookie=cookie)[0] == 421
    with Browser(tmp_path) as browser:
        browser.open(url)
        browser.until("document.getElementById('token')")
        for token, what in ((forged, "document.body.textContent.includes('not the token')"), (TOKEN, "window.change")):
            browser.value("document.getElementById('token').focus()")
            browser.press(*token, "Enter")
            browser.until(what)
        browser.until("document.querySelectorAll('#jobs li').length === 1")
        assert browser.value("document.cookie") == "", "no script can read it"
    listening = Path(f"/proc/{web.pid}/cmdline")
    if listening.exists():
        assert TOKEN not in listening.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_without_a_token_it_is_for_this_machine_alone(at: User, host: str) -> None:
    ran = at.run("web", "--port", f"{host}:0")
    assert (ran.code, ran.err.count("\n"), ran.out) == (2, 1, "")
    assert "a token is needed: set MRQ_TOKEN to what `mrq key` prints" in ran.err


def test_another_host_is_not_answered(at: User) -> None:
    url = address(at.start("web", "--port", "0"))
    port = urlsplit(url).port
    for host in (
        "attacker.example",
        f"attacker.example:{port}",
        "127.0.0.1.attacker.example",
        "",
        "localhost@x",
        "[::1",
    ):
        status, text, _ = get(url, Host=host)
        assert (status, "stylesheet" in text) == (421, False), host
    for host in ("localhost", f"127.0.0.1:{port}", f"LOCALHOST:{port}", "[::1]:1", "127.8.8.8"):
        assert get(url, Host=host)[0] == 200, host
    assert get(url, "/stream", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors")[0] == 421
    assert get(url, method="POST")[0] == 405


def test_every_answer_forbids_what_the_page_does_not_need(at: User) -> None:
    at.run("compute", "exp", "--x", "2", "--local", "1")
    job = json.loads(at.run("jobs", "--json").out)[0]["job"]
    url = address(at.start("web", "--port", "0"))
    for path in ("/", "/page.js", "/page.css", f"/report/{job}", "/report/none", "/none"):
        _, _, headers = get(url, path)
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_a_job_that_runs_has_no_report_yet(at: User) -> None:
    at.stage.write("seconds", "0.05")
    at.stage.open()
    at.start("compute", "staged", "--terms", "100000", "--function", "slow", "--local", "1")
    until(lambda: "staged" in at.run("jobs").out, 20, "it runs")
    job = json.loads(at.run("jobs", "--json").out)[0]["job"]
    status, text, _ = get(address(at.start("web", "--port", "0")), f"/report/{job}")
    assert (status, text) == (409, f"{job} has not ended yet: `mrq attach {job}` waits for its end\n")


def processed(server: RealServer) -> int:
    """How many commands the server has been asked, this question included."""
    with server.client() as client:
        found: int = client.info("stats")["total_commands_processed"]
        return found


def test_one_reads_for_all_and_nobody_for_none(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        url = address(at.start("web", "--port", "0"))

        def asked(viewers: int) -> int:
            """Commands in the time of three messages."""
            streams = [Stream(url) for _ in range(viewers)]
            for stream in streams:
                assert stream.next()["whole"]
            before = processed(server)
            for _ in range(3):
                for stream in streams:
                    assert not stream.next()["whole"]
            found = processed(server) - before
            for stream in streams:
                stream.close()
            return found

        one, many = asked(1), asked(30)
        assert many <= one + 12, "as many looks, or one more"

        # All have gone. That is noticed at once, and from then on nothing is read.
        def resting() -> bool:
            before = processed(server)
            time.sleep(1.5)
            return processed(server) - before <= greeting

        before = processed(server)
        greeting = processed(server) - before  # what a new client of ours says, with its question
        until(resting, 20, "nothing is read while nobody looks")
        assert resting()


def test_viewers_are_bounded_and_a_stalled_one_delays_nobody(at: User) -> None:
    url = address(at.start("web", "--port", "0"))
    stalled = socket.create_connection((urlsplit(url).hostname, urlsplit(url).port))
    stalled.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    streams = [Stream(url) for _ in range(MOST_VIEWERS - 1)]
    assert all(stream.answer.status == 200 for stream in streams)
    status, text, _ = get(url, "/stream")
    assert (status, text) == (503, f"{MOST_VIEWERS} viewers are connected already: close one of them\n")
    assert streams[-1].next()["whole"]
    assert not streams[-1].next()["whole"]
    for stream in streams:
        stream.close()

    def room() -> bool:
        with Stream(url) as one:
            return one.answer.status == 200

    until(room, 20, "there is room again")
    stalled.close()


def test_a_redis_that_hangs_delays_neither_the_page_nor_the_end(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        web = at.start("web", "--port", "0")
        url = address(web)
        with Stream(url) as stream:
            assert stream.next()["whole"]
            os.kill(server.pid, signal.SIGSTOP)
            try:
                time.sleep(1.2)  # the reader waits for an answer now
                assert get(url)[0] == 200
                started = time.monotonic()
                web.signal(signal.SIGINT)
                assert web.wait() == 130
                assert time.monotonic() - started < allowed(2)
            finally:
                os.kill(server.pid, signal.SIGCONT)


def test_a_viewers_acl_is_enough(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    words = {f"MRQ_{role}_PASSWORD": f"of-{role.lower()}" for role in ("MASTER", "WORKER", "VIEWER")}
    with User(tmp_path, MRQ_KEY=KEY, **words) as at:
        with server.client() as client:
            for line in at.run("acl").out.splitlines():
                client.execute_command("ACL", "SETUSER", *line.split()[1:])
        assert at.run("compute", "exp", "--x", "2", "--local", "1", "-u", server.url).code == 0
        web = at.start("web", "--port", "0", "-u", f"unix://mrq-viewer:of-viewer@{server.socket}")
        url = address(web)
        assert "of-viewer" not in "".join(web.err)
        with Stream(url) as stream:
            first = stream.next()
        jobs = first["jobs"]
        assert isinstance(jobs, dict)
        (job,) = jobs["order"]
        assert first["trouble"] == ""
        assert get(url, f"/report/{job}")[0] == 200
        with Stream(url, f"/stream?job={job}") as stream:
            page = stream.next()["page"]
        assert isinstance(page, dict)
        assert page["ended"]


def test_mistakes_are_one_line(at: User, tmp_path: Path) -> None:
    (tmp_path / "short").write_text("guess me\n")
    for arguments, words in (
        (("--token-file", str(tmp_path / "short")), "16 to 1024 plain characters: make one with `mrq key`"),
        (("--token-file", str(tmp_path / "none")), "cannot read"),
        (("--port", "http"), "is not a port such as 9465"),
    ):
        ran = at.run("web", *arguments)
        assert (ran.code, ran.err.count("\n"), words in ran.err) == (2, 1, True), ran.err
        assert "guess" not in ran.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = at.run("web", "--port", str(taken.getsockname()[1]))
        assert (ran.code, ran.err.count("\n")) == (74, 1)


def test_a_missing_extra_is_named(at: User) -> None:
    without = (
        "import sys; sys.modules['uvicorn'] = None\nfrom mapreduce_rq.cli.app import main\nsys.exit(main(sys.argv[1:]))"
    )
    ran = at.start("web", program=(sys.executable, "-c", without))
    assert ran.wait() == 2
    assert ran.err == ["mrq: a web page needs starlette and uvicorn: pip install 'mapreduce-rq[web]'\n"]
