import os
import subprocess
import sys
import time

import pytest

from hvd_imagenet.launcher import environment

CASES = {
    "Open MPI": (
        {
            "OMPI_COMM_WORLD_RANK": "5",
            "OMPI_COMM_WORLD_SIZE": "8",
            "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
            "PMIX_RANK": "5",
        },
        (5, 8, 1, 4),
    ),
    "horovodrun over Gloo": (
        {"HOROVOD_RANK": "0", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "0", "HOROVOD_LOCAL_SIZE": "2"},
        (0, 2, 0, 2),
    ),
    "Hydra": (
        {"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
        (3, 4, 1, 2),
    ),
    "srun": (
        {
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "2",
            "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_NTASKS": "9",
            "SLURM_LOCALID": "0",
        },
        (2, 4, 0, None),
    ),
    "mpirun in a Slurm step": (
        {
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "0",
            "SLURM_STEP_NUM_TASKS": "1",
            "OMPI_COMM_WORLD_RANK": "1",
            "OMPI_COMM_WORLD_SIZE": "2",
        },
        (1, 2, None, None),
    ),
    "PMIx alone": ({"PMIX_RANK": "7"}, (7, None, None, None)),
    "a Slurm batch script": ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}, (None,) * 4),
    "no launcher": ({}, (None,) * 4),
    "not a number": ({"OMPI_COMM_WORLD_RANK": "x"}, (None,) * 4),
}


def start_under(monkeypatch, variables):
    for names in environment._LAUNCHERS:
        for name in filter(None, (*names, "SLURM_STEP_ID", "SLURM_NTASKS", environment.TERMINAL_VARIABLE)):
            monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("variables", "expected"), CASES.values(), ids=CASES.keys())
def test_rank_and_size_are_those_of_the_launcher(monkeypatch, variables, expected):
    start_under(monkeypatch, variables)
    found = (
        environment.launched_rank(),
        environment.launched_size(),
        environment.launched_local_rank(),
        environment.launched_local_size(),
    )
    assert found == expected


@pytest.mark.parametrize(
    ("rank", "spokesman", "waits"),
    [(None, 0, False), (0, 0, False), (1, 0, True), (0, 2, True), (2, 2, False)],
)
def test_only_the_spokesman_speaks_at_once(monkeypatch, rank, spokesman, waits):
    start_under(monkeypatch, {} if rank is None else {"OMPI_COMM_WORLD_RANK": str(rank)})
    monkeypatch.setattr(environment, "_spokesman", 0)
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    environment.elect_spokesman(spokesman)
    environment.quiet_unless_spokesman()
    assert slept == ([20.0] if waits else [])


def test_in_a_job_only_launch_knows_of_the_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    start_under(monkeypatch, {})
    assert environment.output_is_terminal()
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert not environment.output_is_terminal()
    monkeypatch.setenv(environment.TERMINAL_VARIABLE, "1")
    assert environment.output_is_terminal()


def test_the_launcher_ends_a_rank_that_waits_even_if_it_has_only_taken_note_of_signals():
    script = (
        "from hvd_imagenet.launcher.environment import quiet_unless_spokesman\n"
        "from hvd_imagenet.preemption import Signals\n"
        "Signals().watch()\n"
        "print('ready', flush=True)\n"
        "quiet_unless_spokesman()"
    )
    variables = {**os.environ, "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
    with subprocess.Popen([sys.executable, "-c", script], env=variables, stdout=subprocess.PIPE) as rank:
        assert rank.stdout.readline() == b"ready\n"
        give_up_at_s = time.monotonic() + 20
        while rank.poll() is None and time.monotonic() < give_up_at_s:  # those that come before it waits are noted
            rank.terminate()
            time.sleep(0.05)
        rank.kill()
        assert rank.wait() == 2
