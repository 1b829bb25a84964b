"""Containers end with the tests, however those end."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from engine import Podman, docker_engine, missing

pytestmark = pytest.mark.docker

HOLD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from engine import BASE, Podman
with Podman(Path(sys.argv[1])) as engine:
    container = engine.run("run", "--detach", BASE, "sleep", "300", timeout_s=60).stdout.strip()
    print(engine.run("inspect", "--format", "{{.State.Pid}}", container, timeout_s=60).stdout.strip(), flush=True)
    sys.stdin.read()
"""


def test_podman_s_containers_end_with_the_process_that_has_started_them(tmp_path: Path) -> None:
    if docker_engine():
        pytest.skip("there is a Docker engine, which is the user's to keep in order")
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path / "podman"
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "parallel")]
    words = [sys.executable, "-c", HOLD, str(folder), *folders]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        sleeper = psutil.Process(int(holder.stdout.readline()))
        assert sleeper.name() == "sleep"
        holder.kill()
        holder.wait()
        assert psutil.wait_procs([sleeper], timeout=30)[1] == []
    finally:
        holder.kill()
        Podman(folder).clear()
