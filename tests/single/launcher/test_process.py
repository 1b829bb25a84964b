import os
import sys
import time

import psutil
import pytest

from hvd_imagenet.launcher.process import run_job


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_exit_code(script, code):
    assert run_job(["sh", "-c", script], os.environ) == code


def test_a_job_reads_the_environment_that_it_is_given():
    assert run_job(["/bin/sh", "-c", 'test "$ONLY" = this'], {"ONLY": "this"}) == 0
    assert run_job([sys.executable, "-c", "import os; raise SystemExit('ONLY' in os.environ)"], {}) == 0


@pytest.mark.parametrize(("code", "is_ended"), [(0, False), (3, True)])
def test_what_a_failed_launcher_leaves_of_its_session_is_ended_and_not_waited_for(code, is_ended, tmp_path):
    started_s = time.monotonic()
    assert run_job(["sh", "-c", f"sleep 30 & echo $! > {tmp_path}/pid; exit {code}"], os.environ) == code
    assert time.monotonic() - started_s < 10
    pid = int((tmp_path / "pid").read_text())
    deadline_s = time.monotonic() + (5 if is_ended else 0)
    while not (gone := _is_gone(pid)) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    if not gone:
        psutil.Process(pid).kill()
    assert gone == is_ended


def _is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
