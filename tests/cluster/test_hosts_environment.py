"""A variable that `--env` names reaches the processes of all hosts, and no other one like it; no secret shows."""

import sys
from pathlib import Path

import pytest
from cluster_jobs import started, told_of_key, waiting
from network import INTERFACE, Cluster
from ranks import program
from secret_watch import Watch, assert_nowhere, secrets_of
from secret_watch import command_lines as command_lines

SECRET = "hunter2-0123456789abcdef"
NODES = ("node1", "node2")


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
@pytest.mark.parametrize(("asked", "expected"), [([], "nothing"), (["--env", "WANDB_API_KEY"], SECRET)])
def test_env_on_other_hosts(
    cluster: Cluster, tmp_path: Path, command_lines: Watch, launcher: str, asked: list[str], expected: str
) -> None:
    words = ["--launcher", launcher, "-H", "node1:1,node2:1", "--network-interface", INTERFACE, *asked]
    command = program("launch", *words, "--", sys.executable, "-c", waiting(tmp_path))
    with started(cluster, command, tmp_path, WANDB_API_KEY=SECRET) as job:
        job.wait_for(lambda: all((tmp_path / node).exists() for node in NODES), "ranks", within_s=60)
        processes = cluster.processes()
        secrets = {SECRET, *secrets_of(processes, "launch")}
        told = told_of_key(processes)
        (tmp_path / "go").touch()
        job.finish(within_s=60)
    assert [(tmp_path / node).read_text() for node in NODES] == [expected, expected], job.said()
    assert len(told) >= len(NODES) if asked else not told
    assert_nowhere(secrets, command_lines, job.said())
