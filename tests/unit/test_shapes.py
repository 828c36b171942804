"""Types of messages that many threads meet for the first time at once."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
import msgspec
from mapreduce_rq.core.parameters import Params, validate
sys.setswitchinterval(1e-6)

def made(n):
    fields = {f"f{k}": f"int | Inner{n} | None" for k in range(8)}
    space = {"__annotations__": {"a": "int | None"}, "a": None, "__module__": "__main__"}
    globals()[f"Inner{n}"] = type(f"Inner{n}", (Params,), space, frozen=True, kw_only=True)
    space = {"__annotations__": fields, "__module__": "__main__", **dict.fromkeys(fields)}
    return type(f"P{n}", (Params,), space, frozen=True, kw_only=True)

kinds = [made(n) for n in range(500)]
start = threading.Barrier(4)

def meet():
    for kind in kinds:
        start.wait()
        validate("x", kind, {"f1": 1})

threads = [threading.Thread(target=meet) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("met")
"""


def test_threads_that_meet_a_type_at_once_end_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == ("met\n", 0), ran.stderr[-500:]
