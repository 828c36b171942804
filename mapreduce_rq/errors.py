"""Every error this package raises on purpose, as one tree.

    MrqError                     exit 1
    ├── UsageError               the caller's fault, nothing was queued                exit 2
    │   ├── BadParameter         a value is out of range, or not of its type
    │   │   └── WrongType            an argument of a function is not of its type: it is a TypeError, too
    │   ├── UnknownComputation   no computation of that name
    │   ├── BadURL               the connection URL cannot be read
    │   ├── BadPlugin            what an installed package adds cannot be used             exit 1
    │   └── BadFunction          a user's function cannot be found, hashed or shipped      exit 1
    ├── BrokerError              Redis' fault or the network's                         exit 69
    │   ├── BrokerDown           no answer, refused, cut: worth another try            exit 69
    │   │   └── ReadOnly         a replica: it takes no writes, unless it is promoted      exit 69
    │   ├── BrokerFull           out of memory; refused as a whole, worth another try      exit 69
    │   ├── BrokerRefused        wrong password, not a Redis, too old                  exit 69
    │   │   └── NoPermission     the server's user may not use a command               exit 69
    │   ├── ForeignKey           a key under our prefix is not ours                    exit 69
    │   └── ServerFailed         the embedded server did not start                     exit 69
    ├── JobError                 the job's own end
    │   ├── JobFailed            a term raised, killed its workers, or gave a wrong value
    │   │   └── VersionSkew      its workers run another version of the code than the submitter
    │   ├── JobCancelled         a user or a program cancelled it
    │   ├── NoSuchJob            it never was, or its record has expired               exit 4
    │   ├── NoWorkers            no worker came within --wait-workers                  exit 75
    │   ├── DeadlineReached      the time allowed is over                              exit 124
    │   └── Superseded           another master took the job over
    ├── TooLarge                 a piece of a job that does not fit through Redis
    ├── CannotWrite              the result has no place to go                         exit 74
    └── BadMessage               bytes from Redis that fail the size, the MAC or the type
        └── OtherKey             they are signed with a key that is not configured here, or not signed

``exit_code`` is the exit code of the command line. Each message is one line: what happened, whose fault it is, and what
to do about it. Passwords never appear in a message.
"""

from __future__ import annotations

import re

LONGEST_WORD = 300
LONGEST_TEXT = 1000
"""The most characters of a message; its parts that are most likely a user's own words are cut first."""


def brief(text: str) -> str:
    """A message that repeats what a user gave, cut where that is very long: what was wrong and what helps stays."""
    if len(text) <= LONGEST_TEXT:
        return text
    text = re.sub(rf"\S{{{LONGEST_WORD},}}", _ends_of_word, text)
    return text if len(text) <= LONGEST_TEXT else _ends(text, LONGEST_TEXT // 2)


def _ends_of_word(word: re.Match[str]) -> str:
    return _ends(word[0], 40)


def _ends(text: str, each: int) -> str:
    return f"{text[:each]} ... ({len(text):,} characters) ... {text[-each:]}"


def _escaped(text: str) -> str:
    """A message whose user's words have no effect on a terminal, where a traceback shows it as it is."""
    if text.isprintable():
        return text
    from unicodedata import category  # few messages need it

    return "".join([each if each.isprintable() or category(each) == "Zs" else ascii(each)[1:-1] for each in text])


class MrqError(Exception):
    """Root of the tree."""

    exit_code = 1
    _is_brief = True

    def __init__(self, *given: object) -> None:
        if self._is_brief:
            given = tuple([brief(_escaped(each)) if isinstance(each, str) else each for each in given])
        super().__init__(*given)


class UsageError(MrqError):
    """The caller asked for something that cannot be; nothing was queued."""

    exit_code = 2


class BadParameter(UsageError):
    """A parameter's value is out of range, or not a value of its type."""


class WrongType(BadParameter, TypeError):
    """An argument of a function is not of the type that it must have."""


class UnknownComputation(UsageError):
    """No computation has this name."""


class BadURL(UsageError):
    """The connection URL cannot be read."""


class BadPlugin(UsageError):
    """An installed package offers a computation or a reducer that cannot be used: that package is at fault."""

    exit_code = 1


class BadFunction(UsageError):
    """A user's function cannot be found, hashed or shipped to the workers.

    Some of these faults only show in a worker. The exit code is that of a function that fails.
    """

    exit_code = 1


class BrokerError(MrqError):
    """Redis, or the way to it, is at fault."""

    exit_code = 69


class BrokerDown(BrokerError):
    """No answer, refused, cut, loading, demoted: the same call may succeed later."""


class ReadOnly(BrokerDown):
    """The server is a replica and takes no writes: a wrong URL, or a failover is under way."""


class BrokerFull(BrokerError):
    """Redis is at its memory limit and refused the whole step; it may succeed later."""


class BrokerRefused(BrokerError):
    """The server answered, and will never do what we need: wrong password, not a Redis, too old."""


class NoPermission(BrokerRefused):
    """The server's access list does not let this user use a command."""


class ForeignKey(BrokerError):
    """A key under our prefix holds a type that we never write."""


class ServerFailed(BrokerError):
    """The embedded server could not be found or did not start."""


class JobError(MrqError):
    """The job ended without a result."""


class JobFailed(JobError):
    """A term raised, killed its workers, or gave something the reducer cannot take.

    ``__cause__`` is the function's exception: of its own class if that can be imported here, else a RemoteError.
    """

    _is_brief = False  # the exception's words are a user's, who may want each of them


class VersionSkew(JobFailed):
    """The job's workers run another version of the code than the one it was submitted with."""


class JobCancelled(JobError):
    """A user or a program cancelled the job."""


class NoSuchJob(JobError):
    """The job never was, or its record has expired."""

    exit_code = 4


class NoWorkers(JobError):
    """No worker appeared within the time allowed."""

    exit_code = 75


class DeadlineReached(JobError):
    """The job's time is over; what was counted is in its checkpoint."""

    exit_code = 124


class Superseded(JobError):
    """Another master has taken the job over; this one must stop and change nothing."""


class TooLarge(MrqError):
    """A piece of a job has more bytes than can go through Redis at once. No part of it was sent.

    ``size`` and ``limit``: how many bytes it has, and how many it may have.
    """

    def __init__(self, what: str, size: int, limit: int, remedy: str = "") -> None:
        super().__init__(f"{what} has {size:,} bytes, and {limit:,} is the most{f': {remedy}' if remedy else ''}")
        self.size = size
        self.limit = limit
        self._made_of = what, size, limit, remedy

    def __reduce__(self) -> tuple[type[TooLarge], tuple[str, int, int, str]]:
        return type(self), self._made_of

    @classmethod
    def read(cls, message: str) -> TooLarge | None:
        """The error that has this message; None if the message is another's."""
        found = re.fullmatch(
            r"(.+?) has ([\d,]{1,30}) bytes, and ([\d,]{1,30}) is the most(?:: (.*))?", message, re.ASCII
        )
        if found is None:
            return None
        what, size, limit, remedy = found.groups()
        return cls(what, int(size.replace(",", "")), int(limit.replace(",", "")), remedy or "")


class CannotWrite(MrqError):
    """The result cannot be written to its file or stream: the disk is full, or the stream is closed."""

    exit_code = 74


class BadMessage(MrqError):
    """Bytes from Redis are too large, fail the MAC, or are not of the expected type."""


class OtherKey(BadMessage):
    """Bytes from Redis are signed with a key that is not configured here; or a key is, and they are not signed.

    ``kid``: the id of the key that they name; 0: they are not signed.
    """

    def __init__(self, text: str, kid: int) -> None:
        super().__init__(text)
        self.kid = kid
