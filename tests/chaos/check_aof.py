"""``scripts/check_aof PATH``: does the history in a server's append-only directory hold what every history must?

Keys come from MRQ_KEY or --key-file, as for every command. Every term is computed again: it takes as long as the jobs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mapreduce_rq.client.environment import chosen_keys
from mapreduce_rq.errors import MrqError
from tests.chaos.aof import BadHistory
from tests.chaos.history import History


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  this is a program


def main() -> int:
    """The exit code: 0 if all holds, 1 if not, 2 if it cannot be read."""
    parser = argparse.ArgumentParser(prog="scripts/check_aof", description=__doc__)
    parser.add_argument("path", type=Path, help="the server's append-only directory, or one file")
    parser.add_argument("--key-file", help="signing keys, one a line")
    asked = parser.parse_args()
    try:
        found = History(tuple(chosen_keys(asked.key_file))).check(asked.path, say)
    except (MrqError, OSError) as error:
        say(f"check_aof: {error}")
        return 2
    except BadHistory as error:
        say(f"check_aof: {error}")
        return 1
    say(f"all holds: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
