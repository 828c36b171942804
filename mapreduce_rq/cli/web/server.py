"""The routes of `mrq web`, each of which only reads, and the server behind them.

    /                the page: lists, a job, a worker (page.html, page.css, page.js)
    /stream          what it shows, as server-sent events; ?job=ID or ?worker=ID: with the page of that
    /report/ID       the report of a job that has ended, as `mrq report` writes it
    /sign-in         takes the token, and gives a cookie

The server is in a thread beside the main thread, which reads Redis: see feed.py. When the process ends, it does not
wait for this thread: streams are told, and what is still open a moment later is cut.
"""

from __future__ import annotations

import asyncio
import html
import socket
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from mapreduce_rq.cli.screen.page import STYLE
from mapreduce_rq.cli.web.feed import Busy, Feed, report
from mapreduce_rq.cli.web.guard import HEADERS, Guard, report_policy
from mapreduce_rq.core.visible import visible
from mapreduce_rq.errors import BrokerError, MrqError, NoSuchJob, UsageError

MOST_CONNECTIONS = 256
LARGEST_FORM = 4096
STALLED_SECONDS = 20.0
"""Seconds after which a viewer that takes nothing is disconnected."""
QUIET_SECONDS = 15.0
"""Seconds without news after which a stream sends a sign of life, and so finds out whether its viewer is there."""
END_SECONDS = 1.0
LONGEST_NAME = 512
HERE = Path(__file__).parent

Scope = dict[str, Any]


def _static(name: str) -> bytes:
    return (HERE / name).read_bytes()


class Site:
    """The site, as an ASGI application."""

    def __init__(self, feed: Feed, guard: Guard) -> None:
        from starlette.applications import Starlette  # 60 ms, for those who want a page
        from starlette.responses import HTMLResponse, PlainTextResponse, Response  # with it
        from starlette.routing import Route  # with it

        self._feed = feed
        self._guard = guard
        self._page, self._sign_in = _static("page.html"), _static("sign-in.html").decode()
        self._response, self._html, self._text = Response, HTMLResponse, PlainTextResponse
        style, script = _static("page.css"), _static("page.js")
        self._app = Starlette(
            routes=[
                Route("/", self._index, methods=["GET"]),
                Route("/page.css", lambda _: Response(style, media_type="text/css"), methods=["GET"]),
                Route("/page.js", lambda _: Response(script, media_type="text/javascript"), methods=["GET"]),
                Route("/stream", _Streams(self), methods=["GET"]),
                Route("/report/{job}", self._report, methods=["GET"]),
                Route("/sign-in", self._signed_in, methods=["POST"]),
            ]
        )
        self._open = {"/page.css", "/sign-in"}  # what the page that asks for the token needs

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        sites = headers.get(b"sec-fetch-site", ""), headers.get(b"sec-fetch-mode", "")
        if not self._guard.answers(headers.get(b"host", ""), *sites):
            words = "This page is for this host alone: open it as localhost, or at 127.0.0.1.\n"
            await self._text(words, 421)(scope, receive, guarded)
            return
        admitted = self._guard.admits(headers.get(b"authorization", ""), headers.get(b"cookie", "").split(";"))
        if not admitted and scope["path"] not in self._open:
            if scope["path"] == "/":
                await self._asks("")(scope, receive, guarded)
            else:
                await self._text("Sign in first, at /.\n", 401)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _asks(self, words: str) -> Any:
        """The page that asks for the token."""
        return self._html(self._sign_in.replace("<!-- words -->", html.escape(words)), 401)

    async def _index(self, request: Any) -> Any:
        return self._html(self._page)

    async def _signed_in(self, request: Any) -> Any:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST_FORM:
                return self._text("That is too long for a token.\n", 413)
        token = parse_qs(body.decode("latin-1")).get("token", [""])[0]
        if not self._guard.knows(token.strip()):
            return self._asks("This is not the token.")
        return self._response(status_code=303, headers={"location": "/", "set-cookie": self._guard.cookie})

    async def _report(self, request: Any) -> Any:
        job = request.path_params["job"]
        try:
            page = await self._feed.ask(report(job[:LONGEST_NAME]))
        except Busy as busy:
            return self._text(f"{busy}\n", 503)
        except MrqError as error:
            words = visible(" ".join(str(error).split()))
            code = {NoSuchJob: 404, UsageError: 409}.get(type(error), 503 if isinstance(error, BrokerError) else 500)
            return self._text(f"{words}\n", code)
        return self._html(page, headers={"content-security-policy": report_policy(STYLE)})

    async def stream(self, scope: Scope, receive: Any, send: Any) -> None:
        """Send a viewer what is new, until it leaves."""
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        kind = next((kind for kind in ("job", "worker") if kind in asked), "")
        name = asked[kind][0][:LONGEST_NAME] if kind else ""
        try:
            viewer = self._feed.join((kind, name))
        except Busy as busy:
            await self._text(f"{busy}\n", 503, headers={"retry-after": "10"})(scope, receive, send)
            return
        gone = asyncio.ensure_future(_gone(receive))
        try:
            headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while not gone.done():
                news = asyncio.ensure_future(self._feed.message(viewer))
                await asyncio.wait({news, gone}, timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    text = ": nothing new\n\n"
                elif (message := news.result()) is None:
                    break
                else:
                    text = f"data: {message}\n\n"
                sent = send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                await asyncio.wait_for(sent, STALLED_SECONDS)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (TimeoutError, OSError):
            return
        finally:
            gone.cancel()
            self._feed.leave(viewer)


class _Streams:
    """The stream, as Starlette takes an ASGI application for a route."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One stream."""
        await self._site.stream(scope, receive, send)


async def _gone(receive: Any) -> None:
    """Wait for the viewer to leave."""
    while (await receive())["type"] != "http.disconnect":
        pass


def serve(listening: socket.socket, feed: Feed, guard: Guard) -> None:
    """Read and serve until a signal is raised in this thread, which must be the main one."""
    import uvicorn  # 80 ms, for those who want a page

    config = uvicorn.Config(
        Site(feed, guard),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=16_384,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    loop = asyncio.new_event_loop()

    async def answer() -> None:
        feed.open()
        await server.serve(sockets=[listening])

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer())

    thread = threading.Thread(target=work, name="mrq-web", daemon=True)
    thread.start()
    try:
        feed.run()
    finally:
        server.should_exit = True
        if thread.is_alive():
            loop.call_soon_threadsafe(feed.close)
        thread.join(END_SECONDS)
