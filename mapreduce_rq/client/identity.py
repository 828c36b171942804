"""Who this process is, for people who look at a queue that many share."""

from __future__ import annotations

import os
import pwd
from functools import cache
from socket import gethostname


def process_name() -> str:
    """``user@host:pid``."""
    return f"{_user_and_host()}:{os.getpid()}"


@cache
def _user_and_host() -> str:  # looked up once: it takes as long as a twentieth of a lone task
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many a container
        user = str(os.getuid())
    return f"{user}@{gethostname()}"
