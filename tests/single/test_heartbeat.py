import json
import os
import subprocess
import sys
import time

import pytest

from hvd_imagenet import heartbeat

BEAT = """
import json, subprocess, sys
from hvd_imagenet import heartbeat
if sys.argv[1:] == ["child"]:
    script = "from hvd_imagenet import heartbeat; assert heartbeat._page is None"
    subprocess.run([sys.executable, "-c", script], check=True)
heartbeat.beat("computing", 41)
heartbeat.beat("reducing gradients" + 80 * "x")
"""


def beat_of(script: str, *words: str) -> heartbeat.Beat | None:
    """The last beat of a program that was started with a heartbeat."""
    descriptor, memory = heartbeat.create()
    variables = {**os.environ, heartbeat.VARIABLE: str(descriptor)}
    subprocess.run([sys.executable, "-c", script, *words], env=variables, pass_fds=[descriptor], check=True, timeout=60)
    os.close(descriptor)
    return heartbeat.read(memory)


def test_the_last_beat_is_seen_from_outside() -> None:
    before_s = time.monotonic()
    last = beat_of(BEAT)
    assert last is not None
    assert before_s < last.time_s < time.monotonic()
    assert (last.iteration, last.action) == (41, ("reducing gradients" + 80 * "x")[:64])
    assert last.pid != os.getpid()


def test_a_child_that_has_the_variable_but_not_the_memory_does_nothing() -> None:
    assert beat_of(BEAT, "child") is not None


@pytest.mark.parametrize("script", ["pass", "from hvd_imagenet.heartbeat import *\nwith during('saving', 3): pass"])
def test_there_was_none(script: str) -> None:
    assert beat_of(script) is None


@pytest.mark.parametrize(("end", "seen"), [("", "validating"), ("; import os; os._exit(0)", "waiting for the others")])
def test_behind_a_block_it_is_what_it_was_before(end: str, seen: str) -> None:
    last = beat_of(f"""
from hvd_imagenet.heartbeat import *
beat("validating", 41)
with during("waiting for the others"):
    pass{end}
""")
    assert last is not None
    assert (last.action, last.iteration) == (seen, 41)


@pytest.mark.parametrize("value", ["", "x", "0", "99999"])
def test_without_a_guard_it_does_nothing(value: str) -> None:
    script = "from hvd_imagenet import heartbeat; heartbeat.beat('computing', 1); print(heartbeat._page is None)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, heartbeat.VARIABLE: value}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_beat_takes_less_than_five_microseconds() -> None:
    script = """
import json, timeit
from hvd_imagenet import heartbeat
seconds = min(timeit.repeat(lambda: heartbeat.beat("computing", 7), number=2000, repeat=20)) / 2000
heartbeat.beat(json.dumps(seconds))
"""
    last = beat_of(script)
    assert last is not None
    assert json.loads(last.action) < 5e-6
