"""The program that MPI runs on each host for `doctor -H`, on one host."""

import json
import os
import sys
import time

from ranks import run

from hvd_imagenet.launcher.local import build_command
from hvd_imagenet.launcher.machine import this_machine

PAIRS = [sys.executable, "-m", "hvd_imagenet.doctor.pairs"]


def test_every_pair_is_measured() -> None:
    done = run(build_command(3, [*PAIRS, "60"], this_machine()), timeout_s=90)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["nodes"] for each in found] == [[os.uname().nodename] * 2] * 3
    for each in found:
        # Of a busy machine too, whose processes wait for a core; in microseconds and megabytes they would be outside.
        assert 1e-7 < each["latency_s"] < 0.5
        assert 1e5 < each["bytes_per_s"] < 1e12


def test_processes_that_wait_for_ever_end_themselves() -> None:
    began_s = time.monotonic()
    words = ["sh", "-c", 'test "$OMPI_COMM_WORLD_RANK" = 0 || exec sleep 60; exec "$@"', "sh", *PAIRS, "3"]
    done = run(build_command(2, words, this_machine()), timeout_s=50)
    assert done.returncode != 0
    assert done.stdout == ""
    assert 3 <= time.monotonic() - began_s < 30
