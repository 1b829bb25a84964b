"""The files that users copy: what Docker, Compose and the MPI Operator require, and that they fit together."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hvd_imagenet import __version__
from hvd_imagenet.cli import build_parser

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
JOBS = {
    job["metadata"]["labels"]["device"]: job for job in yaml.safe_load_all((ROOT / "launch/mpijob.yaml").read_text())
}
COMPOSE = yaml.safe_load((ROOT / "launch/compose.yaml").read_text())


def _containers(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    replicas = job["spec"]["mpiReplicaSpecs"]
    return {kind: its["template"]["spec"]["containers"][0] for kind, its in replicas.items()}


def _setting(file: str, name: str) -> str:
    found = re.search(rf"^\s*{name} (\S+)", (ROOT / "docker" / file).read_text(), re.MULTILINE)
    assert found, f"{file} has no {name}"
    return found[1]


def test_dockerfile_is_pinned_and_says_its_version() -> None:
    bases = re.findall(r"^FROM (?:\$\{\w+:-)?([^\s}]+)", DOCKERFILE, re.MULTILINE)
    assert bases == ["debian:12.15-slim"] * 2
    assert re.findall(r"=\$\{CUDA:\+(.*)\}$", DOCKERFILE, re.MULTILINE) == [
        "nvidia/cuda:${CUDA}-devel-ubuntu24.04",
        "nvidia/cuda:${CUDA}-base-ubuntu24.04",
    ]
    assert f'org.opencontainers.image.version="{__version__}"' in DOCKERFILE


def test_user_is_a_number_and_not_root() -> None:
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert users == re.findall(r"useradd .*--uid (\d+)", DOCKERFILE)
    assert int(users[-1]) > 0


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_mpijob_is_what_v2beta1_takes(device: str) -> None:
    job = JOBS[device]
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    spec = job["spec"]
    # The fields of v2beta1; its validation asks for the rest.
    assert spec.keys() <= {
        *("slotsPerWorker", "runLauncherAsWorker", "runPolicy", "mpiReplicaSpecs", "sshAuthMountPath"),
        *("launcherCreationPolicy", "mpiImplementation"),
    }
    assert spec["slotsPerWorker"] >= 1
    assert spec["runPolicy"]["cleanPodPolicy"] in ("None", "Running", "All")
    assert spec["launcherCreationPolicy"] in ("AtStartup", "WaitForWorkersReady")
    replicas = spec["mpiReplicaSpecs"]
    assert replicas.keys() == {"Launcher", "Worker"}
    assert replicas["Launcher"]["replicas"] == 1
    assert replicas["Worker"]["replicas"] >= 1
    last_host = f"{job['metadata']['name']}-worker-{replicas['Worker']['replicas'] - 1}"
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", last_host)
    for each in replicas.values():
        assert each.keys() == {"replicas", "restartPolicy", "template"}
        assert each["restartPolicy"] in ("Never", "OnFailure")
        pod = each["template"]["spec"]
        (container,) = pod["containers"]
        assert container["name"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_mpijob_fits_the_image(device: str) -> None:
    job = JOBS[device]
    containers = _containers(job)
    keys = job["spec"]["sshAuthMountPath"]
    assert keys == str(Path(_setting("sshd_config", "HostKey")).parent)
    worker = containers["Worker"]
    assert worker["args"] == ["ssh-worker"]
    port = worker["readinessProbe"]["tcpSocket"]["port"]
    assert str(port) == _setting("sshd_config", "Port") == _setting("ssh_config", "Port")
    assert f"EXPOSE {port}\n" in DOCKERFILE
    # The entry point starts both; the operator would start its own sshd only in the place of no words at all.
    assert not any("command" in container for container in containers.values())
    assert {container["image"] for container in containers.values()} == {
        "hvd_imagenet:gpu" if device == "gpu" else "hvd_imagenet"
    }
    assert worker["resources"]["limits"].get("nvidia.com/gpu") == (8 if device == "gpu" else None)


def test_mpijob_starts_what_hvd_imagenet_takes() -> None:
    words = _containers(JOBS["gpu"])["Launcher"]["args"]
    launch = build_parser("launch").parse_args(words)
    assert str(launch.hosts) == "/etc/mpi/hostfile"
    assert launch.program[0] == "--"
    train = build_parser("train").parse_args(launch.program[1:])
    assert (train.recipe, str(train.data), str(train.out)) == ("resnet50_1hour", "/data/imagenet", "/job/one-hour")


def test_compose_has_a_head_and_three_workers() -> None:
    services = COMPOSE["services"]
    workers = [name for name, service in services.items() if service["command"] == ["ssh-worker"]]
    assert workers == ["worker1", "worker2", "worker3"]
    assert services.keys() == {"keys", "head", *workers}
    head = services["head"]
    assert head["command"] == ["digits", "-H", ",".join(f"{name}:1" for name in workers)]
    assert head["depends_on"] == workers
    for service in services.values():
        assert (service["image"], service["pull_policy"]) == ("hvd_imagenet", "never")
        named = dict(volume.split(":") for volume in service["volumes"])
        assert named.keys() == COMPOSE["volumes"].keys()
        assert named["keys"] == str(Path(_setting("sshd_config", "HostKey")).parent)
        assert f"WORKDIR {named['job']}\n" in DOCKERFILE
