"""A variable that `--env` names reaches the processes of all hosts, and no other one like it does."""

import re
import sys

import pytest
from cluster_jobs import on_first_host
from network import INTERFACE, Cluster
from ranks import program

SECRET = "hunter2-0123456789abcdef"
PRINT = "import os; print(os.uname().nodename, os.environ.get('WANDB_API_KEY'), flush=True)"


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
@pytest.mark.parametrize(("asked", "expected"), [([], "None"), (["--env", "WANDB_API_KEY"], SECRET)])
def test_env_on_other_hosts(cluster: Cluster, launcher: str, asked: list[str], expected: str) -> None:
    words = ["--launcher", launcher, "-H", "node1:1,node2:1", "--network-interface", INTERFACE, *asked]
    command = program("launch", *words, "--", sys.executable, "-c", PRINT)
    done = on_first_host(cluster, command, timeout_s=60, WANDB_API_KEY=SECRET)
    # horovodrun puts the rank and the stream before each line
    found = sorted(re.findall(r"(node\d) (\S+)$", done.stdout, flags=re.MULTILINE))
    assert found == [("node1", expected), ("node2", expected)], f"{done.stdout}\n{done.stderr}"
