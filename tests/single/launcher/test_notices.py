import pytest

from hvd_imagenet.launcher.notices import split_notice

RULE = b"-" * 74 + b"\n"
NOTICE = (
    RULE + b"prterun detected that one or more processes exited with non-zero status,\n"
    b"thus causing the job to be terminated. The first process to do so was:\n\n"
    b"   Process name: [prterun-vm-3913@1,0]\n   Exit code:    2\n" + RULE
)
HOROVODRUN = (
    b"Traceback (most recent call last):\n"
    b'  File "/v/bin/horovodrun", line 8, in <module>\n    sys.exit(run_commandline())\n             ^^^^\n'
    b'  File "/v/launch.py", line 849, in run_commandline\n    _run(args)\n'
    b"RuntimeError: Horovod detected that one or more processes exited with non-zero status, thus causing the job to "
    b"be terminated. The first process to do so was:\nProcess name: 1\nExit code: 137\n\n"
)
OTHER = HOROVODRUN[: HOROVODRUN.index(b"RuntimeError")] + b"ValueError: Gloo support has not been built.\n"
OF_RANK = b'Traceback (most recent call last):\n  File "/x/train.py", line 8, in <module>\nRuntimeError: x\n'
KILLED = RULE + b"prterun noticed that process rank 0 with PID 4369 on node vm exited on\nsignal 9 (Killed).\n" + RULE
SRUN = (
    b"srun: error: n1: task 0: Exited with exit code 2\n"
    b"srun: Terminating StepId=7.0\n"
    b"srun: launch/slurm: _step_signal: Terminating StepId=7.0\n"
    b"slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T14:30:00 ***\n"
    b"srun: Job step aborted: Waiting up to 32 seconds for job step to finish.\n"
    b"srun: error: n[1-2]: tasks 1-3,5: Exited with exit code 143\n"
)
SRUN_NEWS = (
    b"slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-23T14:30:00 DUE TO TIME LIMIT ***\n"
    b"srun: error: n2: task 1: Out Of Memory\n"
    b"srun: error: Node failure on n2\n"
)


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
        (b"error: x\n" + SRUN, b"error: x\n"),
        (SRUN + SRUN_NEWS + SRUN + b"srun: erro", SRUN_NEWS + b"srun: erro"),
        (RULE + b"a user's own table\n" + RULE, RULE + b"a user's own table\n" + RULE),
        (RULE + NOTICE, RULE),
        (NOTICE[:-10], NOTICE[:-10]),
        (b"[1]<stderr>:x\n" + HOROVODRUN, b"[1]<stderr>:x\n"),
        (OTHER, OTHER),
        (OF_RANK + NOTICE, OF_RANK),
        (b"[0]<stderr>:" + OF_RANK + HOROVODRUN, b"[0]<stderr>:" + OF_RANK),
    ],
    ids=[
        "after an error",
        "between",
        "a crash is told",
        "srun",
        "srun's news",
        "other rules",
        "after a rule",
        "unfinished",
        "horovodrun",
        "another end of horovodrun",
        "a rank's",
        "a rank's first",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_only_the_notice_on_an_exit_code_is_left_out(text, expected, size):
    assert shown(text[i : i + size] for i in range(0, len(text), size)) == expected


def test_a_line_that_has_not_ended_is_shown_at_once():
    assert split_notice(b"\r 50%|#####     ") == (b"\r 50%|#####     ", b"")
