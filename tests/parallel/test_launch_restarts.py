"""What `launch` starts again, what it does not, and what becomes of a signal; with programs that need no framework."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ranks import ROOT, program, run, user_environment

TIMEOUT_S = 60
# Counts its starts in a file; the last rank ends with the code of that start.
PROGRAM = """
import os, sys
from hvd_imagenet.launcher.environment import launched_rank, launched_size
restarts, codes = int(os.environ["HVD_IMAGENET_RESTARTS"]), [int(code) for code in sys.argv[1].split(",")]
print(f"start {restarts} of {launched_size()}", flush=True)
assert "HVD_IMAGENET_SECRET" not in os.environ and "HVD_IMAGENET_MONITOR" not in os.environ
sys.exit(codes[restarts] if launched_rank() == launched_size() - 1 else 0)
"""


def launch(codes: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = program("launch", "-np", "2", *options, "--", sys.executable, "-c", PROGRAM, codes)
    return run(command, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("codes", "restarts", "starts", "code"),
    [
        ("0", 3, 1, 0),
        ("2,0", 3, 1, 2),
        ("143,0", 3, 1, 143),
        ("7,0", 0, 1, 7),
        ("7,9,0", 3, 3, 0),
        ("7,9", 1, 2, 9),
    ],
)
def test_what_is_started_again(codes: str, restarts: int, starts: int, code: int) -> None:
    done = launch(codes, "--max-restarts", str(restarts))
    assert done.returncode == code, done.stderr
    for number in range(4):
        assert (f"start {number} of 2" in done.stdout) == (number < starts)
    expected = [f"restart {number} of {restarts}, on 2 processes" for number in range(1, starts)]
    if starts == restarts + 1 and restarts:
        expected.append(f"launch: exit code {code}; given up after {restarts} restarts (--max-restarts)")
    lines = done.stderr.splitlines()
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line


def test_every_start_of_train_has_the_same_new_run_folder(tmp_path: Path) -> None:
    words = ["--max-restarts", "1", "-np", "2", "--", "train", "--recipe", "digits", "--data", str(tmp_path / "none")]
    done = run(program("launch", *words), timeout_s=TIMEOUT_S, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits-")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-restarts", "-1"], "--max-restarts -1: it must be 0 or more"),
        (["--stall-timeout", "-2"], "--stall-timeout -2: seconds, 0 or more; 0 is for ever"),
        (["--min-np", "3"], "--min-np 3 is more than -np 2; it must be at most as much"),
        (
            ["--discover", "true", "--start-timeout", "0"],
            "launch: 2 processes are needed, 0 can be had; no other host is listed; given up after --start-timeout 0 s",
        ),
        (["--hosts", "none"], "--hostfile none: cannot be read (No such file or directory); name a file with a host a"),
        (["--max-restarts", "1", "train", "--epochs", "x"], "argument --epochs: invalid float value: 'x'; see: hvd-i"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    options = [*words, "--", "true"] if "train" not in words else words
    done = run(program("launch", "-np", "2", *options), timeout_s=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


# Ends with 143 when it is asked to, as a run does that leaves a checkpoint; `slowly` it takes its time.
POLITE = """
import signal, sys, time
asked = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: asked.append(number))
print("ready", flush=True)
while not asked:
    time.sleep(0.05)
time.sleep(float(sys.argv[1]))
print("checkpoint after", signal.Signals(asked[0]).name, flush=True)
sys.exit(143)
"""


def wait_for_guards(launch: int, guards: int) -> None:
    """Until `launch` has taken their connections; they report at once."""
    give_up_at_s = time.monotonic() + TIMEOUT_S
    process = psutil.Process(launch)
    while sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp")) < guards:
        assert time.monotonic() < give_up_at_s
        time.sleep(0.05)
    time.sleep(1)


@pytest.mark.parametrize(("number", "polite"), [(signal.SIGTERM, True), (signal.SIGUSR1, True), (signal.SIGINT, False)])
def test_a_polite_signal_to_launch_leaves_the_end_to_the_ranks(number: int, polite: bool) -> None:
    command = program("launch", "-np", "2", "--max-restarts", "2", "--", sys.executable, "-c", POLITE, "3")
    with subprocess.Popen(
        command, cwd=ROOT, env=user_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(2):
            assert child.stdout.readline() == "ready\n"
        wait_for_guards(child.pid, 2)
        child.send_signal(number)
        output, _ = child.communicate(timeout=TIMEOUT_S)
    assert output.count(f"checkpoint after {signal.Signals(number).name}\n") == (2 if polite else 0)
    assert child.returncode == (143 if polite else 128 + number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_polite_signal_while_launch_waits_for_hosts(number: signal.Signals) -> None:
    command = program("launch", "-np", "2", "--discover", "true", "--", "true")
    with subprocess.Popen(
        command, cwd=ROOT, env=user_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        assert "looking again every 5 s" in child.stderr.readline()
        child.send_signal(number)
        _, errors = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, errors) == (143, f"launch: {number.name} while no process runs; exit code 143\n")


def test_a_killed_guard_takes_its_rank_along_and_ends_the_job() -> None:
    script = """
import os, psutil, signal, time
from hvd_imagenet.launcher.environment import launched_rank
if launched_rank() == 1:
    while not [one for one in psutil.Process(os.getppid()).net_connections("tcp") if one.status == "ESTABLISHED"]:
        time.sleep(0.05)
    time.sleep(1)  # it reports as soon as it is connected
    os.kill(os.getppid(), signal.SIGKILL)
time.sleep(50)
"""
    done = run(program("launch", "-np", "2", "--", sys.executable, "-c", script), timeout_s=TIMEOUT_S)
    assert done.returncode == 1, done.stderr
    assert f"launch: rank 1 on {os.uname().nodename} is lost: its guard is gone" in done.stderr


def test_who_writes_a_checkpoint_for_ever_is_ended_within_ten_seconds() -> None:
    script = """
import os, signal, time
from hvd_imagenet import heartbeat
from hvd_imagenet.launcher.environment import launched_rank
if launched_rank() == 1:
    time.sleep(1)
    print(time.time(), flush=True)
    os._exit(7)
signal.signal(signal.SIGTERM, lambda number, frame: print("asked after", time.time(), flush=True))
with heartbeat.saving():
    time.sleep(50)
"""
    done = run(program("launch", "-np", "2", "--", sys.executable, "-c", script), timeout_s=TIMEOUT_S)
    ended_s = time.time()
    assert done.returncode == 7, done.stderr
    failed_s, asked_s = (float(line.split()[-1]) for line in done.stdout.splitlines())
    assert asked_s - failed_s > 5
    assert ended_s - failed_s < 10


def test_what_a_failed_rank_has_started_is_ended() -> None:
    script = """
import os, subprocess, sys, time
from hvd_imagenet.launcher.environment import launched_rank
if launched_rank() == 0:
    print(subprocess.Popen(["sleep", "77"], start_new_session=True).pid, flush=True)
    os._exit(3)
time.sleep(50)
"""
    done = run(program("launch", "-np", "2", "--", sys.executable, "-c", script), timeout_s=TIMEOUT_S)
    assert done.returncode == 3
    assert not Path(f"/proc/{done.stdout.strip()}").exists()
