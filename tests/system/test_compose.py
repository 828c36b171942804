"""compose.yaml keeps what it promises, as far as a machine without Docker can tell."""

from __future__ import annotations

import re
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.commands import Running, environment
from tests.support.servers import ROOT, FreshServer

PASSWORD = re.compile(r'requirepass "\$\{MRQ_PASSWORD:\?.+\}"')


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def test_a_real_server_takes_its_configuration_and_keeps_the_data(
    compose: dict[str, Any], fresh_server: FreshServer
) -> None:
    lines = compose["configs"]["valkey"]["content"].splitlines()
    assert PASSWORD.fullmatch(lines.pop(0)), "no server without a password"
    directives = dict(line.split(" ", 1) for line in lines)
    assert directives.pop("dir") == compose["services"]["valkey"]["volumes"][0].partition(":")[2]
    server = fresh_server("valkey", **directives)
    with server.client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("kept", 1)
    server.restart()
    with server.client() as client:
        assert client.get("kept") == b"1"


def test_the_password_is_in_no_command_and_no_environment(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        told = [service.get("command"), service.get("entrypoint"), service.get("environment")]
        assert "${MRQ_PASSWORD" not in str(told), name
        assert "${MRQ_TOKEN" not in str(told), name
        assert service["secrets"] == (["password", "token"] if name == "web" else ["password"])


def test_the_image_is_built_from_files_that_are_there(compose: dict[str, Any]) -> None:
    recipe = compose["services"]["worker"]["build"]["dockerfile_inline"]
    copied = [word for line in re.findall(r"^COPY (.+)$", recipe, re.MULTILINE) for word in line.split()[:-1]]
    assert "mapreduce_rq" in copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_workers_scale(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    assert worker["command"][0] == "worker"
    assert not {"container_name", "ports"} & worker.keys(), "these would forbid a second one"


def test_the_page_is_served_to_who_has_the_token(
    compose: dict[str, Any], fresh_server: FreshServer, tmp_path: Path
) -> None:
    service = compose["services"]["web"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    listens = service["command"][service["command"].index("--port") + 1]
    assert service["ports"][0].rpartition(":")[2] == listens.rpartition(":")[2]
    server = fresh_server("valkey")
    variables = {"MRQ_URL": server.url.replace(f":{server.password}@", "")}
    assert variables["MRQ_URL"] != server.url
    for name, text in (("MRQ_PASSWORD_FILE", server.password), ("MRQ_TOKEN_FILE", "another-word-of-many-letters")):
        assert service["environment"][name] == f"/run/secrets/{name.removeprefix('MRQ_').removesuffix('_FILE').lower()}"
        (tmp_path / name).write_text(text + "\n")
        variables[name] = str(tmp_path / name)
    words = [word.replace(":9465", ":0") for word in service["command"]]
    with Running(*words, env=environment(variables)) as web:
        found = re.search(r"at http://0.0.0.0:(\d+)/ with a token", web.hear("at http://"))
        assert found is not None
        page = f"http://127.0.0.1:{found[1]}/"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(page, timeout=20)
        asked = urllib.request.Request(page, headers={"Authorization": "Bearer another-word-of-many-letters"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert answer.status == 200
        web.signal(signal.SIGTERM)
        assert web.wait() == 143
