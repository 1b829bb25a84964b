import os
import sys

import pytest

from hvd_imagenet.launcher.process import run_job, split_notice

RULE = b"-" * 74 + b"\n"
NOTICE = (
    RULE + b"prterun detected that one or more processes exited with non-zero status,\n"
    b"thus causing the job to be terminated. The first process to do so was:\n\n"
    b"   Process name: [prterun-vm-3913@1,0]\n   Exit code:    2\n" + RULE
)
KILLED = RULE + b"prterun noticed that process rank 0 with PID 4369 on node vm exited on\nsignal 9 (Killed).\n" + RULE


def shown(chunks):
    out, waiting = b"", b""
    for chunk in chunks:
        new, waiting = split_notice(waiting + chunk)
        out += new
    return out + waiting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"error: x\n" + NOTICE, b"error: x\n"),
        (b"a\n" + NOTICE + b"b\n" + NOTICE + b"c", b"a\nb\nc"),
        (KILLED, KILLED),
        (RULE + b"a user's own table\n" + RULE, RULE + b"a user's own table\n" + RULE),
        (RULE + NOTICE, RULE),
        (NOTICE[:-10], NOTICE[:-10]),
    ],
    ids=["after an error", "between", "a crash is told", "other rules", "after a rule", "unfinished"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_only_the_notice_on_an_exit_code_is_left_out(text, expected, size):
    assert shown(text[i : i + size] for i in range(0, len(text), size)) == expected


def test_a_line_that_has_not_ended_is_shown_at_once():
    assert split_notice(b"\r 50%|#####     ") == (b"\r 50%|#####     ", b"")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_exit_code(script, code):
    assert run_job(["sh", "-c", script], os.environ) == code


def test_a_job_reads_the_environment_that_it_is_given():
    assert run_job(["/bin/sh", "-c", 'test "$ONLY" = this'], {"ONLY": "this"}) == 0
    assert run_job([sys.executable, "-c", "import os; raise SystemExit('ONLY' in os.environ)"], {}) == 0
