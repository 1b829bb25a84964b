"""Options of `launch` that cannot be followed: one line, exit code 2, before anything is started."""

import os
import sys
from pathlib import Path

import pytest

from hvd_imagenet.cli import main

ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_CPUS_PER_NODE": "2(x2)"}


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the whole PATH."""
    for name in [*os.environ]:
        if name.startswith(("SLURM_", "OMPI_", "HOROVOD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "ssh").write_text("#!/bin/sh\necho 'ssh: connect to host x port 22: Connection refused' >&2; exit 255")
    (tmp_path / "ssh").chmod(0o755)
    return tmp_path


def fake_slurm(path: Path, mpi: str = "pmix", node: str = "NodeAddr=127.0.0.1") -> None:
    """Puts a srun and a scontrol in place of Slurm's."""
    scripts = {
        "srun": f"printf 'MPI plugin types are...\\n\\tnone\\n\\t{mpi}\\n'",
        "scontrol": f'if [ "$2" = node ]; then echo "{node}"; else echo node1; echo node2; fi',
    }
    for name, text in scripts.items():
        (path / name).write_text(f"#!/bin/sh\n{text}\n")
        (path / name).chmod(0o755)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-H", "node1:"], "-H node1:: 'node1:' is not a host and its slots, 1 or more; write them as in: -H node1:8,"),
        (["-H", "node1:0"], "-H node1:0: 'node1:0' is not a host and its slots, 1 or more; write them as in: -H"),
        (["-H", "-oProxyCommand=x"], "argument -H: expected one argument; see: hvd-imagenet launch --help"),
        (["-np", "9", "-H", "node1:2,node2:4"], "launch: 9 processes are needed, the hosts have slots for 6 (node1:2"),
        (
            ["-H", "node1:2,node2"],
            "launch: all of the hosts are needed, 0 can be had; node1: ssh is refused; start sshd there",
        ),
        (["-H", "node1:2", "--discover", "x"], "-H and --discover: each says which hosts there are; give one of them"),
        (
            ["--hostfile", "none"],
            "--hostfile none: cannot be read (No such file or directory); name a file with a host",
        ),
        (
            ["--launcher", "local", "-H", "node1:2"],
            "--launcher local starts processes on this machine alone; leave the",
        ),
        (["--launcher", "srun"], "--launcher srun: there is no srun on PATH; start on a host of the Slurm cluster, or"),
        (["--launcher", "bsub"], "argument --launcher: invalid choice: 'bsub' (choose from "),
        (
            ["--network-interface", "ib7"],
            "--network-interface ib7: this host has none of this name that is up with an IPv4 address",
        ),
        (["--allreduce-algorithm", "tree"], "argument --allreduce-algorithm: invalid choice: 'tree' (choose from "),
        (["--cycle-time-ms", "-1"], "--cycle-time-ms -1: milliseconds, more than 0"),
        (
            ["--launcher", "horovodrun", "--allreduce-algorithm", "ring"],
            "--allreduce-algorithm ring: horovodrun reduces",
        ),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["launch", *words, "--dry-run", "--", sys.executable]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {message}")
    assert len(output.err.splitlines()) == 1


def test_a_dry_run_for_hosts_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "-H", "node1:8,node2:8", "--dry-run", "--", sys.executable]) == 0
    output = capsys.readouterr()
    assert " -np 16 -H node1:8,node2:8 " in output.out
    assert len(output.out.splitlines()) == 1
    refused = (
        "ssh is refused; start sshd there, or name its port in ~/.ssh/config "
        "(ssh: connect to host x port 22: Connection refused)"
    )
    assert output.err == (
        "note: the line supposes this machine's cores and GPUs on hosts that cannot be asked; "
        f"node1: {refused}; node2: {refused}\n"
    )


@pytest.mark.parametrize(
    ("words", "slurm", "message"),
    [
        ([], {"mpi": "pmi2"}, "launch: srun --mpi=pmix: this Slurm has none, pmi2; use --launcher mpirun with -H"),
        (["-np", "5"], {}, "-np 5: Slurm's job 7 has 4 CPUs on node[1-2]; lower -np, or ask for more: sbatch"),
        ([], {"node": "NodeAddr=256.0.0.1"}, "launch: node node1 of Slurm's job has the address 256.0.0.1, which this"),
    ],
)
def test_mistakes_inside_an_allocation(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    slurm: dict[str, str],
    message: str,
) -> None:
    fake_slurm(path, **slurm)
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    assert main(["launch", *words, "--dry-run", "--", sys.executable]) == 2
    output = capsys.readouterr()
    assert (output.out, len(output.err.splitlines())) == ("", 1)
    assert output.err.startswith(f"error: {message}")


def test_inside_an_allocation_srun_is_the_launcher(
    monkeypatch: pytest.MonkeyPatch, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_slurm(path)
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    assert main(["launch", "--dry-run", "--", sys.executable]) == 0
    line = capsys.readouterr().out
    assert f"{path}/srun --mpi=pmix --nodes=2 --ntasks=4 --cpus-per-task=1 " in line
    (path / "srun").unlink()
    assert main(["launch", "--dry-run", "--", sys.executable]) == 2
    assert capsys.readouterr().err == (
        "error: --launcher auto: there is no srun on PATH; start on a host of the Slurm cluster, or use --launcher "
        "local for this node alone\n"
    )


def test_inside_an_allocation_another_launcher_leaves_its_nodes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ALLOCATION.items():
        monkeypatch.setenv(name, value)
    assert main(["launch", "--launcher", "mpirun", "-np", "2", "--dry-run", "--", sys.executable]) == 0
    assert capsys.readouterr().err == (
        "note: --launcher mpirun without hosts starts all processes on this host; for the nodes of Slurm's job 7 "
        "(node[1-2]) use --launcher srun\n"
    )
