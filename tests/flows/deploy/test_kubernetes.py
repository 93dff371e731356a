"""The manifests fit the schemas of Kubernetes, and the code: settings load, probes run, names and paths agree."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from flows.heartbeat import main as heartbeat
from flows.settings import KafkaInSettings, load_settings

DEPLOY = Path(__file__).parents[3] / "flows" / "deploy"
KINDS = {"ConfigMap", "Service", "PersistentVolumeClaim", "StatefulSet"}
VERSIONS = ["1.33", "1.37"]  # of Kubernetes


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """The manifest's objects by kind: one of each."""
    made = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "fleet.yaml").read_text()))
    found = {m["kind"]: m for m in made}
    assert len(found) == len(made)
    return found


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The specification of a pod."""
    spec: dict[str, Any] = objects["StatefulSet"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """Its only container."""
    (one,) = pod["containers"]
    made: dict[str, Any] = one
    return made


@pytest.fixture
def settings_file(objects: dict[str, dict[str, Any]], tmp_path: Path) -> Path:
    """The settings that pods are given."""
    path = tmp_path / "fleet.toml"
    path.write_text(objects["ConfigMap"]["data"]["fleet.toml"])
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_has_the_fields_and_types_of_its_schema_and_no_other(
    objects: dict[str, dict[str, Any]], version: str
) -> None:
    assert objects.keys() == KINDS
    for made in objects.values():
        kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.parametrize(("key", "value"), [("replicas", "three"), ("podManagmentPolicy", "Parallel")])
def test_the_schema_refuses_a_wrong_type_and_a_misspelt_key(
    objects: dict[str, dict[str, Any]], key: str, value: str
) -> None:
    made = copy.deepcopy(objects["StatefulSet"])
    made["spec"][key] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(made, VERSIONS[-1], strict=True)


def test_names_and_labels_lead_from_one_object_to_the_next(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    fleet, labels = objects["StatefulSet"]["spec"], {"app.kubernetes.io/name": "ibms-fleet"}
    assert fleet["serviceName"] == objects["Service"]["metadata"]["name"]
    assert fleet["selector"]["matchLabels"] == fleet["template"]["metadata"]["labels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert volumes["settings"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    claim = objects["PersistentVolumeClaim"]
    assert volumes["recovery"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"], "a shard may be taken up by any pod"


def test_a_run_starts_stops_and_finds_its_peers_as_a_whole(objects: dict[str, dict[str, Any]]) -> None:
    fleet, service = objects["StatefulSet"]["spec"], objects["Service"]["spec"]
    assert (fleet["podManagementPolicy"], fleet["updateStrategy"]) == ("Parallel", {"type": "OnDelete"})
    assert service["publishNotReadyAddresses"] is True
    assert service["clusterIP"] == "None"


def test_the_settings_load_and_what_they_write_lies_on_volumes(settings_file: Path, container: dict[str, Any]) -> None:
    settings = load_settings(settings_file)
    assert isinstance(settings.source, KafkaInSettings)
    assert settings.outputs == ("kafka",), "the lake's catalog cannot be shared between pods"
    assert settings.kafka is not None
    mounts = {m["mountPath"]: m for m in container["volumeMounts"]}
    directory = settings.recovery.dir
    assert directory is not None
    assert mounts[str(directory.parent)]["name"] == "recovery"
    assert mounts[str(Path(settings.kafka.password_file).parent)]["name"] == "password"
    assert mounts["/etc/ibms/fleet.toml"]["subPath"] == "fleet.toml"
    assert settings.observe.metrics_host == "0.0.0.0"  # noqa: S104 - in a pod of its own


@pytest.mark.parametrize("host", ["ibms-fleet-0", "ibms-fleet-2"])
def test_every_pod_runs_the_command_with_the_same_peers_and_its_own_number(
    objects: dict[str, dict[str, Any]], container: dict[str, Any], host: str, tmp_path: Path
) -> None:
    env = {e["name"]: e["value"] for e in container["env"]}
    replicas = objects["StatefulSet"]["spec"]["replicas"]
    assert env["IBMS_PROCESSES"] == str(replicas)
    for name, body in (("ibms", 'echo "$@"'), ("python", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    shell, flag, script = container["command"]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [shell, "-euc", script], env={"PATH": path, "HOSTNAME": host, **env}, capture_output=True, text=True, check=True
    )
    assert flag == "-c"
    service = objects["Service"]
    (port,) = [p["port"] for p in service["spec"]["ports"] if p["name"] == "bytewax"]
    peers = ",".join(f"ibms-fleet-{i}.{service['metadata']['name']}:{port}" for i in range(replicas))
    settings = f"--config /etc/ibms/fleet.toml --process {host[-1]} --addresses {peers}"
    assert ran.stdout.strip() == f"run fleet {settings}"


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_asks_the_heartbeats_of_the_run(
    settings_file: Path, container: dict[str, Any], probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = " ".join(container[probe]["exec"]["command"]).replace('"${HOSTNAME##*-}"', "2")
    args = command.partition("python -m flows.heartbeat ")[2].split()
    assert args[0] == ("ready" if probe == "readinessProbe" else "live")
    assert args[1] == str(load_settings(settings_file).recovery.dir)
    monkeypatch.setattr(sys, "argv", ["heartbeat", *args])
    with pytest.raises(SystemExit, match=r"no tick|has not told"):  # nothing runs here; a wrong argument would be 2
        heartbeat()


def test_a_start_may_take_as_long_as_the_supervisor_gives_it(container: dict[str, Any]) -> None:
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 180
    assert container["livenessProbe"]["failureThreshold"] == 1, "within 30 s already stands for many looks"


def test_the_unit_and_the_compose_file_name_what_there_is() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert {"kafka", "prometheus", "grafana"} <= compose["services"].keys()
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), volume
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    assert scraped["scrape_configs"][0]["static_configs"][0]["targets"][0] == "127.0.0.1:9464"
