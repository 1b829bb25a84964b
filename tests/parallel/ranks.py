"""Runs a function of a test file on several ranks, started by this project's own launcher.

Run as a program, this file is one rank: HOROVOD FILE FUNCTION ARGUMENTS, the last as JSON. Horovod's library for one
framework must not stand beside that for another in one process: each joins and leaves MPI for itself.
"""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from hvd_imagenet.launcher.allowed_environment import tools_left_out

ROOT = Path(__file__).parents[2]
# Time limits are for one test at a time on two cores; another may run beside it.
MORE_TIME = 2 if "PYTEST_XDIST_WORKER" in os.environ else 1
LAUNCHER_VARIABLES = ("OMPI_", "PMIX_", "PMI_", "PRTE_", "HOROVOD_", "SLURM_", "OMP_", "HVD_IMAGENET_")


def user_environment(**variables: str) -> dict[str, str]:
    """The variables of a user's shell, even where these tests run in a job themselves; one thread a rank.

    Those of tools are left out, since `launch` says that it does not pass them on.
    """
    left_out = tools_left_out(os.environ)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(LAUNCHER_VARIABLES) and name not in left_out
    }
    return {**kept, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", **variables}


def run(
    command: list[str], *, timeout_s: float, cwd: Path = ROOT, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end; what it started is ended when the time is over, and must be gone afterwards."""
    with subprocess.Popen(
        command, cwd=cwd, env=user_environment(**variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as child:  # fmt: skip
        try:
            output, errors = child.communicate(timeout=timeout_s * MORE_TIME)
        except subprocess.TimeoutExpired:
            end_tree(child.pid)
            output, errors = child.communicate()
            raise AssertionError(f"not done after {timeout_s * MORE_TIME} s: {command}\n{output}\n{errors}") from None
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def end_tree(pid: int) -> None:
    """Ends a process and all that it started."""
    tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in tree:
        process.kill()
    psutil.wait_procs(tree, timeout=10)


def program(*words: str) -> list[str]:
    """A command of this project."""
    return [sys.executable, "-m", "hvd_imagenet", *words]


def without_guards(line: str) -> str:
    """The line of a dry run as somebody would type it who has no `launch`: the launcher and the program alone."""
    line, guards = re.subn(r"\S+ -m hvd_imagenet\.launcher\.guard ", "", line)
    assert guards == 1, line
    return line


def run_ranks(
    processes: int, function: Callable[..., None], *arguments: Any, timeout_s: float = 120,
    horovod: str = "horovod.torch", **variables: str,
) -> str:  # fmt: skip
    """Calls a function on every rank of a job, after hvd.init().

    A failure on any rank ends the job, and fails the test with what the ranks have printed. Horovod looks for work
    every millisecond, so that checks with hundreds of small collectives are over soon.

    Args:
        processes: number of ranks.
        function: at the top level of a file; it takes the arguments.
        arguments: plain data.
        timeout_s: after which the job is ended.
        horovod: the module to join the job with, horovod.torch or hvd_imagenet.keras.
        variables: of the environment, beside those of a user's shell.

    Returns:
        What the ranks have printed, standard error last.
    """
    words = [sys.executable, __file__, horovod, function.__code__.co_filename, function.__name__]
    command = program("launch", "-np", str(processes), "--", *words, json.dumps(arguments, default=str))
    done = run(command, timeout_s=timeout_s, **{"HOROVOD_CYCLE_TIME": "1", **variables})
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"exit code {done.returncode}\n{output}"
    assert done.stdout.count(f"{function.__name__} is done") == processes, output
    return output


def main(horovod: str, file: str, name: str, arguments: str) -> None:
    sys.path.insert(0, str(Path(file).parent))
    hvd: Any = importlib.import_module(horovod)
    hvd.init()
    if horovod == "horovod.torch":
        importlib.import_module("hvd_imagenet.torch").abort_job_on_exception()
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, name)(*json.loads(arguments))
    print(f"{name} is done", flush=True)
    hvd.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
