"""Signals, how all processes come to know of them during a validation, and Slurm's queue."""

import os
import signal
import stat

import numpy as np
import pytest

from hvd_imagenet import preemption
from hvd_imagenet.errors import Preempted
from hvd_imagenet.preemption import SIGNALS, Signals, WatchedReader, requeue


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    watching = Signals()
    watching.watch()
    yield watching
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_are_kept_however_often_they_come(signals):
    assert signals.of_this_process() == [0.0, 0.0]
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert signals.of_this_process() == [1.0, 1.0]
    signals.stop_if_agreed()  # the other processes do not know yet


@pytest.mark.parametrize(
    ("totals", "agreed"), [([0, 0], None), ([2, 0], signal.SIGTERM), ([0, 1], signal.SIGUSR1), ([1, 1], signal.SIGTERM)]
)
def test_what_is_agreed(totals, agreed):
    signals = Signals()
    signals.agree(totals)
    assert signals.agreed == agreed
    signals.agree([0, 1])  # a second one changes nothing
    assert signals.agreed == (agreed or signal.SIGUSR1)


class _Time:
    """Stands still but where it is told to pass."""

    def __init__(self, monkeypatch):
        self.now_s = 50.0
        monkeypatch.setattr(preemption.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def time(monkeypatch):
    return _Time(monkeypatch)


class _Reader:
    """Gives batches, each after some time."""

    def __init__(self, time, seconds):
        self.time, self.seconds, self.closed = time, seconds, False

    def batches(self, requests):
        try:
            for request in requests:
                self.time.now_s += self.seconds
                yield request
        finally:
            self.closed = True


class _Processes:
    """As many processes that are all as slow; a signal comes to one of them at a call of `sum`."""

    rank = 0

    def __init__(self, size=2, signal_at=None):
        self.size, self.signal_at, self.calls = size, signal_at, 0

    def sum(self, values):
        self.calls += 1
        total = self.size * np.asarray(values)
        if self.calls == self.signal_at:
            total[0] += 1
        return total


def test_all_processes_ask_equally_often(time):
    # 129 images on 2 processes: 65 and 64, two batches and one.
    calls = []
    for batches in (2, 1, 0):
        processes = _Processes()
        reader = WatchedReader(_Reader(time, 0.6), 129, Signals(), processes)
        assert list(reader.batches(range(batches))) == list(range(batches))
        calls.append(processes.calls)
    assert calls[0] == 2
    assert calls[1] >= 1


def test_fast_batches_are_not_held_up(time):
    processes = _Processes()
    reader = WatchedReader(_Reader(time, 0.005), 2 * 64 * 100, Signals(), processes)
    assert len(list(reader.batches(range(100)))) == 100
    assert processes.calls == 1  # the first one, which measures
    list(reader.batches(range(100)))
    assert processes.calls == 1


def test_a_validation_ends_where_a_signal_is_known(time):
    inner, processes, signals = _Reader(time, 0.6), _Processes(signal_at=2), Signals()
    seen = []
    with pytest.raises(Preempted, match="SIGTERM"):
        seen.extend(WatchedReader(inner, 64 * 8, signals, processes).batches(range(4)))
    assert inner.closed
    assert processes.calls == 2
    assert signals.agreed == signal.SIGTERM
    with pytest.raises(Preempted):  # at once, without asking anyone
        list(WatchedReader(inner, 64 * 8, signals, processes).batches(range(4)))
    assert processes.calls == 2


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A scontrol that notes its arguments, in a job."""
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    return tmp_path


def test_a_job_is_requeued(slurm):
    assert requeue() == "Slurm job 77 is requeued"
    assert (slurm / "calls").read_text() == "requeue 77\n"


def test_a_job_of_an_array_is_requeued(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert requeue() == "Slurm job 70_4 is requeued"
    assert (slurm / "calls").read_text() == "requeue 70_4\n"


def test_why_a_job_is_not_requeued(slurm, monkeypatch):
    (slurm / "scontrol").write_text("#!/bin/sh\necho 'Requested operation is presently disabled' >&2; exit 1\n")
    assert requeue() == "not requeued: scontrol says: Requested operation is presently disabled"
    monkeypatch.setenv("PATH", "/nowhere")
    assert requeue() == "not requeued: scontrol is not on PATH"
    monkeypatch.delenv("SLURM_JOB_ID")
    assert requeue() == "not requeued: SLURM_JOB_ID is not set: this is no Slurm job"
