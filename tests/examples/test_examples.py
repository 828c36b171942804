"""Each example, run as its first lines say, and what it prints held against something else than itself."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import KEY, Running, environment
from tests.support.rq_fleet import RQFleet
from tests.support.servers import ROOT, FreshServer

EXAMPLES = ROOT / "examples"
TESTED = {
    *(
        "executor.py",
        "flaky_server.py",
        "fleet.py",
        "kernel.py",
        "lines.py",
        "notebook.ipynb",
        "own_reducer.py",
        "plugin",
        "pool.py",
    ),
    *(
        "loop.py",
        "parallel.py",
        "pipes.py",
        "stream.py",
        "rq_fleet",
        "group_csv.py",
        "group_logs.py",
        "group_arrays.py",
    ),
}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(env) if env is not None else environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {
        path.name for path in EXAMPLES.iterdir() if path.name not in {"__pycache__", ".ipynb_checkpoints"}
    } == TESTED


def test_flaky_server() -> None:
    total, said = run("examples/flaky_server.py").splitlines()
    assert int(total) == sum(range(100))
    assert said == "10 were asked for more than once, such as 7"


def test_kernel() -> None:
    k = np.arange(1, 10**7 + 1, dtype=float)
    assert f"is {math.fsum(1.0 / (k * k))!r}\n" in run("examples/kernel.py")


def test_lines(tmp_path: Path) -> None:
    text = "Über die Brücke, über den Fluss\nund über den Berg: 3 Stunden\n" * 50
    (tmp_path / "text").write_text(text, encoding="utf-8")
    printed = [
        (word, int(count))
        for count, word in map(str.split, run("examples/lines.py", str(tmp_path / "text")).splitlines())
    ]
    counts = Counter(re.findall(r"[a-zäöüß]+", text.lower()))
    assert len(printed) == 5
    assert dict(printed).items() <= counts.items()
    assert [count for _, count in printed] == sorted(counts.values(), reverse=True)[:5]


def test_group_csv(tmp_path: Path) -> None:
    rows = [(f"r{k % 3}", k / 8, f"c{k % 5}") for k in range(500)]
    (tmp_path / "sales.csv").write_text(
        "region,price,customer\n" + "".join(f"{r},{p},{c}\n" for r, p, c in rows), encoding="utf-8"
    )
    means = {name: [p for r, p, _ in rows if r == name] for name in ("r0", "r1", "r2")}
    expected = [[name, f"{math.fsum(row) / len(row):.3f}", "5", "customers"] for name, row in means.items()]
    assert [line.split() for line in run("examples/group_csv.py", str(tmp_path / "sales.csv")).splitlines()] == expected


def test_group_logs() -> None:
    total = 4 * sum(k % 1000 for k in range(20_000))
    assert run("examples/group_logs.py") == f"1400 addresses in 4 files, {total} bytes sent\n"


def test_group_arrays() -> None:
    *lines, total = run("examples/group_arrays.py").splitlines()
    assert [line.split()[0] for line in lines] == ["basalt", "granite", "slate"]
    assert [line.split()[1:3] for line in lines] == [["float64", "(256,),"]] * 3
    found = {line.split()[0]: int(line.split()[-1]) for line in lines}
    # Noise of 0.1 in 200 samples: near the top, where the curve is flat.
    kinds = ("granite", "basalt", "slate")
    tops = [np.sin(found[kind] * (number + 1) / 40) for number, kind in enumerate(kinds)]
    assert min(tops) > 0.9
    assert abs(float(total) - 600 / 3 * sum(np.sin(np.arange(256) * (n + 1) / 40).sum() for n in range(3))) < 250


def test_own_reducer() -> None:
    lows = [k * k % 101 for k in range(1, 100)]
    highs = [low + k for k, low in enumerate(lows, 1)]
    expected = [str([min(lows), max(highs)]), "IN THE ORDER OF THE TERMS", "longest"]
    assert run("examples/own_reducer.py").splitlines() == expected


def test_executor() -> None:
    lines = run("examples/executor.py").splitlines()
    numbers = [int(line.split()[0]) for line in lines[:-1]]
    assert ["is prime" in line for line in lines[:-1]] == [pow(2, n - 1, n) == 1 for n in numbers]  # Fermat's test
    assert lines[-1] == "sum of powers: 31"


def test_pipes() -> None:
    digest = "c8762c6ebbf0a053d258d343181336e4"  # of e^2 over Redis, as the README's first command prints it
    assert run("examples/pipes.py").splitlines() == [
        f"{collect}: {math.exp(2)!r}, digest {digest}" for collect in ("sequential", "select", "poll")
    ]


def test_stream() -> None:
    assert run("examples/stream.py").splitlines() == [
        "the first prime from 10^9 on: 1000000007",  # OEIS A033873
        f"residues: {sorted([2**10 % 97, 3**11 % 97, 5**12 % 97])}",
    ]


def test_loop() -> None:
    sums = [round(math.fsum(map(math.sqrt, range(n))), 3) for n in (10, 100, 1000)]
    largest = round(max(abs(math.sin(k)) for k in range(100)), 6)
    assert run("examples/loop.py").splitlines() == [f"largest: {largest}", f"sums: {sums}"]


def test_parallel() -> None:
    pytest.importorskip("joblib")
    assert run("examples/parallel.py") == f"their sum: {sum(map(math.sqrt, range(1000)))}\n"


def test_pool() -> None:
    assert run("examples/pool.py").splitlines() == [
        "longest: 261 steps, from 6171",  # OEIS A006877, A006878
        "powers: [1024, 243]",
        "first values: [0, 1, 7, 2, 5, 8]",  # OEIS A006577
        "27 takes 111",
    ]


def test_fleet(server_url: str) -> None:
    env = environment({"MRQ_URL": server_url, "MRQ_KEY": KEY}, path=[EXAMPLES])
    with Running("worker", "-c", "2", env=env) as worker:
        printed = run("examples/fleet.py", env=env)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert "5761455 primes up to 10^8, bound 0 (exact)" in printed  # OEIS A006880
    assert "15120 has the most divisors" in printed  # the first of those below 20000 with 80 (OEIS A002182)
    assert "failed at term 1234" in printed
    assert "ValueError: I do not like this one" in printed
    assert "4999 terms are well; [1234] is left out" in printed


def test_the_fleet_without_a_url_asks_for_one() -> None:
    ran = subprocess.run(
        [sys.executable, "examples/fleet.py"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines() == [
        "give the URL of the Redis that your hosts share: python3 examples/fleet.py redis://host"
    ]


def test_rq_fleet(fresh_server: FreshServer, tmp_path: Path) -> None:
    folder = EXAMPLES / "rq_fleet"
    with RQFleet(fresh_server("valkey", tcp=True), tmp_path) as fleet:
        for _ in range(2):
            fleet.worker("-P", str(folder))
        printed = run("examples/rq_fleet/enqueue.py", fleet.url)
    days = (blake2b(b"%d" % day, digest_size=4).digest() for day in range(10**6))
    expected = math.fsum(int.from_bytes(day, "big") / 100 for day in days)
    assert f"revenue: {expected:,.2f}\n" in printed
    assert "exact, digest " in printed


def test_notebook(tmp_path: Path) -> None:
    """In a real kernel; from a process of its own, for what the notebook's machinery warns of is not ours."""
    code = f"""
import nbformat, nbclient, re
notebook = nbformat.read({str(EXAMPLES / "notebook.ipynb")!r}, 4)
assert not any(cell.get("outputs") for cell in notebook.cells), "an example carries no outputs"
nbclient.NotebookClient(notebook, timeout=100, resources={{"metadata": {{"path": {str(tmp_path)!r}}}}}).execute()
for cell in notebook.cells:
    for output in cell.get("outputs", []):
        assert output["output_type"] != "stream" or output["name"] != "stderr", output
        if output["output_type"] == "execute_result":
            print(output["data"]["text/plain"])
        print(*re.findall(r"<td[^>]*>([^<]*)</td>", output.get("data", {{}}).get("text/html", "")), sep="\\n")
        print(*re.findall(r"<progress (.*?)></progress>", output.get("data", {{}}).get("text/html", "")))
"""
    env = environment({"IPYTHONDIR": str(tmp_path / "ipython"), "HOME": os.environ.get("HOME", "/")})
    printed = [line for line in run("-c", code, env=env).splitlines() if line]
    exact = math.fsum((1 if k % 2 == 0 else -1) / (2 * k + 1) for k in range(10**6))
    assert printed[0] == 'max="1000000" value="1000000"'
    assert printed[1].startswith(f"({exact!r}, ")
    assert printed[2] == 'max="10000000" value="10000000"'
    value, bound = printed[4], re.match(r"([\d.e-]+) \(statistical\)", printed[5])
    assert bound
    assert abs(float(value) - math.pi) < 3 * float(bound[1])
    assert dict(re.findall(r"(\d+): (\d+)", printed[-1])) == {"4": "2", "3": "2", "8": "1"}
