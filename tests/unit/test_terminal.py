"""The tests' own terminal: it reads all that a command draws, however late it is read."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

import pytest

from tests.support.terminal import Terminal

DRAWS = (sys.executable, "-c", "print('drawn at the last moment')")


def test_what_is_drawn_between_a_look_at_the_terminal_and_one_at_the_process_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look = select.select

    def look_and_be_held_up(*_: Any) -> Any:
        """As on a busy machine: the command draws and ends before this process goes on."""
        found = look([], [], [], 0)
        os.waitid(os.P_PID, terminal.pid, os.WEXITED | os.WNOWAIT)
        monkeypatch.setattr(select, "select", look)
        return found

    with Terminal(env=dict(os.environ), command=DRAWS) as terminal:
        monkeypatch.setattr(select, "select", look_and_be_held_up)
        assert terminal.read_all() == "drawn at the last moment\r\n"
        assert terminal.as_before
        assert terminal.wait() == 0


def test_what_a_process_draws_that_outlives_the_command_is_read() -> None:
    late = (sys.executable, "-c", "import os; os.fork() or (os.read(0, 1), print('late'))")
    with Terminal(env=dict(os.environ), command=late) as terminal:
        terminal.wait()
        terminal.press("\n")
        assert terminal.read_all().endswith("late\r\n")
