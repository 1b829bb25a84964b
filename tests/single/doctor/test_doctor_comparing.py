from typing import Any

import pytest
from made_up_hosts import VERSIONS, answers, cluster

from hvd_imagenet.doctor.comparing import (
    check_clocks,
    check_data,
    check_own_findings,
    check_reached,
    check_versions,
)
from hvd_imagenet.doctor.examination import compare
from hvd_imagenet.doctor.report import Data
from hvd_imagenet.horovod_build.finding import Finding
from hvd_imagenet.launcher.hosts import Host

SOFTWARE = "give every host the same: one checkout on a shared file system, or `make setup` of the same commit on each"


@pytest.mark.parametrize("count", [1, 3, 40])
def test_hosts_without_fault_are_ok(count: int) -> None:
    reports = cluster(count)
    hosts = [Host(name, 4) for name in reports]
    findings = list(compare(hosts, answers(reports), None))
    assert {finding.status for finding in findings} == {"ok"}
    assert [finding.name for finding in findings] == [
        *("versions", "data", "clock", "machines", "interface", "host name", "open files", "processes"),
    ]


@pytest.mark.parametrize(
    ("changed", "status", "message"),
    [
        ({"torch": "2.14.0"}, "error", "torch differs: 2.13.0 on node1, node3; 2.14.0 on node2"),
        ({"numpy": "2.5.0"}, "warning", "numpy differs: 2.4.6 on node1, node3; 2.5.0 on node2"),
        ({"code": "beef"}, "error", "the code of hvd_imagenet differs: c0de on node1, node3; beef on node2"),
        ({"nccl": "2.28.9"}, "error", "nccl differs: none on node1, node3; 2.28.9 on node2"),
        (
            {"hvd_imagenet": "0.2.0", "code": "beef"},
            "error",
            "hvd_imagenet differs: 0.1.0 on node1, node3; 0.2.0 on node2",
        ),
    ],
)
def test_a_version_that_differs(changed: dict[str, str], status: str, message: str) -> None:
    (finding,) = check_versions(cluster(3, changed=2, versions=VERSIONS | changed))
    assert (finding.status, finding.message, finding.remedy) == (status, message, SOFTWARE)


def test_the_same_versions_are_listed_without_what_is_not_there() -> None:
    (finding,) = check_versions(cluster(2))
    assert finding.message == "the same everywhere: hvd_imagenet 0.1.0, torch 2.13.0, numpy 2.4.6"


@pytest.mark.parametrize(
    ("data", "message", "remedy"),
    [
        (
            Data(problem="data folder /d: no such folder; make one with: hvd-imagenet make-dataset"),
            "node2: data folder /d: no such folder",
            "the same folder must be at the same path on every host: mount or copy it there",
        ),
        (
            Data(99, 25, "0ddba115" + "0" * 56),
            "not the same images: 100 + 25 images (8c41f2aa) on node1, node3; 99 + 25 images (0ddba115) on node2",
            "copy the folder again where it is out of date, or use one shared file system",
        ),
    ],
)
def test_images_that_a_host_lacks(data: Data, message: str, remedy: str) -> None:
    (finding,) = check_data(cluster(3, changed=2, data=data))
    assert finding == Finding("data", "error", message, remedy)


def test_images_that_are_the_same_or_not_asked_for() -> None:
    (finding,) = check_data(cluster(2))
    assert (finding.status, finding.message) == ("ok", "100 + 25 images, the same everywhere")
    assert list(check_data(cluster(1, changed=1, data=None))) == []


@pytest.mark.parametrize(
    ("ahead_s", "status", "beginning"),
    [
        (0.5, "ok", "all within 502 ms of this host"),
        (1.001, "ok", "all within 1003 ms of this host"),  # it may be 0.999 s
        (61.5, "warning", "node2 is 61.5 s ahead of this host: "),
        (-3600.0, "warning", "node2 is 3600.0 s behind this host: "),
    ],
)
def test_clocks(ahead_s: float, status: str, beginning: str) -> None:
    (finding,) = check_clocks(answers(cluster(2), ahead_s))
    assert finding.status == status
    assert finding.message.startswith(beginning)


def test_one_finding_of_several_hosts_is_told_once() -> None:
    old = Finding("mpirun", "warning", "old", "update it")
    findings: dict[str, Any] = {"findings": (Finding("torch", "ok", "2"), Finding("root", "warning", "a", "b"), old)}
    reports = cluster(3, changed=1, **findings) | {"node2": cluster(2, changed=2, **findings)["node2"]}
    assert list(check_own_findings(reports)) == [Finding("mpirun", "warning", "node1, node2: old", "update it")]


def test_a_host_without_a_report() -> None:
    (finding,) = check_reached({"node7": "ssh is refused; start sshd there"})
    assert finding == Finding("ssh", "error", "no report from node7", "ssh is refused; start sshd there")
