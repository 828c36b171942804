"""Jobs over files with real workers: `mrq run --files`, --lines, --ship, and the same from Python."""

from __future__ import annotations

import csv
import gzip
import subprocess
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import BadParameter, Client, Files, JobFailed, Limits, by_key
from tests.support.commands import KEY, MRQ, User, environment
from tests.support.mapped import by_length, price
from tests.support.servers import ROOT, RealServer
from tests.support.stage import until

ROWS = [{"key": f"k{number % 7}", "n": str(number), "price": repr(number * 0.1)} for number in range(3000)]
HERE = {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The rows as CSV, once as it is and once in two compressed halves."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, rows in (("all.csv", ROWS), ("1.csv.gz", ROWS[:1000]), ("2.csv.gz", ROWS[1000:])):
        with (gzip.open if name.endswith("gz") else open)(folder / name, "wt", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["key", "n", "price"])
            writer.writeheader()
            writer.writerows(rows)
    return folder


def sums() -> dict[str, float]:
    exact: dict[str, Fraction] = {}
    for row in ROWS:
        exact[row["key"]] = exact.get(row["key"], Fraction(0)) + Fraction(float(row["price"]))
    return {key: float(total) for key, total in sorted(exact.items())}


def test_every_way_to_read_files_has_one_value_and_one_digest(logs: Path) -> None:
    with Client(local=2) as client:
        found = [
            client.submit_function(price, files, reduce=by_key("sum"), limits=Limits(chunk=chunk)).result()
            for files in (
                Files(logs / "all.csv"),
                Files(logs / "all.csv", whole=True),
                Files(logs / "all.csv", ship=True),
                Files(logs / "*.gz"),
                Files(logs / "*.gz", ship=True),
            )
            for chunk in (None, 700)
        ]
    assert [repr(each.native) for each in found] == [repr(sums())] * len(found)
    assert len({each.digest for each in found}) == 1


def value(row: dict[str, str]) -> tuple[str, int]:
    if row["n"] == "1777":
        raise LookupError("a bad row")
    return row["key"], 1


@pytest.mark.parametrize(
    ("names", "ship", "place"),
    [
        (["all.csv"], False, "all.csv, the line at byte"),
        (["1.csv.gz", "2.csv.gz"], False, "2.csv.gz, line 779"),
        (["all.csv"], True, "all.csv, line 1779"),
        (["1.csv.gz", "2.csv.gz"], True, "2.csv.gz, line 779"),
    ],
)
def test_a_record_that_fails_is_told_by_file_and_place(logs: Path, names: list[str], ship: bool, place: str) -> None:
    files = Files(*(logs / name for name in names), ship=ship)
    with Client(local=2) as client:
        with pytest.raises(JobFailed, match=place) as caught:
            client.map_reduce(value, files, reduce=by_key("count"))
        assert "LookupError: a bad row (in " in str(caught.value)
        if names == ["all.csv"]:
            job = client.submit_function(value, files, reduce=by_key("count"), limits=Limits(on_error="skip"))
            left = Counter(row["key"] for row in ROWS if row["n"] != "1777")
            assert job.result().native == left
            assert len(job.result().skipped) == 1


def test_values_that_no_fold_takes_are_told_by_file_and_place(logs: Path) -> None:
    with Client(local=2) as client:
        with pytest.raises(JobFailed, match=r"is str 'k\d', and the reducer takes .* \(in .*all\.csv, the line"):
            client.map_reduce(lambda row: ("a", row["key"]), Files(logs / "all.csv"), reduce=by_key("sum"))
        with pytest.raises(JobFailed, match=r"unhashable.* \(in .*1\.csv\.gz, line 2\)"):
            client.map_reduce(lambda row: ([row], 1), Files(logs / "1.csv.gz"), reduce=by_key("sum"))


def test_a_file_is_cut_as_its_lines_turn_out_slow(tmp_path: Path) -> None:
    """One worker alone would take the whole of it: at first nobody knows what a line costs."""
    path = tmp_path / "slow"
    path.write_text("".join(f"{number}\n" for number in range(100)))
    with Client(local=2) as client:
        job = client.submit_function("tests.system.test_file_jobs:slow", Files(path), reduce="list")
        assert job.result().native == [*range(100)]
        assert job.result().workers == 2


def slow(line: str) -> int:
    time.sleep(0.02)
    return int(line)


def test_the_command_line(logs: Path, tmp_path: Path) -> None:
    with User(tmp_path, **HERE) as at:
        run = ("run", "tests.support.mapped:price", "-q", "-o", "value", "--by-key", "sum")
        expected = "".join(f"{key}\t{total}\n" for key, total in sums().items())
        ran = at.run(*run, "--files", str(logs / "*.gz"))
        assert (ran.code, ran.out, ran.err) == (0, expected, "")
        ran = at.run(*run, "--files", str(logs / "all.csv"), "--top", "1")
        assert ran.out == "".join(f"{key}\t{total}\n" for key, total in sums().items() if total == max(sums().values()))
        columns = at.run(
            "run", "tests.support.mapped:columns", "-q", "-o", "value", "--files", str(logs / "all.csv"),
            "--by-key", "price=max", "--by-key", "n=distinct:k=1024",
        )  # fmt: skip
        assert columns.out.splitlines()[0] == "k0\t299.6\t429"
        ran = at.run(*run, "--files", str(logs / "nothing*"))
        assert (ran.code, "no file matches" in ran.err) == (2, True)
        damaged = logs / "2.csv.gz"
        damaged.write_bytes(damaged.read_bytes()[:-100])
        ran = at.run(*run, "--files", str(logs / "*.gz"))
        assert ran.code == 1
        assert f"{damaged}: near byte {damaged.stat().st_size} it is truncated or damaged (gzip)" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--terms", "3", "--encoding", "latin-1"], "--encoding says how files are read"),
        ([], "say what to call the function with: --terms N, --lines FILE or --files PATTERN"),
        (["--terms", "3", "--lines", "x"], "--terms and --lines were given"),
        (["--files", "x", "--by-key", "sum", "--reduce", "sum"], "give one of them"),
        (["--terms", "3", "--top", "3"], "--top goes with --by-key"),
        (["--terms", "3", "--by-key", "a=sum", "--by-key", "count"], "each needs its name"),
        (["--terms", "3", "--by-key", "a=sum", "--by-key", "a=count"], "twice"),
        (["--terms", "3", "--by-key", "sun"], "did you mean sum"),
        (["--terms", "3", "--by-key", "topk:k"], "--by-key: 'k' is not OPTION=VALUE"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path: Path, words: list[str], says: str) -> None:
    with User(tmp_path, **HERE) as at:
        ran = at.run("run", "builtins:len", *words)
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.err
        assert ran.err.count("\n") == 1


def test_lines_of_standard_input_in_another_encoding() -> None:
    done = subprocess.run(
        [*MRQ, "run", "builtins:len", "--lines", "-", "-q", "-o", "value", "--encoding", "utf-16"],
        input="é日\nx\n".encode("utf-16"), capture_output=True, timeout=30, env=environment(), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3\n", b"")


def test_on_a_queue_of_others_files_are_read_where_workers_may_and_shipped_elsewhere(
    server: RealServer, queue: str, logs: Path
) -> None:
    (logs / "plain").write_text("a\nbb\nbb\n")
    name = f"{by_length.__module__}:by_length"
    with Client(server.url, local=1, queue=queue, allow=[name]) as client:
        with pytest.raises(JobFailed, match="--files DIR"):
            client.map_reduce(name, Files(logs / "plain"), reduce=by_key("sum"))
        assert client.map_reduce(name, Files(logs / "plain", ship=True), reduce=by_key("sum")) == {1: 1, 2: 2}
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        assert client.map_reduce(name, Files(logs / "plain"), reduce=by_key("sum")) == {1: 1, 2: 2}
    with (
        User(logs, MRQ_URL=server.url, MRQ_QUEUE=queue, **HERE) as at,
        at.start("worker", "-c", "1", "--files", str(logs), "--allow", name) as worker,
    ):
        worker.hear("1 worker on queue")
        ran = at.run("run", name, "--files", str(logs / "plain"), "--by-key", "sum", "-q", "-o", "value")
        assert (ran.code, ran.out) == (0, "1\t1\n2\t2\n")
        ran = at.run("run", name, "--files", "/etc/passwd", "--by-key", "sum", "-q")
        assert ran.code == JobFailed.exit_code
        assert "is not in" in ran.err
        ran = at.run("run", name, "--lines", "/etc/hostname", "--by-key", "count", "-q")
        assert ran.code == 0  # shipped: only its submitter reads it
        worker.signal(15)
        worker.wait()


def test_a_job_over_files_goes_on_with_another_master(server: RealServer, queue: str, logs: Path) -> None:
    with User(logs, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY=KEY, **HERE) as at:
        with (
            at.start("run", f"{price.__module__}:price", "--files", str(logs / "all.csv"), "--by-key", "sum") as leader,
            Client(server.url, queue=queue, keys=[KEY]) as client,
        ):
            until(lambda: bool(client.snapshot().jobs), 10, "the job is there")
            job = client.snapshot().jobs[0].job
            leader.signal(9)
            leader.wait()
        with at.start("worker", "-c", "2"):
            ran = at.run("resume", job, "-q", "-o", "value")
        assert (ran.code, ran.out) == (0, "".join(f"{key}\t{total}\n" for key, total in sums().items()))


def with_rows(path: Path) -> None:
    """A Parquet file of the rows, in row groups."""
    arrow: Any = pytest.importorskip("pyarrow")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({name: [row[name] for row in ROWS] for name in ROWS[0]})
    parquet.write_table(table, path, row_group_size=700)


def test_parquet_is_read_by_row_groups_or_sent_as_records(tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    with_rows(path)
    (tmp_path / "broken.parquet").write_bytes(path.read_bytes()[:-50])
    (tmp_path / "lines.csv").write_text('key,n,price\n"a\nb",1,2\n')
    with Client(local=2) as client:
        seen = client.submit_function(price, Files(path), reduce=by_key("sum")).result()
        sent = client.submit_function(price, Files(path, ship=True), reduce=by_key("sum")).result()
        assert seen.terms == 5  # row groups
        assert sent.terms == len(ROWS)
        assert repr(seen.native) == repr(sent.native) == repr(sums())
        assert seen.digest == sent.digest
        with pytest.raises(JobFailed, match=r"a bad row \(in .*all\.parquet, row 377 of row group 2\)"):
            client.map_reduce(value, Files(path), reduce=by_key("count"))
        for ship in (False, True):
            with pytest.raises(BadParameter, match=r"broken\.parquet: is not a Parquet file"):
                client.map_reduce(value, Files(tmp_path / "broken.parquet", ship=ship), reduce=by_key("count"))
        lines = Files(tmp_path / "lines.csv", whole=True, ship=True)  # a record of two lines
        assert client.map_reduce(value, lines, reduce=by_key("count")) == {"a\nb": 1}
