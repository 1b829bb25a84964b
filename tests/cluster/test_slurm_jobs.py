"""Training under a real Slurm of two nodes: by srun, by launch/slurm.sbatch, cancelled, preempted and requeued."""

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster_jobs import RECIPE, is_the_same_run, train_words
from network import Cluster, missing_packages, why_not
from readme_commands import shown
from slurm import ENDED, Slurm
from slurm import missing_packages as missing_slurm_packages
from training import rows

from hvd_imagenet import checkpoint

# So many that there is time to do something to a job; two processes take them alike, bit for bit, wherever they run.
ITERATIONS = 60
OPTIONS = ["--dtype", "float64", "--epochs", "1000"]
SCRIPT = "launch/slurm.sbatch"
FOUR_PROCESSES = ["--nodes=2", "--ntasks-per-node=2"]
TWO_PROCESSES = ["--nodes=2", "--ntasks-per-node=1"]
PRINT_RANKS = """
import os
import horovod.torch as hvd
hvd.init()
print(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size(), os.uname().nodename)
hvd.shutdown()
"""
# As they stand in README.
SBATCH = "sbatch --nodes=2 --ntasks-per-node=8 launch/slurm.sbatch --data /data/imagenet --out runs/one-hour"
SALLOC = (
    "salloc --nodes=2 --ntasks-per-node=8 .venv/bin/hvd-imagenet launch -- train --data /data/imagenet "
    "--out runs/one-hour"
)
SRUN = (
    "PMIX_MCA_psec=native srun --nodes=2 --ntasks-per-node=8 --mpi=pmix --kill-on-bad-exit=1 "
    ".venv/bin/hvd-imagenet train --data /data/imagenet --out runs/one-hour"
)
# Four processes on two cores: those that wait give their core to those that compute.
CROWDED = {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
PREEMPTED = "143:0"
"""Exit code and signal, as Slurm writes them."""


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(reason)
    packages = [*missing_packages(), *missing_slurm_packages()]
    assert not packages, f"install Debian's packages {' '.join(packages)}"
    with Cluster(tmp_path_factory.mktemp("hosts")) as hosts:
        yield Slurm(hosts, tmp_path_factory.mktemp("slurm"))


@pytest.fixture
def slurm(two_nodes: Slurm) -> Iterator[Slurm]:
    """Without a job before and after, nor a process of one."""
    yield two_nodes
    try:
        two_nodes.until(lambda: not two_nodes.jobs(), timeout_s=20, otherwise="there are jobs left")
        two_nodes.until(lambda: not two_nodes.processes(), timeout_s=20, otherwise="a node still runs what a job began")
    finally:
        for job in two_nodes.jobs():
            two_nodes.run("scancel", job)
        two_nodes.until(lambda: not two_nodes.jobs(), timeout_s=60, otherwise="there are jobs that cannot be cancelled")


@pytest.fixture(scope="module")
def reference(two_nodes: Slurm, few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes on one host, without Slurm."""
    out = tmp_path_factory.mktemp("one-host") / "run"
    words = train_words(few_digits, out, *OPTIONS, "--max-iterations", str(ITERATIONS))
    done = two_nodes.run(".venv/bin/hvd-imagenet", "launch", "-np", "2", "--", "train", *words, timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture
def words(few_digits: Path, tmp_path: Path) -> list[str]:
    """Options of `train` for a run in the test's folder."""
    return train_words(few_digits, tmp_path / "run", *OPTIONS)


@pytest.fixture
def typed(few_digits: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """The words of a line of README, with fewer ranks and this test's folders, and 20 iterations of a small network."""

    def words_of(line: str) -> list[str]:
        places = {"/data/imagenet": str(few_digits), "runs/one-hour": str(tmp_path / "run"), "-node=8": "-node=2"}
        return [*shlex.split(shown(line, places)), *RECIPE, *OPTIONS, "--max-iterations", "20"]

    return words_of


def until_trained(slurm: Slurm, out: Path, iterations: int) -> None:
    """Waits until a run has written the rows of so many iterations."""
    file = out / "iterations.csv"
    slurm.until(lambda: file.exists() and len(rows(out)) >= iterations, timeout_s=120, otherwise="no training")


def newest(out: Path) -> int:
    """The iterations of the newest checkpoint; 0 where there is none."""
    path = checkpoint.latest(out)
    return 0 if path is None else int(checkpoint.read_manifest(path)["iteration"])


def test_slurm_srun_places_ranks(slurm: Slurm) -> None:
    """Slurm's PMIx tells Open MPI which ranks share a host."""
    done = slurm.run("srun", *FOUR_PROCESSES, "--mpi=pmix", sys.executable, "-c", PRINT_RANKS, timeout_s=120)
    expected = ["0 4 0 2 node1", "1 4 1 2 node1", "2 4 0 2 node2", "3 4 1 2 node2"]
    assert sorted(done.stdout.splitlines()) == expected, done.stderr


def is_the_run_of_four(said: str, out: Path, reference: Path) -> None:
    assert "minibatch 24 = 12 workers of 2, on 4 processes (cpu)" in said
    assert "PMIx" not in said
    assert "--------" not in said
    is_the_same_run(out, reference, iterations=20, tolerance=1e-9)


def test_slurm_srun(slurm: Slurm, typed: Callable[[str], list[str]], reference: Path, tmp_path: Path) -> None:
    done = slurm.run("env", *typed(SRUN), timeout_s=150, variables=CROWDED)
    assert done.returncode == 0, done.stdout + done.stderr
    is_the_run_of_four(done.stdout + done.stderr, tmp_path / "run", reference)


def test_slurm_srun_by_launch(slurm: Slurm, typed: Callable[[str], list[str]], reference: Path, tmp_path: Path) -> None:
    done = slurm.run(*typed(SALLOC), timeout_s=150)
    assert done.returncode == 0, done.stdout + done.stderr
    is_the_run_of_four(done.stdout + done.stderr, tmp_path / "run", reference)


def test_slurm_srun_without_pmix(slurm: Slurm, words: list[str]) -> None:
    """Each process would be a job of its own."""
    command = ["srun", *TWO_PROCESSES, "--mpi=none", "--kill-on-bad-exit=1", ".venv/bin/hvd-imagenet", "train"]
    done = slurm.run(*command, *words, timeout_s=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: the launcher has started 2 processes, but Horovod has joined 1 of them" in done.stderr
    assert "srun --mpi=pmix" in done.stderr


def test_slurm_sbatch(slurm: Slurm, typed: Callable[[str], list[str]], reference: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    sbatch, *command = typed(SBATCH)
    assert sbatch == "sbatch"
    job = slurm.submit(f"--output={log}", *command)
    end = slurm.wait_for(job, ENDED, timeout_s=150)
    assert (end["JobState"], end["ExitCode"]) == ("COMPLETED", "0:0"), log.read_text()
    is_the_run_of_four(log.read_text(), tmp_path / "run", reference)


def test_slurm_sbatch_with_a_mistake(slurm: Slurm, tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = slurm.submit(*FOUR_PROCESSES, f"--output={log}", SCRIPT, "--data", "/nowhere")
    end = slurm.wait_for(job, ENDED, timeout_s=120)
    assert (end["JobState"], end["ExitCode"]) == ("FAILED", "2:0"), log.read_text()
    errors = [line for line in log.read_text().splitlines() if "error: " in line]
    assert [line.partition(":")[0] for line in errors] == ["error"]
    assert slurm.seconds(end) <= 30


def test_slurm_sbatch_cancelled(slurm: Slurm, words: list[str], reference: Path, tmp_path: Path) -> None:
    """After scancel there is a checkpoint of the last iteration, and the same command goes on from it."""
    log, out = tmp_path / "log", tmp_path / "run"
    command = [*TWO_PROCESSES, f"--output={log}", SCRIPT, *words, "--max-iterations", str(ITERATIONS)]
    job = slurm.submit(*command)
    until_trained(slurm, out, iterations=5)
    slurm.run("scancel", job)
    end = slurm.wait_for(job, ENDED, timeout_s=120)
    assert (end["JobState"], end["ExitCode"]) == ("CANCELLED", PREEMPTED), log.read_text()
    assert f"SIGTERM: stopped after {newest(out)} iterations, all of them saved; go on with" in log.read_text()
    assert "requeue" not in log.read_text()
    assert 5 <= len(rows(out)) == newest(out) < ITERATIONS
    slurm.wait_for(slurm.submit(*command), ("COMPLETED",), timeout_s=200)
    is_the_same_run(out, reference, iterations=ITERATIONS, tolerance=1e-9)


def test_slurm_requeue_when_preempted(slurm: Slurm, words: list[str], reference: Path, tmp_path: Path) -> None:
    """An urgent job takes the nodes; Slurm sends the script's signal, and the job goes on when they are free again."""
    log, out = tmp_path / "log", tmp_path / "run"
    options = [*TWO_PROCESSES, f"--output={log}"]
    job = slurm.submit(*options, SCRIPT, *words, "--max-iterations", str(ITERATIONS))
    until_trained(slurm, out, iterations=5)
    urgent = slurm.submit("--nodes=2", "--exclusive", "--partition=urgent", "--output=/dev/null", "--wrap=true")
    slurm.wait_for(urgent, ("COMPLETED",), timeout_s=120)
    assert f"; Slurm job {job} is requeued" in log.read_text()
    saved = newest(out)
    assert 5 <= len(rows(out)) == saved < ITERATIONS
    end = slurm.wait_for(job, ENDED, timeout_s=200)
    assert (end["JobState"], end["ExitCode"], end["Restarts"]) == ("COMPLETED", "0:0", "1"), log.read_text()
    is_the_same_run(out, reference, iterations=ITERATIONS, tolerance=1e-9)
    assert json.loads((out / "summary.json").read_text())["resumed_from_iteration"] == saved


def test_slurm_requeue_at_the_end_of_its_time(slurm: Slurm, words: list[str], tmp_path: Path) -> None:
    """Slurm looks at its jobs' time every 30 s, and so may signal 30 s early: here 20 to 50 s after the start."""
    log, out = tmp_path / "log", tmp_path / "run"
    job = slurm.submit(*TWO_PROCESSES, f"--output={log}", "--time=2", "--signal=USR1@70", SCRIPT, *words)
    slurm.until(lambda: slurm.job(job)["Restarts"] == "1", timeout_s=120, otherwise="no requeue")
    saved = newest(out)
    assert 0 < len(rows(out)) == saved
    assert f"SIGUSR1: stopped after {saved} iterations, all of them saved; go on with" in log.read_text()
    slurm.run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    until_trained(slurm, out, iterations=saved + 5)
    slurm.run("scancel", job)
    end = slurm.wait_for(job, ENDED, timeout_s=120)
    assert end["Restarts"] == "1"
    assert [int(row["iteration"]) for row in rows(out)] == list(range(newest(out)))
