"""Hosts that are made up, for the tests of what `doctor` says about several."""

from dataclasses import replace
from typing import Any

from hvd_imagenet.doctor.asking import Answer
from hvd_imagenet.doctor.report import Data, Report
from hvd_imagenet.launcher.machine import Machine

VERSIONS = {"hvd_imagenet": "0.1.0", "code": "c0de", "torch": "2.13.0", "nccl": "none", "numpy": "2.4.6"}
IMAGES = Data(train=100, validation=25, fingerprint="8c41f2aa" + "0" * 56)


def made_up(number: int, **changes: Any) -> Report:
    """A host without fault, node1, node2, …, except for the changes."""
    report = Report(
        node=f"node{number}",
        versions=VERSIONS,
        machine=Machine(cores=4, gpus=0, whole=True),
        gpus=(),
        memory_mb=8000,
        shared_memory_mb=4000,
        open_files=65536,
        tasks=4096,
        addresses={"lo": "127.0.0.1", "eth0": f"10.0.0.{number}"},
        name_address=f"10.0.0.{number}",
        data=IMAGES,
    )
    return replace(report, **changes)


def cluster(count: int, changed: int = 0, **changes: Any) -> dict[str, Report]:
    """Hosts node1, …, all without fault but one."""
    numbers = range(1, count + 1)
    return {f"node{number}": made_up(number, **(changes if number == changed else {})) for number in numbers}


def answers(reports: dict[str, Report], ahead_s: float = 0.0) -> dict[str, Answer]:
    """What hosts have answered, the last of them with a clock that is ahead."""
    last = list(reports)[-1]
    return {host: Answer(report, ahead_s if host == last else 0.0, 0.002) for host, report in reports.items()}
