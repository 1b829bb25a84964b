"""No secret on a command line or in a log, and none that leaves the user's shell unasked."""

import os
import sys
from pathlib import Path

import psutil
import pytest
from secret_watch import Watch, assert_nowhere, secrets_of, variables_of
from secret_watch import command_lines as command_lines
from security_jobs import LAUNCHERS, RANK, RANKS, Job, start, waiting_job
from training_jobs import SECRET

# `make test` takes the first.
QUICK_FIRST = [pytest.param(name, marks=pytest.mark.long if i else []) for i, name in enumerate(LAUNCHERS)]
# Writes down what it is asked, then does it here, as sshd would on another host.
SSH = """\
#!/bin/sh
printf '%s\\n' "$@" > "{folder}/ssh.$$"
for last; do :; done
exec env -i HOME=/ PATH=/usr/bin:/bin /bin/sh -c "$last"
"""


def started_by_launcher(name: str, job: Job) -> list[psutil.Process]:
    """All but what the user has started himself: mpirun or horovodrun, its daemon, guards and ranks."""
    processes = job.processes()
    if name == "horovodrun-gloo":  # its own helpers share its environment
        found = [one for one in processes[1:] if not any("multiprocessing" in word for word in one.cmdline())]
    else:
        found = processes[0 if name == "horovodrun-mpi" else 1 :]  # that one has become mpirun
    assert len(found) >= RANKS + (1 if name.startswith("horovodrun") else RANKS + 1)
    return found


@pytest.mark.parametrize("asked", [False, True], ids=["unasked", "asked for"])
@pytest.mark.parametrize("name", QUICK_FIRST)
def test_20_a_secret_is_on_no_command_line_and_in_no_log(
    name: str, asked: bool, tmp_path: Path, command_lines: Watch
) -> None:
    launcher = [*LAUNCHERS[name], *(["--env", "WANDB_API_KEY"] if asked else [])]
    with waiting_job(launcher, tmp_path, WANDB_API_KEY=SECRET) as job:
        started = started_by_launcher(name, job)
        secrets = {SECRET, *secrets_of(started, name)}
        told = [one.name() for one in started if "WANDB_API_KEY" in variables_of(one)]
        assert len(told) >= RANKS if asked else not told
        job.finish()
    assert_nowhere(secrets, command_lines, job.said())
    for rank in range(RANKS):
        assert (tmp_path / f"rank{rank}").read_text() == (SECRET if asked else "nothing")
    notes = [line for line in job.said().splitlines() if "do not get" in line and "WANDB_API_KEY" in line]
    assert len(notes) == (0 if asked else 1)


@pytest.mark.long
@pytest.mark.parametrize("probe", [False, True], ids=["interface given", "interface found"])
def test_ssh_gets_arguments_and_the_environment_goes_through_its_standard_input(
    probe: bool, tmp_path: Path, command_lines: Watch
) -> None:
    """127.0.0.2 is a host that Horovod takes for another one."""
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(folder=tmp_path))
    ssh.chmod(0o755)
    (tmp_path / "rank.py").write_text(RANK)
    hosts = ["-np", "2", "--gloo", "-H", "localhost:1,127.0.0.2:1", "--disable-cache", "--verbose"]
    interface = [] if probe else ["--network-interface", "lo"]
    program = [sys.executable, str(tmp_path / "rank.py"), str(tmp_path)]
    command = [LAUNCHERS["horovodrun-gloo"][0], *hosts, *interface, "--env", "WANDB_API_KEY", *program]
    path = f"{ssh.parent}{os.pathsep}{os.environ['PATH']}"
    with start(
        command, tmp_path, WANDB_API_KEY=SECRET, PATH=path, AWKWARD="a 'b'\n$(c)", HOROVOD_X="a 'b'\n$(c)"
    ) as job:
        job.wait_for("rank0", "rank1")
        secrets = {SECRET, *secrets_of(job.processes(), "horovodrun")}
        assert {one.environ().get("HOROVOD_X") for one in job.processes() if "rank.py" in " ".join(one.cmdline())} == {
            "a 'b'\n$(c)"
        }
        job.finish()
    assert_nowhere(secrets, command_lines, job.said())
    calls = [file.read_text().splitlines() for file in tmp_path.glob("ssh.*")]
    assert len(calls) == (3 if probe else 2)
    for words in calls:
        assert words[-3:-1] == ["--", "127.0.0.2"]
        assert "BatchMode=yes" in words
        assert not [word for word in words if "StrictHostKeyChecking" in word]
    assert {(tmp_path / f"rank{rank}").read_text() for rank in range(2)} == {SECRET}


@pytest.mark.long
@pytest.mark.parametrize("host", ["-oProxyCommand", "a;touch x", "a b", "$(touch x)"])
def test_what_is_no_host_is_refused(host: str, tmp_path: Path) -> None:
    horovodrun = LAUNCHERS["horovodrun-gloo"][0]
    for controller in ("--mpi", "--gloo"):
        with start([horovodrun, "-np", "2", controller, f"-H={host}:2", "true"], tmp_path) as job:
            assert job.process.wait(60) != 0
            job.reader.join(10)
        assert "Invalid host input" in job.said()


def test_horovodrun_passes_on_what_launch_passes_on() -> None:
    from horovod.runner.common.util.env import is_passed_on

    from hvd_imagenet.launcher.allowed_environment import is_allowed

    # fmt: off
    names = [
        "PATH", "HOME", "LC_ALL", "PYTHONPATH", "OMP_NUM_THREADS", "TF_X", "KERAS_BACKEND", "NCCL_DEBUG",
        "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "XDG_CACHE_HOME", "SSH_AUTH_SOCK", "HVD_IMAGENET_KEY", "VIRTUAL_ENV",
        "SLURM_JWT", "WANDB_API_KEY", "HTTP_PROXY", "AWS_SECRET_ACCESS_KEY", "TF_VAR_x", "PATHS", "FOO", "GITHUB_TOKEN",
        "_HOROVOD_SECRET_KEY", "HOROVOD_TOKEN", "OMPI_MCA_btl", "GLIBC_TUNABLES",
    ]
    # fmt: on
    assert [name for name in names if is_passed_on(name, {})] == [name for name in names if is_allowed(name)]
    extra = {"HOROVOD_PASS_ENV": "FOO,WANDB_*"}
    expected = [name for name in names if is_allowed(name, ["FOO", "WANDB_*"])]
    assert [name for name in names if is_passed_on(name, extra)] == expected
