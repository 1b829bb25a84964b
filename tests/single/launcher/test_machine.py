import math

import pytest

from hvd_imagenet import control_groups
from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher import machine
from hvd_imagenet.launcher.machine import (
    Machine,
    crowding,
    default_processes,
    gpu_names,
    physical_cores,
    this_machine,
    visible_gpus,
)

TWO_GPUS = "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n"


def test_hardware_threads_of_a_core_count_once(tmp_path):
    for processor, siblings in {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}.items():
        topology = tmp_path / f"cpu{processor}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings + "\n")
    assert physical_cores({0, 1, 2, 3}, tmp_path) == 2
    assert physical_cores({0, 2}, tmp_path) == 1
    assert physical_cores({0, 1}, tmp_path) == 2


@pytest.mark.parametrize(
    ("listing", "chosen", "expected"),
    [
        (TWO_GPUS, None, 2),
        (TWO_GPUS, "0", 1),
        (TWO_GPUS, "1,0", 2),
        (TWO_GPUS, "", 0),
        (TWO_GPUS, "-1", 0),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", None, 0),
        ("", "0", 0),
    ],
)
def test_gpus_are_those_that_a_program_would_see(listing, chosen, expected):
    assert visible_gpus(listing, chosen) == expected


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        (TWO_GPUS, ["NVIDIA H200", "NVIDIA H200"]),
        ("GPU 0: Tesla P100-PCIE-16GB (UUID: GPU-1)\n", ["Tesla P100-PCIE-16GB"]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
        ("", []),
    ],
)
def test_names_of_gpus(listing, names):
    assert gpu_names(listing) == names


def test_a_driver_that_hangs_is_told_with_a_way_out(monkeypatch, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine, "_DRIVER_TIMEOUT_S", 0.1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(UserError) as caught:
        this_machine()
    assert str(caught.value) == (
        "nvidia-smi -L: no answer within 0.1 s; look for the driver's fault in dmesg, or take the CPU: "
        "CUDA_VISIBLE_DEVICES="
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_machine().gpus == 0


def test_default_is_a_process_a_gpu_else_a_core():
    assert default_processes(Machine(cores=64, gpus=8, whole=True)) == 8
    assert default_processes(Machine(cores=2, gpus=0, whole=True)) == 2


@pytest.mark.parametrize(
    ("quota", "cores", "whole"), [(math.inf, 4, True), (4.0, 4, True), (2.5, 2, False), (0.5, 1, False)]
)
def test_a_container_s_share_of_the_cores(monkeypatch, quota, cores, whole):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "physical_cores", len)
    monkeypatch.setattr(control_groups, "cpus", lambda: quota)
    assert this_machine("") == Machine(cores, 0, whole)


@pytest.mark.parametrize(
    ("processes", "machine_of", "expected"),
    [
        (8, Machine(64, 8, True), []),
        (2, Machine(2, 0, True), []),
        (3, Machine(2, 0, True), ["warning: 3 processes share 2 cores: each is slower than it would be alone"]),
        (
            2,
            Machine(64, 1, True),
            [
                "warning: 2 processes on a host with 1 GPU: NCCL wants one for each; lower -np, or use the CPU with "
                "CUDA_VISIBLE_DEVICES="
            ],
        ),
    ],
)
def test_more_processes_than_a_host_has_cores_or_gpus(processes, machine_of, expected):
    assert list(crowding(processes, machine_of)) == expected
