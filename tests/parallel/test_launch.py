import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ranks import user_environment as environment
from ranks import without_guards

ROOT = Path(__file__).parents[2]
LAUNCH = [sys.executable, "-m", "hvd_imagenet", "launch"]
TIMEOUT_S = 60
PRINT_RANK = "from hvd_imagenet.launcher.environment import *; print(launched_rank(), launched_size(), flush=True)"
# Rank 0 leaves with an error while the others are still at work.
RANK_0_FAILS = """
import sys, time
from hvd_imagenet.launcher.environment import launched_rank
if launched_rank() == 0:
    sys.exit(CODE)
time.sleep(50)
print("rank 1 was not ended")
"""


def launch(*words, stdin=""):
    return subprocess.run(
        [*LAUNCH, *words], cwd=ROOT, env=environment(), input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S
    )


def test_two_ranks():
    done = launch("-np", "2", "--", sys.executable, "-c", PRINT_RANK)
    assert (done.returncode, sorted(done.stdout.splitlines()), done.stderr) == (0, ["0 2", "1 2"], "")


def test_a_rank_has_a_session_of_its_own():
    """In one with its guard, a rank that waits in MPI could keep the guard from running."""
    script = "import os; print(os.getsid(0) == os.getpid() != os.getsid(os.getppid()))"
    assert launch("-np", "2", "--", sys.executable, "-c", script).stdout.splitlines() == ["True", "True"]


def test_an_mpirun_that_is_killed_leaves_no_file_for_the_next_one_of_its_process_id(tmp_path):
    told, temporary = tmp_path / "told", tmp_path / "temporary"
    temporary.mkdir()
    script = f"import os, psutil; open({str(told)!r}, 'w').write(os.environ['PMIX_SERVER_TMPDIR']); "
    kill = "psutil.Process().parent().parent().send_signal(9); import time; time.sleep(30)"
    variables = environment() | {"TMPDIR": str(temporary)}
    for end, code in (("pass", 0), (kill, 137)):
        command = [*LAUNCH, "-np", "1", "--", sys.executable, "-c", script + end]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        assert done.returncode == code, done.stderr
        assert Path(told.read_text()).parent.parent == temporary
        assert not list(temporary.iterdir())


def test_oversubscription_is_one_warning():
    cores = len(os.sched_getaffinity(0))
    done = launch("-np", str(cores + 1), "--", sys.executable, "-c", PRINT_RANK)
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == sorted(f"{rank} {cores + 1}" for rank in range(cores + 1))
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"warning: {cores + 1} processes share ")


@pytest.mark.parametrize("code", [2, 7])
def test_a_rank_s_exit_code_comes_back_without_a_notice(code):
    done = launch("-np", "2", "--", sys.executable, "-c", RANK_0_FAILS.replace("CODE", str(code)))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_mistake_that_all_ranks_make_is_told_once():
    done = launch("-np", "2", "--", "launch-nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: launch: launch-nothing: neither a program on PATH")
    done = launch("-np", "2", "--", sys.executable, "-m", "hvd_imagenet", "nonesuch")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith("error: ")


def test_standard_input_is_left_to_the_script_that_calls():
    script = f"{' '.join(LAUNCH)} -np 2 -- true; cat"
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=ROOT,
        env=environment(),
        input="rest",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout == "rest"


def test_dry_run_is_one_line_that_a_shell_runs():
    done = launch("-np", "2", "--dry-run", "--", sys.executable, "-c", PRINT_RANK)
    assert len(done.stdout.splitlines()) == 1
    again = subprocess.run(
        done.stdout, shell=True, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=TIMEOUT_S,
    )  # fmt: skip
    assert sorted(again.stdout.splitlines()) == ["0 2", "1 2"]


@pytest.mark.parametrize("launcher", ["mpirun", "horovodrun"])
def test_a_dry_run_s_line_passes_on_what_env_names_and_does_not_tell_its_value(launcher):
    script = "import os; print(os.environ.get('MY_TOKEN'), flush=True)"
    words = ["--launcher", launcher, "-np", "2", "--env", "MY_TOKEN", "--dry-run", "--", sys.executable, "-c", script]
    variables = environment(MY_TOKEN="hunter2")
    options = {"cwd": ROOT, "env": variables, "stdin": subprocess.DEVNULL, "text": True, "timeout": TIMEOUT_S}
    line = subprocess.run([*LAUNCH, *words], capture_output=True, check=True, **options).stdout
    assert "hunter2" not in line
    again = subprocess.run(["sh", "-c", line], capture_output=True, check=True, **options)
    assert again.stdout.count("hunter2") == 2, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
def test_a_signal_to_launch_leaves_no_process_behind(number, code):
    command = [*LAUNCH, "-np", "2", "--", sys.executable, "-c", f"{PRINT_RANK}; import time; time.sleep(50)"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as job:
        assert job.stdout is not None
        for _ in range(2):
            job.stdout.readline()
        started = psutil.Process(job.pid).children(recursive=True)
        assert len(started) == 5  # mpirun, two guards and two ranks
        job.send_signal(number)
        assert job.wait(TIMEOUT_S) == code
        _, alive = psutil.wait_procs(started, timeout=20)
        for process in alive:
            process.kill()
        assert alive == []


def test_launch_starts_within_a_second_of_mpirun():
    words = [sys.executable, "-c", "import os, sys; os.write(1, b'x')"]
    mpirun = without_guards(launch("-np", "2", "--dry-run", "--", *words).stdout)

    def seconds(command, **options):
        started = time.monotonic()
        subprocess.run(
            command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, check=True,
            timeout=TIMEOUT_S, **options,
        )  # fmt: skip
        return time.monotonic() - started

    interpreter = [sys.executable, "-c", "import selectors, subprocess"]
    took = [
        (seconds([*LAUNCH, "-np", "2", "--", *words]), seconds(mpirun, shell=True), seconds(interpreter))
        for _ in range(3)
    ]
    ours, bare, of_an_interpreter = map(min, zip(*took, strict=True))
    # `launch` is an interpreter, and starts one beside each rank: where a bare one takes long, the machine is slow.
    assert ours - bare < max(1.0, 12 * of_an_interpreter), took
