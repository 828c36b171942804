"""Users' modules in the current folder: found there by all who lead or work, and never in the way of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mapreduce_rq.cli.modules import OURS
from tests.support.commands import MRQ, Ran, environment
from tests.support.servers import ROOT, RealServer, die_with_parent
from tests.support.stage import until

MRQ_SCRIPT = [sys.executable, "-P", "-c", "import sys; from mapreduce_rq.cli.app import main; sys.exit(main())"]
"""What the installed `mrq` does: the current folder is on no path."""


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


def run(folder: Path, *arguments: str, start: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> Ran:
    done = subprocess.run(
        [*(start or MRQ_SCRIPT), *arguments],
        cwd=folder,
        env=environment(variables),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


JOB = ("run", "job:f", "-q", "--terms", "100", "-o", "value", "--local", "2")


def test_every_dependency_of_ours_is_known_as_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"]:
        name = line.split(";")[0].split("[")[0].split(">")[0].strip()
        assert name.replace("-", "_") in OURS


@pytest.mark.parametrize("start", [MRQ_SCRIPT, MRQ], ids=["mrq", "python -m"])
def test_names_of_pythons_and_of_ours_here_are_in_nobodys_way(tmp_path: Path, start: list[str]) -> None:
    names = ["queue", "redis", "logging", "rich", "numpy", "msgspec", "random", "socket", "select", "struct", "json"]
    names += ["cloudpickle", "gmpy2", "hiredis", "typer", "hashlib", "signal", "tempfile"]
    for name in names:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError(__file__)\n")
    (tmp_path / "helpers.py").write_text("def g(k):\n    return k\n")
    (tmp_path / "job.py").write_text("import helpers, numpy, queue\n\n\ndef f(k):\n    return helpers.g(k)\n")
    assert run(tmp_path, *JOB, start=start) == (0, "4950\n", "")
    assert run(tmp_path, "compute", "montecarlo", "--samples", "1e5", "--local", "1", "-q", start=start).code == 0


def test_what_is_installed_is_in_nobodys_way_either(tmp_path: Path) -> None:
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "job.py").write_text("def f(k):\n    return -k\n")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "job.py").write_text("def f(k):\n    return k\n")
    begin = f"import sys; sys.path.append({str(tmp_path / 'installed')!r}); {MRQ_SCRIPT[-1]}"
    assert run(tmp_path / "here", *JOB, start=[sys.executable, "-P", "-c", begin]).out == "4950\n"


def test_what_a_module_prints_is_not_the_result(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import atexit, os, sys\n"
        "print('on import')\n"
        "sys.stdout.write('without an end')\n"
        "os.system('echo from a child')\n"
        "os.write(1, b'from C\\n')\n\n\n"
        "def f(k):\n    print('called')\n    return k\n"
    )
    ran = run(tmp_path, *JOB)
    assert (ran.code, ran.out) == (0, "4950\n")
    for words in ("on import", "without an end", "from a child", "from C", "called"):
        assert words in ran.err
    assert run(tmp_path, *JOB[:-4], "--json", "--local", "1").json["value"] == "4950"


def test_no_such_module_says_where_it_should_be(tmp_path: Path) -> None:
    ran = run(tmp_path, "run", "nothing:f", "--terms", "3", "--local", "1")
    assert ran == (1, "", "mrq: nothing:f: there is no module nothing here: start in its folder, or set PYTHONPATH\n")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine.py:f", "mine.py:f: that names a file: leave .py out, mine:f"),
        ("mine: f", "'mine: f' is not the name of a function: write package.module:function"),
        ("mine:fligth", "mine:fligth: mine has no fligth; did you mean flight?"),
        ("mine:zzz", "mine:zzz: mine has no zzz; it has f, flight"),
    ],
)
def test_a_name_that_is_nearly_right(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "mine.py").write_text("def f(k):\n    return k\n\ndef flight(k):\n    return k\n")
    assert run(tmp_path, "run", name, "--terms", "3", "-q", "--local", "1") == (1, "", f"mrq: {says}\n")


def test_resume_and_master_look_where_run_and_worker_look(server: RealServer, queue: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, time\n\n\ndef f(k):\n    while k == 3 and not os.path.exists('open'):\n        time.sleep(0.01)\n"
        "    return k\n"
    )
    place = {"MRQ_URL": server.url, "MRQ_QUEUE": queue}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*MRQ_SCRIPT, *arguments],
            cwd=tmp_path,
            env=environment(place),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )

    def jobs() -> dict[str, str]:
        return {one["job"]: one["state"] for one in run(tmp_path, "jobs", "--json", variables=place).json}

    with start("worker", "-c", "1", "--allow", "job", "-q") as worker:
        let_go: dict[str, str] = {}
        for command in ("resume", "master"):
            with start("run", "job:f", "--terms", "10", "--chunk", "1", "-q") as master:
                until(lambda: set(jobs()) - set(let_go), 20, "a job")
                (job,) = set(jobs()) - set(let_go)
                let_go[job] = command
                master.send_signal(signal.SIGTERM)
                _, said = master.communicate(timeout=20)
                assert f"mrq resume {job[:15]}" in said
        (first, second) = let_go
        (tmp_path / "open").touch()
        ran = run(tmp_path, "resume", first, "-o", "value", variables=place)
        assert (ran.code, ran.out) == (0, "45\n")
        with start("master") as standby:
            until(lambda: jobs()[second] == "done", 20, "the standby leads it")
            standby.send_signal(signal.SIGTERM)
            out, said = standby.communicate(timeout=20)
            assert (standby.returncode, out) == (0, "")
            assert f"{second} is done" in said
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=20)


@pytest.mark.parametrize("name", ['a "quote"', "a\\backslash", b"\xff\xfe".decode(errors="surrogateescape"), "a\nline"])
def test_a_folder_for_temporary_files_that_cannot_be_written_down(tmp_path: Path, name: str) -> None:
    folder = Path(f"/tmp/mrq-odd-{os.getpid()}-{name}")  # short: the name decides, not the length
    folder.mkdir()
    try:
        ran = run(
            tmp_path, "compute", "exp", "--x", "2", "--local", "1", "-o", "value", variables={"TMPDIR": str(folder)}
        )
        assert ran == (0, "7.38905609893065\n", "")
    finally:
        folder.rmdir()


@pytest.mark.parametrize("folder", ["/nowhere", "/proc", "/dev/null", "relative"])
def test_a_folder_for_temporary_files_that_cannot_be_used(tmp_path: Path, folder: str) -> None:
    ran = run(tmp_path, "compute", "exp", "--x", "2", "--local", "1", "-o", "value", variables={"TMPDIR": folder})
    assert ran == (0, "7.38905609893065\n", "")
