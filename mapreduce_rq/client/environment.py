"""What the environment says of the server, the queue and the keys: one rule for the command line and the Python API.

An option or argument is stronger than its MRQ_* variable, and the variable is stronger than the default. Without a URL,
or with an empty one, there is a private server.
"""

from __future__ import annotations

import os

from mapreduce_rq.errors import UsageError

URL_VARIABLES = ("MRQ_URL", "REDIS_URL")
QUEUE_VARIABLE = "MRQ_QUEUE"
KEY_VARIABLE = "MRQ_KEY"
KEY_FILE_VARIABLE = "MRQ_KEY_FILE"
DEFAULT_QUEUE = "default"


def chosen_url(given: str | None) -> str:
    """The server's URL; '' for a private one."""
    if given is not None:
        return given
    return next((url for name in URL_VARIABLES if (url := os.environ.get(name))), "")


def variable_of(url: str) -> str:
    """The variable that this URL comes from; '' if it comes from none."""
    found = next((name for name in URL_VARIABLES if os.environ.get(name)), "")
    return found if found and os.environ[found] == url else ""


def chosen_queue(given: str | None) -> str:
    """The queue's name."""
    return given if given is not None else os.environ.get(QUEUE_VARIABLE) or DEFAULT_QUEUE


def chosen_keys(path: str | None = None) -> list[bytes]:
    """The signing keys in a file (one on each line, # for comments) or else in MRQ_KEY. No keys if neither is set.

    Raises UsageError, which never shows a key.
    """
    path = path or os.environ.get(KEY_FILE_VARIABLE)
    if path:
        try:
            with open(path, encoding="ascii") as file:
                words = [word for line in file for word in line.partition("#")[0].split()]
        except OSError as error:
            raise UsageError(f"cannot read the key file {path}: {error.strerror}") from None
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
