"""`mrq web`: the dashboard in a browser."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from mapreduce_rq.broker.connection import LOOK_SECONDS
from mapreduce_rq.cli.connect import connect
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.listening import address_in, listen_at, port_of
from mapreduce_rq.cli.options import KeyFile, Queues, Quiet, Url, chosen_queues, required
from mapreduce_rq.cli.streams import say
from mapreduce_rq.cli.web.guard import Guard, chosen_token, is_this_host
from mapreduce_rq.errors import UsageError

USUAL_PORT = "9465"
THIS_HOST = "127.0.0.1"
NO_SERVER = "a web page needs starlette and uvicorn: pip install 'mapreduce-rq[web]'"


def web(
    *,
    port: Annotated[
        str,
        typer.Option(
            "--port",
            envvar="MRQ_PORT",
            metavar="[HOST:]PORT",
            help="Where to listen. Without a host: for this machine alone. 0: any free port.",
        ),
    ] = USUAL_PORT,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            envvar="MRQ_TOKEN_FILE",
            metavar="FILE",
            help="A file with a token that each viewer must give; `mrq key` makes one. Or set MRQ_TOKEN to it.",
        ),
    ] = None,
    url: Url = None,
    queue: Queues = None,
    key_file: KeyFile = None,
    quiet: Quiet = False,
) -> None:
    """Serve a web page of jobs and workers, live, until told to stop.

    It has what the dashboard has, and the report of each job that has ended. It only reads, and Redis is read once a
    second at most, for any number of viewers. Other machines need a token.
    """
    where, queues = required(url, "web"), chosen_queues(queue)
    host, number = address_in("--port", port, USUAL_PORT)
    host = host or THIS_HOST
    token = chosen_token(token_file)
    if not token and not is_this_host(host):
        raise UsageError(
            f"--port {port}: other machines could look, so a token is needed: set MRQ_TOKEN to what `mrq key` prints, "
            f"or listen at {THIS_HOST}"
        )
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise UsageError(NO_SERVER)
    from mapreduce_rq.cli.watching import Watching  # 100 ms with Rich, after the mistakes are told
    from mapreduce_rq.cli.web.feed import Feed  # with it
    from mapreduce_rq.cli.web.server import serve  # with it

    listening = listen_at("--port", port, host, number)
    watching = Watching([connect(where, name, key_file, within=LOOK_SECONDS) for name in queues])
    watching.look()
    shown = f"[{host}]" if ":" in host else host
    if not quiet:
        named = ", ".join(queues)
        say(
            f"queue {named} of {watching.url} at http://{shown}:{port_of(listening)}/"
            + (" with a token" if token else "")
        )
    with Interrupts():
        serve(listening, Feed(watching), Guard(token))
