"""`mrq key`: a new signing key."""

from __future__ import annotations

import os

from mapreduce_rq.cli.streams import write

KEY_BYTES = 32


def key() -> None:
    """Print a new signing key.

    When masters and workers have a key (MRQ_KEY or --key-file), only programs with that key can give a worker tasks or
    a master answers. To change the key, add the new one behind the old one
    everywhere, then put it first everywhere, then remove the old one.
    """
    write(os.urandom(KEY_BYTES).hex())
