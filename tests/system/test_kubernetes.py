"""deploy/kubernetes.yaml and keda.yaml: what Kubernetes and KEDA take, and what they would start does work."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from mapreduce_rq.cli.registry import main_group
from tests.support.commands import User
from tests.support.servers import ROOT, FreshServer, free_port
from tests.support.stage import until
from tests.system.test_cli_metrics import get, values

VERSIONS = ("1.25", kubernetes_validate.latest_version())
ITEMS: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/kubernetes.yaml").read_text())["items"]
DEPLOYMENTS = {item["metadata"]["name"]: item for item in ITEMS if item["kind"] == "Deployment"}
SCALED: dict[str, Any] = yaml.safe_load((ROOT / "deploy/keda.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((ROOT / "tests/support/keda_scaledobject.json").read_text())


def container(name: str) -> dict[str, Any]:
    (found,) = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_them(version: str) -> None:
    for item in ITEMS:
        kubernetes_validate.validate(item, version, strict=True)
    wrong = deepcopy(DEPLOYMENTS["mrq-worker"])
    wrong["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_keda_takes_its_object_and_it_scales_the_workers() -> None:
    jsonschema.validate(SCALED, SCHEMA)
    wrong = deepcopy(SCALED)
    wrong["spec"]["minReplicas"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)
    assert SCALED["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    (trigger,) = SCALED["spec"]["triggers"]
    words = container("mrq-worker")["args"]
    assert trigger["metadata"]["threshold"] == words[words.index("--concurrency") + 1]


def test_selectors_volumes_and_ports_fit_together() -> None:
    for name, item in DEPLOYMENTS.items():
        template, one = item["spec"]["template"], container(name)
        assert item["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert {at["name"] for at in one["volumeMounts"]} == {of["name"] for of in template["spec"]["volumes"]}
        ports = {port["name"]: str(port["containerPort"]) for port in one["ports"]}
        assert one["args"][-1] == ports["metrics"]
        for probe in ("readinessProbe", "livenessProbe"):
            assert one[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
        assert {source["configMapRef"]["name"] for source in one["envFrom"]} == {"mrq"}


def test_settings_are_variables_that_mrq_reads_and_no_secret() -> None:
    (settings,) = [item["data"] for item in ITEMS if item["kind"] == "ConfigMap"]
    command: Any = main_group().load("worker")
    known = {str(param.envvar) for param in command.params} | {"MRQ_KEY_FILE", "MRQ_PASSWORD_FILE", "MRQ_URL"}
    assert settings.keys() <= known
    (mount,) = [at["mountPath"] for at in container("mrq-worker")["volumeMounts"] if at["name"] == "secrets"]
    assert {settings["MRQ_PASSWORD_FILE"], settings["MRQ_KEY_FILE"]} == {f"{mount}/password", f"{mount}/key"}
    assert ":" not in settings["MRQ_URL"].removeprefix("redis://redis:"), "a password belongs into the secret"


def test_what_the_pods_run_is_ready_alive_and_says_what_is_wanted(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    (tmp_path / "password").write_text(f"{server.password}\n")
    (tmp_path / "key").write_text("6b" * 32 + "\n")
    files = {"MRQ_PASSWORD_FILE": str(tmp_path / "password"), "MRQ_KEY_FILE": str(tmp_path / "key")}
    with User(tmp_path, MRQ_URL=f"unix://{server.socket}", MRQ_LOG_FORMAT="json", **files) as at:
        ports = {}
        for name in DEPLOYMENTS:
            *words, _ = container(name)["args"]
            ports[name] = free_port()
            at.start(*words, f"127.0.0.1:{ports[name]}")
        for name, port in ports.items():
            path = container(name)["readinessProbe"]["httpGet"]["path"]
            until(lambda port=port, path=path: get(port, path) == (200, "ok\n"), 20, f"{name} is ready")  # type: ignore[misc]
        query = SCALED["spec"]["triggers"][0]["metadata"]["query"]
        assert query == 'max(mrq_workers_wanted{queue="default"})'
        assert values(ports["mrq-metrics"])["mrq_workers_wanted", ""] == 0
