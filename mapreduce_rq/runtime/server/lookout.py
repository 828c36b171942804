"""How a private server's own user finds it, to look at what runs there: a note in the server's directory.

The directory and the note are this user's alone (modes 0700 and 0600), and go with the server. The note holds the
password and the key of the queue. That opens no door: a process of the same user could read them in the memory of the
process that has started the server.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

import msgspec

NOTE = "look"
MOST_BYTES = 4096


class Private(NamedTuple):
    """A private server that runs. ``url`` has its password: never print it."""

    url: str
    queue: str
    key: bytes
    pid: int  # of the process that has started it
    what: str  # that process's words


def leave_note(directory: str, private: Private) -> None:
    """Let this user's other processes find the server. Where that is not possible, no process finds it."""
    with contextlib.suppress(OSError):
        note = os.open(os.path.join(directory, NOTE), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(note, "wb") as file:
            file.write(msgspec.json.encode(private))


def found_servers() -> list[Private]:
    """This user's private servers, as far as their notes say; whether one still answers, who connects finds out.

    They are where this process would place its own: in TMPDIR if that is set.
    """
    found = []
    own = os.environ.get("TMPDIR", "")
    for base in (own,) if own else ("/tmp", "/var/tmp"):  # noqa: S108  nothing is made there
        with contextlib.suppress(OSError):
            names = sorted(name for name in os.listdir(base) if name.startswith("mrq-"))
            found += [one for name in names if (one := _note_in(os.path.join(base, name))) is not None]
    return found


def _note_in(directory: str) -> Private | None:
    try:
        place = os.lstat(directory)
        note = os.open(os.path.join(directory, NOTE), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with open(note, "rb") as file:
        here = os.fstat(note)
        for one, kind in ((place, stat.S_ISDIR), (here, stat.S_ISREG)):
            if one.st_uid != os.getuid() or one.st_mode & 0o077 or not kind(one.st_mode):
                return None  # another user could have written it
        try:
            return msgspec.json.decode(file.read(MOST_BYTES), type=Private)
        except (msgspec.MsgspecError, OSError):
            return None
