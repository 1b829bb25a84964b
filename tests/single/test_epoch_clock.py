import pytest

from hvd_imagenet import epoch_clock
from hvd_imagenet.epoch_clock import EpochClock, waiting_advice


class _Time:
    def __init__(self, monkeypatch):
        self.now_s = 50.0
        monkeypatch.setattr(epoch_clock.time, "monotonic", lambda: self.now_s)

    def passes(self, seconds):
        self.now_s += seconds


def _wait(clock, time, seconds):
    with clock.waiting():
        time.passes(seconds)


def test_images_a_second_and_waiting(monkeypatch):
    time = _Time(monkeypatch)
    clock = EpochClock()
    assert clock.wait_percent() is None
    _wait(clock, time, 4.0)  # the reader's start is no waiting
    time.passes(6.0)
    assert clock.wait_percent() == 0.0
    clock.count(30)
    assert clock.images_per_second() == 3.0
    clock.restart()
    _wait(clock, time, 1.0)
    time.passes(6.0)
    _wait(clock, time, 2.0)
    time.passes(1.0)
    clock.count(20)
    clock.count(5)
    assert clock.wait_percent() == pytest.approx(30.0)
    assert clock.images_per_second() == pytest.approx(2.5)


def test_validation_and_checkpoints_do_not_count(monkeypatch):
    time = _Time(monkeypatch)
    clock = EpochClock()
    _wait(clock, time, 1.0)
    clock.restart()
    _wait(clock, time, 1.0)
    time.passes(3.0)
    with clock.paused():
        time.passes(100.0)
    clock.count(8)
    assert clock.wait_percent() == pytest.approx(25.0)
    assert clock.images_per_second() == pytest.approx(2.0)


@pytest.mark.parametrize(("threads", "cores", "named"), [(2, 8, True), (8, 8, False), (16, 8, False), (1, 2, True)])
def test_more_threads_are_advised_where_there_are_cores(threads, cores, named):
    line = waiting_advice(5.04, threads, cores)
    assert line.startswith("waiting for images takes 5.0 % of the time: ")
    assert (f"give more --threads ({threads} of {cores} cores decode)" in line) == named
    assert "hvd-imagenet pack SRC DST --max-side 400" in line
    assert "local disk" in line
