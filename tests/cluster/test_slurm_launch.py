"""`launch` inside a Slurm allocation: srun starts what it guards and watches, with the exit codes that mpirun has."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import RANK, listening, told_of_key, waiting
from network import INTERFACE
from ranks import program, run
from secret_watch import Watch, assert_nowhere, secrets_of
from secret_watch import command_lines as command_lines
from slurm import ENDED, Slurm
from test_hosts_bad_input import ETH1
from test_hosts_sockets import is_for_all
from test_slurm_jobs import slurm as slurm
from test_slurm_jobs import two_nodes as two_nodes

TIMEOUT_S = 60
SECRET = "hunter2-0123456789abcdef"
PRINT = """
import os
from hvd_imagenet.launcher.environment import launched_local_rank, launched_rank, launched_size
print(launched_rank(), launched_size(), launched_local_rank(), os.uname().nodename, os.environ["OMP_NUM_THREADS"])
assert not {"WANDB_API_KEY", "HVD_IMAGENET_SECRET"} & set(os.environ)
"""
PRINT_KEY = "import os; print(os.uname().nodename, os.environ.get('WANDB_API_KEY'))"
LAST_FAILS = """
import os, sys, time
from hvd_imagenet.launcher.environment import launched_rank, launched_size
if os.environ["HVD_IMAGENET_RESTARTS"] == "0":
    if launched_rank() == launched_size() - 1:
        sys.exit(7)
    time.sleep(50)
"""
LOSES_ITS_GUARD = """
import os, signal, time
from hvd_imagenet.launcher.environment import launched_rank
time.sleep(1)
if launched_rank() == 2:
    os.kill(os.getppid(), signal.SIGKILL)
time.sleep(50)
"""
FOUR_RANKS = ["0 4 0 node1 1", "1 4 1 node1 1", "2 4 0 node2 1", "3 4 1 node2 1"]
# sbatch's options, those of launch, and what the processes print
PLACES = {
    "as asked for of Slurm": (["--nodes=2", "--ntasks-per-node=2"], [], FOUR_RANKS),
    "one for each processor": (["--nodes=2", "--exclusive"], [], FOUR_RANKS),
    "fewer, spread": (["--nodes=2", "--ntasks=4"], ["-np", "2"], ["0 2 0 node1 2", "1 2 0 node2 2"]),
    "one of two processors": (["--nodes=1", "--ntasks=1", "--cpus-per-task=2"], [], ["0 1 0 node1 2"]),
    "on an interface of all": (["--nodes=2", "--ntasks=4"], ["--network-interface", INTERFACE], FOUR_RANKS),
    "local": (["--nodes=2", "--ntasks=4"], ["--launcher", "local", "-np", "2"], ["0 2 0 node1 1", "1 2 1 node1 1"]),
}
MISTAKES = {
    "more than there is room for": (
        ["-np", "5"],
        "error: -np 5: Slurm's job {job} has 4 CPUs on node[1-2]; lower",
    ),
    "no such interface": (["--network-interface", "ib7"], "error: --network-interface ib7: this host has none of this"),
}


def launch_in_job(
    slurm: Slurm, output: Path, options: list[str], launch: list[str], script: str
) -> tuple[str, str, list[str]]:
    """Number and exit code of a job, and the lines that it writes."""
    return run_in_job(slurm, output, options, f"exec {launch_line(launch, script)}")


def launch_line(launch: list[str], script: str) -> str:
    """What is typed for `launch` to start a script."""
    return shlex.join(program("launch", *launch, "--", sys.executable, "-c", script))


def run_in_job(slurm: Slurm, output: Path, options: list[str], shell: str) -> tuple[str, str, list[str]]:
    """The same of a job that is a shell's script."""
    words = [*options, f"--output={output}", "--wrap", shell]
    number = slurm.submit(*words, variables={"WANDB_API_KEY": SECRET})
    ended = slurm.wait_for(number, ENDED, TIMEOUT_S)
    note = "note: the processes do not get WANDB_API_KEY; --env NAME passes one on"
    return number, ended["ExitCode"], [one for one in output.read_text().splitlines() if one != note]


@pytest.mark.parametrize("case", PLACES)
def test_slurm_srun_where_ranks_are(slurm: Slurm, tmp_path: Path, case: str) -> None:
    options, launch, expected = PLACES[case]
    _, code, lines = launch_in_job(slurm, tmp_path / "output", options, launch, PRINT)
    assert (code, sorted(lines)) == ("0:0", expected)


def test_slurm_srun_by_the_line_of_a_dry_run(slurm: Slurm, tmp_path: Path) -> None:
    shell = f'line=$({launch_line(["--dry-run"], PRINT)}) && eval "$line"'
    _, code, lines = run_in_job(slurm, tmp_path / "output", ["--nodes=2", "--ntasks=4"], shell)
    assert (code, sorted(lines)) == ("0:0", FOUR_RANKS)


@pytest.mark.parametrize(("asked", "expected"), [([], "None"), (["--env", "WANDB_API_KEY"], SECRET)])
def test_slurm_srun_env_reaches_the_ranks(slurm: Slurm, tmp_path: Path, asked: list[str], expected: str) -> None:
    _, code, lines = launch_in_job(slurm, tmp_path / "output", ["--nodes=2", "--ntasks=2"], asked, PRINT_KEY)
    assert (code, sorted(lines)) == ("0:0", [f"node1 {expected}", f"node2 {expected}"])


def test_slurm_srun_shows_no_secret(slurm: Slurm, tmp_path: Path, command_lines: Watch) -> None:
    output, line = tmp_path / "output", launch_line([], waiting(tmp_path))
    words = ["--nodes=2", "--ntasks=2", f"--output={output}", "--wrap", f"exec {line}"]
    number = slurm.submit(*words, variables={"WANDB_API_KEY": SECRET})
    begun = [tmp_path / node.name for node in slurm.nodes]
    slurm.until(lambda: all(file.exists() for file in begun), TIMEOUT_S, "the ranks do not begin")
    processes = [one for node in slurm.nodes for one in node.processes()]
    secrets, told = {SECRET, *secrets_of(processes, "launch")}, told_of_key(processes)
    (tmp_path / "go").touch()
    assert slurm.wait_for(number, ENDED, TIMEOUT_S)["ExitCode"] == "0:0", output.read_text()
    assert [file.read_text() for file in begun] == ["nothing", "nothing"]
    assert not told
    assert_nowhere(secrets, command_lines, output.read_text())


def test_slurm_srun_sockets(slurm: Slurm, tmp_path: Path, record_property: Any) -> None:
    """Those of `launch` are on the address by which the nodes know each other; README lists the others."""
    output, script = tmp_path / "output", tmp_path / "rank.py"
    script.write_text(RANK)
    line = shlex.join(program("launch", "--", sys.executable, str(script), str(tmp_path)))
    number = slurm.submit("--nodes=2", "--ntasks=4", f"--output={output}", "--wrap", f"exec {line}")
    slurm.until(lambda: len(list(tmp_path.glob("rank[0-9]*"))) == len(FOUR_RANKS), 120, "no job of four ranks")
    found = {node: {each for each in listening(node) if each.who != "slurmd"} for node in slurm.nodes}
    (tmp_path / "go").touch()
    assert slurm.wait_for(number, ENDED, TIMEOUT_S)["ExitCode"] == "0:0", output.read_text()
    for node, sockets in found.items():
        record_property(f"sockets under srun, {node.name}", sorted(sockets))
        # slurmstepd's own are inherited by all that it starts.
        of_slurm = {each[1:] for each in sockets if each.who in ("srun", "slurmstepd")}
        ours = {each.who for each in sockets if is_for_all(each) and each[1:] not in of_slurm}
        assert ours <= {"rank"}, sockets
        assert {each.address for each in sockets if not is_for_all(each)} <= {node.address, "127.0.0.1"}, sockets
    first = slurm.nodes[0]
    assert any(each.who == "srun" and is_for_all(each) for each in found[first])
    assert any(each.address == first.address for each in found[first]), "no monitor was found"


def test_slurm_srun_exit_code_comes_back_without_a_notice(slurm: Slurm, tmp_path: Path) -> None:
    _, code, lines = launch_in_job(slurm, tmp_path / "output", ["--nodes=2", "--ntasks=4"], [], LAST_FAILS)
    assert (code, lines) == ("7:0", [])


def test_slurm_srun_starts_again(slurm: Slurm, tmp_path: Path) -> None:
    options = ["--nodes=2", "--ntasks=4"]
    _, code, lines = launch_in_job(slurm, tmp_path / "output", options, ["--max-restarts", "1"], LAST_FAILS)
    assert code == "0:0"
    (line,) = lines
    assert line.startswith("launch: exit code 7 after ")
    assert line.endswith("; restart 1 of 1, on 4 processes on 2 hosts")


def test_slurm_srun_a_lost_guard_is_named(slurm: Slurm, tmp_path: Path) -> None:
    _, code, lines = launch_in_job(slurm, tmp_path / "output", ["--nodes=2", "--ntasks=4"], [], LOSES_ITS_GUARD)
    assert code == "1:0"
    said = "launch: rank 2 on node2 is lost: its guard is gone (at work); look at the log of node2, or have the job "
    assert f"{said}started again with --max-restarts" in lines


@pytest.mark.parametrize("case", MISTAKES)
def test_slurm_srun_mistakes_are_one_line(slurm: Slurm, tmp_path: Path, case: str) -> None:
    launch, expected = MISTAKES[case]
    number, code, lines = launch_in_job(slurm, tmp_path / "output", ["--nodes=2", "--ntasks=4"], launch, PRINT)
    assert (code, len(lines)) == ("2:0", 1)
    assert lines[0].startswith(expected.format(job=number))
    assert slurm.seconds(slurm.job(number)) <= 30


@pytest.fixture
def eth1_of_one_node(slurm: Slurm) -> Iterator[None]:
    """An interface that is up on the first node alone, from which `launch` starts the job."""
    first = slurm.nodes[0].command
    for words in ETH1:
        assert run(first(["ip", *words.split()]), timeout_s=10).returncode == 0
    yield
    run(first(["ip", "link", "del", "eth1"]), timeout_s=10)


@pytest.mark.usefixtures("eth1_of_one_node")
def test_slurm_srun_an_interface_that_one_node_does_not_have(slurm: Slurm, tmp_path: Path) -> None:
    launch = ["--network-interface", "eth1"]
    number, code, lines = launch_in_job(slurm, tmp_path / "output", ["--nodes=2", "--ntasks=4"], launch, PRINT)
    assert code == "2:0"
    assert lines == [
        f"error: --network-interface eth1: not on all nodes of Slurm's job {number}, up with an IPv4 address: "
        "node2 has eth0, lo; name one that all of them have"
    ]
    assert slurm.seconds(slurm.job(number)) <= 30


def test_slurm_srun_within_a_step(slurm: Slurm) -> None:
    """As in the shell of `srun --pty`, whose step holds the processors."""
    launch = program("launch", "-np", "2", "--", sys.executable, "-c", PRINT)
    done = slurm.run("srun", "--ntasks=1", "--cpus-per-task=2", *launch, timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 2 0 node1 1", "1 2 1 node1 1"]


def test_slurm_srun_outside_of_an_allocation(slurm: Slurm) -> None:
    done = slurm.run(*program("launch", "--launcher", "srun", "--", "true"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --launcher srun: this is not inside a Slurm allocation; get one, as in: "
        "salloc --nodes=2 hvd-imagenet launch --launcher srun …\n"
    )
