import pytest

from hvd_imagenet import progress as module
from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.progress import Progress, epoch_line


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_every_thirty_seconds(capsys, clock):
    progress = Progress(shown=True, bar=False, iterations=100, done=0, minibatch=32)
    for iteration in range(61):
        progress.iteration(iteration, lr=0.123456, loss=2.0)
        clock[0] += 1.0
    progress.close()
    captured = capsys.readouterr()
    # After 30 s and 30 iterations, and again; the iteration that is named is counted from 1.
    assert captured.out.splitlines() == [
        "iteration 31/100  lr 0.1235  loss 2.0000  33 images/s",  # 31 iterations in 30 s
        "iteration 61/100  lr 0.1235  loss 2.0000  32 images/s",
    ]
    assert captured.err == ""


def test_the_speed_is_that_since_the_last_line_of_any_kind(capsys, clock):
    progress = Progress(shown=True, bar=False, iterations=100, done=0, minibatch=32)
    for iteration in range(50):
        progress.iteration(iteration, 0.1, 1.0)
        clock[0] += 0.5
    progress.line("epoch 1/2")
    for iteration in range(50, 81):
        clock[0] += 1.0
        progress.iteration(iteration, 0.1, 1.0)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2",
        "iteration 80/100  lr 0.1  loss 1.0000  32 images/s",
    ]


def test_no_line_before_its_time(capsys, clock):
    progress = Progress(shown=True, bar=False, iterations=100, done=0, minibatch=32)
    clock[0] += 29.9
    progress.iteration(0, 0.1, 1.0)
    assert capsys.readouterr().out == ""
    clock[0] += 0.1
    progress.iteration(1, 0.1, 1.0)
    assert capsys.readouterr().out.startswith("iteration 2/100 ")


def test_other_ranks_show_nothing(capsys, clock):
    progress = Progress(shown=False, bar=True, iterations=10, done=0, minibatch=32)
    clock[0] += 1000
    progress.iteration(0, 0.1, 1.0)
    progress.line("epoch 1/1")
    progress.close()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_lines_stand_beside_the_bar(capsys):
    progress = Progress(shown=True, bar=True, iterations=10, done=4, minibatch=32)
    progress.iteration(4, 0.1, 1.0)
    progress.line("epoch 1/2")
    progress.close()
    captured = capsys.readouterr()
    assert captured.out == "epoch 1/2\n"
    assert "5/10" in captured.err
    assert "lr 0.1, loss 1.000" in captured.err


def test_the_widest_line_of_an_epoch_fits_into_a_terminal():
    all_wrong = Sums(images=8, loss=8 * 14.375, correct=0, correct_top5=0)
    line = epoch_line(99, 100, 1.234e-05, 99_999.4, all_wrong, all_wrong)
    assert line == "epoch 100/100  lr 1.23e-05  loss 14.38  error 100.0 % val 100.0 %  99,999 img/s"
    assert len(line) <= 80


def test_a_line_of_a_run_that_diverges_tells_how_large_its_loss_is():
    line = epoch_line(0, 90, 0.4, 10.0, Sums(1, 1234567.0, 0, 0), Sums(1, float("nan"), 0, 0))
    assert line == "epoch  1/90  lr 0.4     loss 1.235e+06  error 100.0 % val 100.0 %  10 img/s"
