"""Reading URLs: every scheme, passwords from every place, and none of them ever shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.broker.connection import Endpoint, parse_url
from mapreduce_rq.errors import BadURL

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def no_password_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MRQ_PASSWORD", "MRQ_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("redis://", Endpoint()),
        ("redis://host", Endpoint("host")),
        (" redis://host:7000/3 ", Endpoint("host", 7000, db=3)),
        ("redis://host?db=4", Endpoint("host", db=4)),
        ("valkey://:p@host/0", Endpoint("host", password="p")),
        ("redis://user:p%40%3A%2F@host:1", Endpoint("host", 1, username="user", password="p@:/")),
        ("redis://user:p@ss@host", Endpoint("host", username="user", password="p@ss")),
        ("redis://user@host", Endpoint("host", username="user")),
        ("rediss://host", Endpoint("host", tls=True)),
        ("valkeys://[::1]:7000", Endpoint("::1", 7000, tls=True)),
        (
            "rediss://host?ssl_cert_reqs=CERT_OPTIONAL&ssl_check_hostname=No",
            Endpoint("host", tls=True, tls_options=(("ssl_cert_reqs", "optional"), ("ssl_check_hostname", "false"))),
        ),
        ("unix:///run/s", Endpoint(path="/run/s")),
        ("unix://:p@/run/a%20b?db=2", Endpoint(path="/run/a b", password="p", db=2)),
        (
            "redis+sentinel://:p@a,b:7,[::1]:8/main/5?sentinel_password=q",
            Endpoint(
                password="p",
                sentinels=(("a", 26379), ("b", 7), ("::1", 8)),
                service="main",
                db=5,
                sentinel_password="q",
            ),
        ),
        (
            "redis+cluster://user:p@a,b:7,[::1]:8",
            Endpoint(username="user", password="p", nodes=(("a", 6379), ("b", 7), ("::1", 8))),
        ),
        (
            "rediss+cluster://a?ssl_cert_reqs=none",
            Endpoint(nodes=(("a", 6379),), tls=True, tls_options=(("ssl_cert_reqs", "none"),)),
        ),
    ],
)
def test_every_scheme(url: str, endpoint: Endpoint) -> None:
    assert parse_url(url) == endpoint


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "the URL cannot be read: write redis://host:6379/0"),
        ("host:6379", "the URL cannot be read: write"),
        (f":{SECRET}@host\n://", "the URL cannot be read: write"),
        ("http://host", "unknown URL scheme http://: use redis, valkey, rediss"),
        (f"redis://:{SECRET}@host:notaport", "cannot read the redis:// URL"),
        (f"redis://:{SECRET}@host:0", "cannot read"),
        (f"redis://:{SECRET}@host:65536", "cannot read"),
        (f"redis://:{SECRET}@host/name", "cannot read"),
        (f"redis://:{SECRET}@host?db=x", "cannot read"),
        (f"redis://:{SECRET}@host/-1", "cannot read the redis:// URL: check its host, port (1 to 65535) and database"),
        (f"redis://:{SECRET}@host/{1 << 31}", "cannot read"),
        (f"unix://:{SECRET}@/run/s?db={1 << 31}", "cannot read"),
        (
            f"redis://:{SECRET}@host?colour={SECRET}",
            "there is an unknown option in the URL: leave it out; options are db",
        ),
        (f"redis://user?{SECRET}=x@host", "(a ? in a password is %3F)"),
        (f"redis://host?socket_timeout={SECRET}", "socket_timeout is not an option of mrq in the URL: leave it out"),
        (f"redis://host?retry_on_timeout={SECRET}&db=1", "retry_on_timeout is not an option of mrq"),
        (
            f"rediss://host?ssl_cert_reqs={SECRET}",
            "ssl_cert_reqs in the URL has an unknown value: write required, optional, none",
        ),
        (
            f"rediss://host?ssl_check_hostname={SECRET}",
            "ssl_check_hostname in the URL has an unknown value: write true or false",
        ),
        (f"redis://host?ssl_ca_certs={SECRET}", "ssl_ca_certs in the URL needs TLS: write rediss://"),
        (f"redis://:{SECRET}@host?novalue", "cannot read"),
        (f"unix://:{SECRET}@", "three slashes"),
        (f"unix://:{SECRET}@host/path", "three slashes"),
        (f"redis+sentinel://:{SECRET}@host:26379", "names no service"),
        (f"redis+sentinel://:{SECRET}@host:99999/main", "cannot read"),
        (f"redis+cluster://:{SECRET}@host:6379,other:0", "cannot read the redis+cluster:// URL"),
        (f"redis+cluster://:{SECRET}@host?ssl_cert_reqs=none", "needs TLS: write rediss://"),
    ],
)
def test_what_cannot_be_read_is_one_line_without_the_password(url: str, word: str) -> None:
    with pytest.raises(BadURL) as caught:
        parse_url(url)
    text = str(caught.value)
    assert word in text
    assert "\n" not in text
    assert SECRET not in text + repr(caught.value)
    assert caught.value.exit_code == 2


def test_a_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_PASSWORD", SECRET)
    assert parse_url("redis://user@host").password == SECRET
    assert parse_url("redis://:other@host").password == "other"
    monkeypatch.setenv("MRQ_PASSWORD", "")
    assert parse_url("redis://host").password is None


def test_a_password_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{SECRET}\n")
    monkeypatch.setenv("MRQ_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("MRQ_PASSWORD", "of the environment")
    assert parse_url("redis://host").password == SECRET
    secret.unlink()
    with pytest.raises(BadURL, match="cannot read MRQ_PASSWORD_FILE: No such file or directory"):
        parse_url("redis://host")


def shown(password: str, sentinel_password: str) -> str:
    """All that is ever shown of endpoints with these passwords."""
    endpoints = (
        Endpoint(path="/run/s", db=1, password=password),
        Endpoint("host", username="user", tls=True, password=password),
        Endpoint(nodes=(("a", 1), ("b", 2)), tls=True, password=password),
        Endpoint(sentinels=(("a", 1),), service="main", password=password, sentinel_password=sentinel_password),
    )
    return "".join(str(endpoint) + repr(endpoint) for endpoint in endpoints)


@given(st.text(min_size=1), st.text(min_size=1))
def test_what_is_shown_is_the_same_for_every_password(password: str, sentinel_password: str) -> None:
    assert shown(password, sentinel_password) == shown("x", "x")


def read(url: str) -> str:
    """What is said of a URL: its endpoint, or what is wrong with it."""
    try:
        return str(parse_url(url))
    except BadURL as error:
        return str(error)


@given(st.text(st.characters(exclude_characters="\r\n"), max_size=60))
def test_any_text_is_an_endpoint_or_a_bad_url(text: str) -> None:
    for url in (text, f"redis://{text}", f"unix://{text}", f"redis+sentinel://{text}"):
        assert "\n" not in read(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@host:7000/3", "redis://:***@host:7000/3"),
        ("rediss://user:p@host", "rediss://user:***@host:6379"),
        ("unix://:p@/run/s?db=1", "unix://:***@/run/s?db=1"),
        ("redis+sentinel://:p@a,b/main/2", "redis+sentinel://:***@a:26379,b:26379/main/2"),
        ("redis://host", "redis://host:6379"),
    ],
)
def test_what_is_shown_instead(url: str, shown: str) -> None:
    assert str(parse_url(url)) == shown


names = st.sampled_from(
    ["db", "ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_certfile", "socket_timeout", "sentinel_password"]
)
options = st.lists(st.tuples(names | st.text(), st.just(SECRET) | st.text()), max_size=4)
schemes = st.sampled_from(
    ["redis", "rediss", "valkey", "valkeys", "unix", "redis+sentinel", "redis+cluster", "http", "", "\x1b"]
)


@given(schemes, st.text(), st.text(), options, st.booleans())
def test_whatever_a_url_holds_it_is_read_or_refused_in_one_line(
    scheme: str, place: str, rest: str, query: list[tuple[str, str]], escaped: bool
) -> None:
    words = urlencode(query, errors="replace") if escaped else "&".join(f"{name}={value}" for name, value in query)
    try:
        said = str(parse_url(f"{scheme}://:{SECRET}@{place}/{rest}?{words}"))
    except BadURL as error:
        said = str(error)
        lines = len(said.splitlines())
    else:
        lines = 1
    assert SECRET not in said
    assert lines == 1
