from pathlib import Path
from typing import Any

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.tuning import ALGORITHMS, Tuning, mpich_variables, open_mpi_parameters, tuning_notes

CPU = Machine(cores=2, gpus=0, whole=True)
SERVER = Machine(cores=64, gpus=8, whole=True)


def test_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Tuning().variables == {}
    assert Tuning(Path("t.json"), True, 0, 0.5, True).variables == {
        "HOROVOD_TIMELINE": f"{tmp_path}/t.json",
        "HOROVOD_AUTOTUNE": "1",
        "HOROVOD_FUSION_THRESHOLD": "0",
        "HOROVOD_CYCLE_TIME": "0.5",
        "HOROVOD_HIERARCHICAL_ALLREDUCE": "1",
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fusion_threshold_mb": -1}, "--fusion-threshold-mb -1: MiB, 0 (no fusion) to 1048576"),
        ({"fusion_threshold_mb": float("nan")}, "--fusion-threshold-mb nan: MiB, 0 (no fusion) to 1048576"),
        ({"cycle_time_ms": 0}, "--cycle-time-ms 0: milliseconds, more than 0, at most 100000"),
        ({"cycle_time_ms": 2e5}, "--cycle-time-ms 200000: milliseconds, more than 0, at most 100000"),
        ({"timeline": Path("/none/t.json")}, "--timeline /none/t.json: must be a file in a folder that is there"),
        ({"timeline": Path("/tmp")}, "--timeline /tmp: must be a file in a folder that is there"),
    ],
)
def test_what_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Tuning(**given)
    assert str(caught.value) == message


def test_algorithms_of_open_mpi() -> None:
    numbers = [open_mpi_parameters(Tuning(allreduce_algorithm=name), {}) for name in ALGORITHMS]
    assert [each["coll_tuned_allreduce_algorithm"] for each in numbers] == ["1", "2", "3", "4", "5", "6"]
    assert all(each["coll"] == "^han,hcoll,ucc" and each["coll_tuned_use_dynamic_rules"] == "1" for each in numbers)
    assert open_mpi_parameters(Tuning(), {}) == {}


def test_algorithms_of_mpich() -> None:
    assert mpich_variables(Tuning(), ()) == {}
    names = [mpich_variables(Tuning(allreduce_algorithm=name), (4, 1)) for name in ("recursive-doubling", "ring")]
    assert names == [
        {"MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM": name, "MPIR_CVAR_ALLREDUCE_DEVICE_COLLECTIVE": "0"}
        for name in ("recursive_doubling", "ring")
    ]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("linear", (5, 0), "linear: MPICH 5.0 does not have it; it has recursive-doubling, ring, rabenseifner"),
        ("ring", (4, 0), "ring: MPICH 4.0 does not have it; it has recursive-doubling, rabenseifner"),
        ("ring", (), "ring: of Open MPI and MPICH alone; leave it out (Intel MPI reads I_MPI_ADJUST_ALLREDUCE)"),
    ],
)
def test_mpich_has_fewer(name: str, version: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError) as caught:
        mpich_variables(Tuning(allreduce_algorithm=name), version)
    assert str(caught.value) == f"--allreduce-algorithm {message}"


@pytest.mark.parametrize(
    ("chosen", "machine", "notes"),
    [
        (Tuning(), CPU, []),
        (Tuning(allreduce_algorithm="ring"), CPU, ["launch: MPI reduces by ring (--allreduce-algorithm)"]),
        (
            Tuning(allreduce_algorithm="ring"),
            SERVER,
            ["launch: what MPI reduces (NCCL has NCCL_ALGO) is reduced by ring (--allreduce-algorithm)"],
        ),
        (
            Tuning(hierarchical_allreduce=True),
            CPU,
            ["note: --hierarchical-allreduce changes nothing without GPUs: within hosts it reduces by NCCL"],
        ),
        (Tuning(hierarchical_allreduce=True), SERVER, []),
    ],
)
def test_notes(chosen: Tuning, machine: Machine, notes: list[str]) -> None:
    assert tuning_notes(chosen, "mpirun", machine) == notes


def test_gloo_has_no_choice() -> None:
    with pytest.raises(UserError) as caught:
        tuning_notes(Tuning(allreduce_algorithm="ring"), "horovodrun", CPU)
    assert str(caught.value) == (
        "--allreduce-algorithm ring: horovodrun reduces over Gloo, whose algorithm Horovod chooses; leave it out, or "
        "use --launcher mpirun"
    )
