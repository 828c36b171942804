"""Server, queue and keys as environment variables give them: one rule for the command line and the Python API.

An option or argument overrides its MRQ_* variable, and the variable overrides the default. Without a URL, or with an
empty one, the program starts a private server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from mapreduce_rq.broker.secret_file import read_secret
from mapreduce_rq.errors import UsageError

URL_VARIABLES = ("MRQ_URL", "REDIS_URL")
QUEUE_VARIABLE = "MRQ_QUEUE"
KEY_VARIABLE = "MRQ_KEY"
KEY_FILE_VARIABLE = "MRQ_KEY_FILE"
DEFAULT_QUEUE = "default"
KEY_DIGITS = 64
"""The number of hexadecimal digits in a key as `mrq key` prints it."""
HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")


def chosen_url(given: str | None) -> str:
    """The server's URL; '' for a private one."""
    if given is not None:
        return given
    return next((url for name in URL_VARIABLES if (url := os.environ.get(name))), "")


def variable_of(url: str) -> str:
    """The name of the environment variable that holds this URL; '' if none does."""
    found = next((name for name in URL_VARIABLES if os.environ.get(name)), "")
    return found if found and os.environ[found] == url else ""


def chosen_queue(given: str | None) -> str:
    """The queue's name."""
    return given if given is not None else os.environ.get(QUEUE_VARIABLE) or DEFAULT_QUEUE


def chosen_keys(path: str | None = None) -> list[bytes]:
    """The signing keys in a file (one on each line, # for comments), or else in MRQ_KEY. No keys if neither is set.

    Raises UsageError, whose message never contains a key.
    """
    path = path or os.environ.get(KEY_FILE_VARIABLE)
    if path:
        try:
            lines = read_secret(path, "ascii").splitlines()
            words = [word for line in lines for word in line.partition("#")[0].split()]
        except OSError as error:
            hint = ": make one with `mrq key`, or correct the name" if isinstance(error, FileNotFoundError) else ""
            raise UsageError(f"cannot read the key file {path}: {error.strerror}{hint}") from None
        except UnicodeDecodeError:
            raise UsageError(f"the key file {path} is not text: make a key with `mrq key`") from None
        if not words:
            raise UsageError(f"the key file {path} holds no key: make one with `mrq key`")
        source = f"the key file {path}"
    else:
        words = os.environ.get(KEY_VARIABLE, "").replace(",", " ").split()
        source = KEY_VARIABLE
    try:
        return [bytes.fromhex(word) for word in words]
    except ValueError:
        raise UsageError(f"{source} is not hexadecimal: make a key with `mrq key`") from None


def key_bytes(keys: Iterable[bytes | str]) -> list[bytes]:
    """The keys as bytes; a ``str`` is read as hexadecimal. Raises UsageError, whose message never contains a key."""
    if isinstance(keys, (bytes, str)):
        raise UsageError("keys: a single key was given: give a list of keys")
    found = []
    for key in keys:
        if not isinstance(key, (bytes, str)):
            raise UsageError(f"keys: a {type(key).__name__} cannot be a key: give bytes, or what `mrq key` prints")
        if isinstance(key, bytes) and not (len(key) == KEY_DIGITS and HEXADECIMAL.issuperset(key)):
            found.append(key)
            continue
        # Bytes may be the line of a key file. They are read as hexadecimal then: used as they are, they are another
        # key.
        try:
            found.append(bytes.fromhex(key if isinstance(key, str) else key.decode()))
        except ValueError:
            raise UsageError("keys: a text is not hexadecimal: make a key with `mrq key`") from None
    return found
