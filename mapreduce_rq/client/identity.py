"""The name of this process, for people who look at a queue that many programs share."""

from __future__ import annotations

import os
import pwd
from functools import cache
from socket import gethostname


def process_name() -> str:
    """``user@host:pid``."""
    return f"{_user_and_host()}:{os.getpid()}"


@cache
def _user_and_host() -> str:  # kept: the look-up takes a twentieth of the time of a lone task
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in many containers the user id has no name
        user = str(os.getuid())
    return f"{user}@{gethostname()}"
