"""Group gzipped logs by address: bytes sent to each, as a folder of files, for there may be millions of addresses.

    python3 examples/group_logs.py sums 'logs/*.gz'

Without arguments it makes four logs and writes to a folder that is gone at the end. A line that is no request gives no
pair; a log that ends before its time ends the job, and the line says which file it is.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mapreduce_rq import Client, Files


def sent(line: str) -> Iterator[tuple[str, int]]:
    words = line.split()
    if len(words) >= 4 and words[-1].isdigit():
        yield words[0], int(words[-1])


def made(folder: str) -> str:
    for number in range(4):
        with gzip.open(Path(folder, f"access{number}.log.gz"), "wt") as log:
            log.writelines(f"10.{number}.{k % 50}.{k % 7} GET /page {k % 1000}\n" for k in range(20_000))
            log.write("-- rotated --\n")
    return f"{folder}/*.gz"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Client() as mrq:
        out, *patterns = sys.argv[1:] or [f"{folder}/sums", made(folder)]
        written = mrq.reduce_by_key(sent, Files(*patterns, format="text"), "sum", out=out, parts=4)
        lines = [line for name in written.files for line in Path(out, name).read_text().splitlines()]
        total = sum(json.loads(line)["value"] for line in lines)
        print(f"{written.keys} addresses in {len(written.files)} files, {total} bytes sent")
