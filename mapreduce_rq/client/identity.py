"""Who this process is, for people who look at a queue that many share."""

from __future__ import annotations

import os
import pwd
from socket import gethostname


def process_name() -> str:
    """``user@host:pid``."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many a container
        user = str(os.getuid())
    return f"{user}@{gethostname()}:{os.getpid()}"
