"""How a process leaves a job."""

import os
import subprocess
import sys

import pytest

from hvd_imagenet import heartbeat

LEAVES = """
import os
from hvd_imagenet.communicator import SingleProcess
from hvd_imagenet.errors import AgreedError
from hvd_imagenet.heartbeat import beat
from hvd_imagenet.job import in_job

def action():
    {action}

beat("saving a checkpoint", 11)
in_job(SingleProcess(), leave=lambda: os._exit(7), action=action)
"""


@pytest.mark.parametrize("action", ["return 1", "raise AgreedError('disk full', spokesman=0)"])
def test_who_leaves_waits_for_the_others(action: str) -> None:
    descriptor, memory = heartbeat.create()
    variables = {**os.environ, heartbeat.VARIABLE: str(descriptor)}
    command = [sys.executable, "-c", LEAVES.format(action=action)]
    done = subprocess.run(command, env=variables, pass_fds=[descriptor], timeout=60, check=False)
    os.close(descriptor)
    last = heartbeat.read(memory)
    assert done.returncode == 7
    assert last is not None
    assert (last.action, last.iteration) == ("waiting for the others", 11)
