"""`python -m mapreduce_rq` is `mrq`."""

from __future__ import annotations

import os
import sys


def run() -> int:
    """Run the command, with the current folder not before Python's own library: see cli/modules.py."""
    if sys.path and not sys.flags.safe_path and sys.path[0] in {"", os.getcwd()}:
        del sys.path[0]
    from mapreduce_rq.cli.app import script  # only now: a queue.py here would be taken for Python's

    return script()


if __name__ == "__main__":
    sys.exit(run())
