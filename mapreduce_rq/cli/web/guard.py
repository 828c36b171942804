"""Decides who may look, and what a browser may do with the page.

Without a token the page is served only to this host. A browser on this host runs the scripts of any site that its user
visits, and such a site can have its own name point here (DNS rebinding): its requests then have its name as their Host.
So only requests for names of this host are answered. With a token, each request must have it: a program sends it as
``Authorization: Bearer``, a browser in a cookie, which it gets for the token. The cookie has a digest of the token and
not the token, scripts cannot read it, and browsers do not send it with requests that another site makes.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import socket
from base64 import b64encode
from collections.abc import Iterable

from mapreduce_rq.broker.secret_file import read_secret
from mapreduce_rq.errors import UsageError

TOKEN_VARIABLE = "MRQ_TOKEN"  # noqa: S105  its name
SHORTEST_TOKEN, LONGEST_TOKEN = 16, 1024
"""The least characters of a token; a shorter one can be guessed."""
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


def report_policy(style: str) -> str:
    """The policy of a report, which runs no script and has one style of its own."""
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    allowed = f"style-src 'sha256-{digest}'; img-src data:"
    return f"default-src 'none'; {allowed}; base-uri 'none'; frame-ancestors 'none'"


def chosen_token(path: str | None) -> str:
    """The token in a file, or else in MRQ_TOKEN; '' if neither is set. Raises UsageError, without the token in it."""
    if path:
        try:
            token, source = read_secret(path).strip(), f"the token file {path}"
        except OSError as error:
            raise UsageError(f"--token-file: cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"--token-file: {path} is not text: make a token with `mrq key`") from None
    else:
        token, source = os.environ.get(TOKEN_VARIABLE, "").strip(), TOKEN_VARIABLE
        if not token:
            return ""
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise UsageError(
            f"{source} must hold one line of {SHORTEST_TOKEN} to {LONGEST_TOKEN} plain characters: make one with "
            "`mrq key`"
        )
    return token


def is_this_host(host: str) -> bool:
    """Whether a host to listen at can only be reached from this machine: all its addresses are loopback ones."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False  # to listen there will fail, and say why
    return bool(found) and all(_is_loopback(str(one[4][0])) for one in found)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


class Guard:
    """Checks the headers of requests. ``token`` '': none is needed, and only names of this host are answered."""

    def __init__(self, token: str) -> None:
        self.open = not token
        self._token = hashlib.sha256(token.encode()).digest()
        cookie = hmac.digest(token.encode(), b"mrq web", "sha256").hex()
        self.cookie_name = f"mrq-{cookie[:8]}"  # browsers share cookies among the ports of a host
        self._cookie = cookie[8:]

    @property
    def cookie(self) -> str:
        """The cookie that a browser gets for the token."""
        return f"{self.cookie_name}={self._cookie}; HttpOnly; SameSite=Strict; Path=/"

    def knows(self, token: str) -> bool:
        """Whether this is the token. The check takes the same time for any other text."""
        return not self.open and hmac.compare_digest(
            hashlib.sha256(token.encode(errors="replace")).digest(), self._token
        )

    def admits(self, authorization: str, cookies: Iterable[str]) -> bool:
        """Whether a request with these headers may look."""
        if self.open:
            return True
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "bearer" and self.knows(token.strip()):
            return True
        for one in cookies:
            name, _, value = one.strip().partition("=")
            if name == self.cookie_name and hmac.compare_digest(value.encode(errors="replace"), self._cookie.encode()):
                return True
        return False

    def answers(self, host: str, site: str, mode: str) -> bool:
        """Whether a request for this Host is answered. ``site``, ``mode``: the browser's Sec-Fetch-Site and -Mode."""
        if site == "cross-site" and mode != "navigate":
            return False  # another site's script
        return not self.open or names_this_host(host)


def names_this_host(host: str) -> bool:
    """Whether a Host header names this machine to itself: localhost, or an address of the loopback; any port."""
    name, bracket, port = host.partition("]") if host.startswith("[") else (host, "", "")
    if not bracket:
        name, _, port = host.partition(":")
    port = port.removeprefix(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    return name.lower() == "localhost" or _is_loopback(name.removeprefix("["))
