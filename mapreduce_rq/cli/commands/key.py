"""`mrq key`: a fresh signing key."""

from __future__ import annotations

import os

from mapreduce_rq.cli.streams import write

KEY_BYTES = 32


def key() -> None:
    """Print a fresh signing key.

    With a key (MRQ_KEY, or --key-file) on masters and workers, nobody without it can give a worker tasks or a
    master answers. Rotate by putting the new key in front of the old one.
    """
    write(os.urandom(KEY_BYTES).hex())
