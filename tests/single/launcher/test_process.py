import os
import sys

import pytest

from hvd_imagenet.launcher.process import run_job


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_exit_code(script, code):
    assert run_job(["sh", "-c", script], os.environ) == code


def test_a_job_reads_the_environment_that_it_is_given():
    assert run_job(["/bin/sh", "-c", 'test "$ONLY" = this'], {"ONLY": "this"}) == 0
    assert run_job([sys.executable, "-c", "import os; raise SystemExit('ONLY' in os.environ)"], {}) == 0
