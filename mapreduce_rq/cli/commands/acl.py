"""`mrq acl`: users of the server for masters, workers and viewers, each with no more than it needs."""

from __future__ import annotations

import hashlib
import os
from typing import Annotated

import typer

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.cli.options import HOW
from mapreduce_rq.cli.streams import say, write
from mapreduce_rq.client.environment import DEFAULT_QUEUE, QUEUE_VARIABLE

READS = "-@all +@read +@connection +info -@dangerous +info +cluster|slots"
CHANGES = "-@all +@read +@write +@connection +@transaction -@dangerous +info +cluster|slots +eval +evalsha"
ROLES = {
    "master": (CHANGES, ("~{}*",)),
    "worker": (CHANGES, ("%R~{}*", "~{}q", "~{}w", "~{}f:*", "~{}r:*", "~{}p:*")),
    "viewer": (READS, ("%R~{}*",)),
}
"""For each user the commands, and the keys, in which {} is the prefix of a queue's keys. A worker changes the queue,
the entries of workers, their hands, streams of replies and the pieces of shuffles; a job's hash it can only read."""


def acl(
    *,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            envvar=QUEUE_VARIABLE,
            metavar="NAME",
            help="The queue that the users are for; may be given several times.",
            rich_help_panel=HOW,
        ),
    ] = None,
) -> None:
    """Print a file with users of the server, for masters, workers and viewers.

    They are mrq-master, mrq-worker and mrq-viewer. Put the lines into the file that `aclfile` in the server's
    configuration names, and run ACL LOAD. A master submits and leads jobs; a worker can change no job; a viewer can
    change nothing, and is all that dashboard, status and jobs need. Passwords come from MRQ_MASTER_PASSWORD,
    MRQ_WORKER_PASSWORD and MRQ_VIEWER_PASSWORD, and only their SHA-256 is printed; a user without one cannot log in.
    """
    prefixes = [Keys(name).prefix for name in " ".join(queue or [DEFAULT_QUEUE]).replace(",", " ").split()]
    for role, (commands, patterns) in ROLES.items():
        variable = f"MRQ_{role.upper()}_PASSWORD"
        password = os.environ.get(variable, "")
        if not password:
            say(f"mrq-{role} has no password, so no client can log in as it: set {variable}")
        secret = f"#{hashlib.sha256(password.encode(errors='surrogateescape')).hexdigest()} " if password else ""
        keys = " ".join(pattern.format(prefix) for prefix in prefixes for pattern in patterns)
        write(f"user mrq-{role} reset on {secret}{keys} {commands}")
