"""A note in a private server's directory, by which the server's own user can find it and look at what runs there.

Only this user can read the directory and the note (modes 0700 and 0600), and they are removed with the server. The note
has the password and the key of the queue. This is no new risk: a process of the same user could read both in the memory
of the process that has started the server.
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
    """A running private server. ``url`` has its password: never print it."""

    url: str
    queue: str
    key: bytes
    pid: int  # the process that has started it
    what: str  # the command line of that process


def leave_note(directory: str, private: Private) -> None:
    """Let this user's other processes find the server. If the note cannot be written, no process finds it."""
    with contextlib.suppress(OSError):
        note = os.open(os.path.join(directory, NOTE), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(note, "wb") as file:
            file.write(msgspec.json.encode(private))


def found_servers() -> list[Private]:
    """This user's private servers, from their notes. A server in the list may be gone: connecting shows it.

    They are in the directory in which this process would place its own: in TMPDIR if that is set.
    """
    found = []
    own = os.environ.get("TMPDIR", "")
    for base in (own,) if own else ("/tmp", "/var/tmp"):  # noqa: S108  no file is made there
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
                return None  # another user may have written it
        try:
            return msgspec.json.decode(file.read(MOST_BYTES), type=Private)
        except (msgspec.MsgspecError, OSError):
            return None
