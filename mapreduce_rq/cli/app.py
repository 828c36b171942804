"""`mrq`: the command line and its exit codes.

    0 ok    1 the job failed    2 wrong usage    3 a partial result    4 no such job    69 Redis unreachable
    74 the result cannot be written    75 no workers    124 deadline    130 Ctrl-C    143 TERM

Importing this module imports next to nothing, and a command imports only what it needs.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from mapreduce_rq.version import __version__

CTRL_C = 130
VERSION_WORDS = {"--version", "-V", "version"}
WIDTHS = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
"""Variables for the size of a terminal. Rich fills a line of any width, and Typer's import ends in a traceback if the
last one is no number.
"""
MOST_DIGITS = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) == 1 and words[0] in VERSION_WORDS:
        return _print_version()
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    for name in WIDTHS:
        size = os.environ.get(name, "1")
        if not (size.isascii() and size.isdigit() and len(size) <= MOST_DIGITS):
            del os.environ[name]  # as if it were not set
    gc.set_threshold(100_000)  # imports make many objects and no garbage: to look for garbage takes a tenth of a start
    try:
        from mapreduce_rq.cli.registry import invoke  # with Typer, which takes 50 ms

        return invoke(words)
    except KeyboardInterrupt:  # it came before the command had installed its own handlers
        return CTRL_C
    finally:
        gc.freeze()  # otherwise the interpreter searches all objects once more before it ends: 80 ms


def script() -> int:
    """`mrq` as a process of its own, which ends quickly: the interpreter would free each object that there is, 10 ms.

    What runs at exit has run by then, and threads have ended: that which is registered first comes last.
    """
    codes: list[int] = []

    def leave() -> None:
        if "opentelemetry.trace" in sys.modules:  # what was registered at exit before us does not run
            from mapreduce_rq.runtime.tracing import flush  # for who traces

            flush()
        with suppress(OSError, ValueError, IndexError):  # an error that was not told yet: the interpreter shows it
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(codes[0])

    atexit.register(leave)
    codes.append(main())
    return codes[0]


def _print_version() -> int:
    if sys.stdout is not None:  # it is None where our parent process has closed it
        try:
            sys.stdout.write(f"mrq {__version__}\n")
            sys.stdout.flush()
        except OSError as error:
            sys.stdout = None  # Python's last flush would report it
            if not isinstance(error, BrokenPipeError):  # after that one: the reader has what it wanted
                from mapreduce_rq.cli.streams import say  # few commands end here
                from mapreduce_rq.errors import CannotWrite

                say(f"cannot write to standard output: {error.strerror}")
                return CannotWrite.exit_code
    return 0
