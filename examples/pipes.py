"""Workers over pipes: no server, and the four ways to wait for them give the same digest.

python3 examples/pipes.py
"""

from __future__ import annotations

from mapreduce_rq import Client

if __name__ == "__main__":
    for collect in ("sequential", "select", "poll"):  # and epoll on Linux, kqueue elsewhere
        with Client(f"pipes:?collect={collect}", local=2) as mrq:
            result = mrq.submit("exp", x="2", terms=50).result()
            print(f"{collect}: {result.value}, digest {result.digest}")
