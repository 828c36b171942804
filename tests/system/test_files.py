"""`mrq compute wordcount` on a queue that anybody can write to, with real workers."""

from __future__ import annotations

import os
from pathlib import Path

from mapreduce_rq.errors import JobFailed
from tests.support.commands import User
from tests.support.servers import RealServer


def test_an_unsigned_queue_reads_files_in_the_workers_folder_alone(
    server: RealServer, queue: str, tmp_path: Path
) -> None:
    inside = tmp_path / "read"
    inside.mkdir()
    (inside / "words").write_text("a b a\n")
    (tmp_path / "secret").write_text("hidden\n")
    os.mkfifo(inside / "fifo")
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as at:
        with at.start("worker", "-c", "1") as worker:
            worker.hear("1 worker on queue")
            ran = at.run("compute", "wordcount", str(inside / "words"), "-o", "value")
            assert ran.code == JobFailed.exit_code
            assert "--files DIR" in ran.err
            assert "hidden" not in ran.out + ran.err
            worker.signal(15)
            worker.wait()
        with at.start("worker", "-c", "1", "--files", str(inside)) as worker:
            worker.hear("1 worker on queue")
            ran = at.run("compute", "wordcount", str(inside / "words"), "-o", "value")
            assert (ran.code, ran.out) == (0, "2\ta\n1\tb\n")
            ran = at.run("compute", "wordcount", str(tmp_path / "secret"), "-o", "value")
            assert ran.code == JobFailed.exit_code
            assert "is not in" in ran.err
            assert "hidden" not in ran.out + ran.err
            ran = at.run("compute", "wordcount", str(inside / "fifo"), "-o", "value")
            assert (ran.code, "is not a regular file" in ran.err) == (2, True)
            worker.signal(15)
            worker.wait()
        ran = at.run("worker", "--files", str(inside / "words"))
        assert (ran.code, "is not a folder" in ran.err) == (2, True)
