"""Signing keys from a file or the environment, and a fresh one."""

from __future__ import annotations

import os

from mapreduce_rq.cli.streams import write
from mapreduce_rq.errors import UsageError

KEY_BYTES = 32


def signing_keys(path: str | None) -> list[bytes]:
    """The keys in a file (one a line, # for comments) or else in MRQ_KEY; none configured: none.

    Raises UsageError, which never shows a key.
    """
    if path is not None:
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
        words = os.environ.get("MRQ_KEY", "").replace(",", " ").split()
        source = "MRQ_KEY"
    try:
        return [bytes.fromhex(word) for word in words]
    except ValueError:
        raise UsageError(f"{source} is not hexadecimal: make a key with `mrq key`") from None


def key() -> None:
    """Print a fresh signing key.

    With a key (MRQ_KEY, or --key-file) on masters and workers, nobody without it can give a worker tasks or a
    master answers. Rotate by putting the new key in front of the old one.
    """
    write(os.urandom(KEY_BYTES).hex())
