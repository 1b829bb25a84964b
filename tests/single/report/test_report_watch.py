import io
import json
import shutil

import pytest
from made_up_runs import epoch_row, make_run, recipe_of, summary_of

from hvd_imagenet.report.run import read_run
from hvd_imagenet.report.watch import progress, view, watch
from hvd_imagenet.run_folder import EPOCH_COLUMNS

ERRORS = (40.0, 30.0, 20.0, 10.0)


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _grow(path, epochs):
    """Writes the rows of more epochs behind those that are there, and the summary behind the last."""
    whole = make_run(path.with_name("whole"), errors=ERRORS)
    for name, count in (("metrics.csv", epochs), ("iterations.csv", 10 * epochs)):
        lines = (whole / name).read_text().splitlines(keepends=True)
        (path / name).write_text("".join(lines[: 1 + count]))
    shutil.rmtree(whole)
    if epochs == len(ERRORS):
        (path / "summary.json").write_text(json.dumps(summary_of(recipe_of(), ERRORS, 40, resumed=20)))


@pytest.fixture
def live(tmp_path):
    """A run with one epoch done, and a sleep in which it comes on by one, twice falling back to a checkpoint."""
    path = make_run(tmp_path / "live", errors=ERRORS[:1])
    course = iter([1, 2, 3, 2, 3, 4])
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        _grow(path, next(course))

    return path, sleep, slept


def test_elsewhere_than_on_a_terminal_each_epoch_is_told_once(live):
    path, sleep, slept = live
    out = io.StringIO()
    watch(path, 2.5, out, sleep)
    assert out.getvalue().splitlines() == [
        "epoch 1: training error 45.00 %, validation error 40.00 %, 1,000 images/s",
        "epoch 2: training error 35.00 %, validation error 30.00 %, 1,100 images/s",
        "epoch 3: training error 25.00 %, validation error 20.00 %, 1,200 images/s",
        "epoch 4: training error 15.00 %, validation error 10.00 %, 1,300 images/s",
        f"{path}: finished; resumed at iteration 20",
    ]
    assert slept == [2.5] * 6


def test_a_terminal_is_drawn_again_until_the_run_is_finished(live):
    path, sleep, slept = live
    out = _Terminal()
    assert watch(path, 1.0, out, sleep).finished
    screens = out.getvalue().split("\x1b[H")[1:]
    assert len(screens) == len(slept) + 1 == 7
    assert out.getvalue().startswith("\x1b[2J\x1b[H")
    assert all(screen.endswith("\x1b[J") for screen in screens)
    assert "unfinished at epoch 1 of 4" in screens[0]
    assert "finished; resumed at iteration 20" in screens[-1]


def test_a_folder_in_which_the_run_has_just_begun(tmp_path):
    (tmp_path / "config.yaml").touch()
    assert view(read_run(tmp_path))[-1] == "broken: config.yaml holds no options; no metrics.csv; no iterations.csv"


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 60), (60, 24), (80, 40)])
def test_the_view_fits_the_terminal(tmp_path, columns, rows):
    errors = [50.0 - number for number in range(20)]
    run = read_run(make_run(tmp_path / ("a" * 90), errors=errors, epochs=100))
    lines = view(run, columns, rows)
    assert max(map(len, lines)) <= min(columns, 80)
    assert len(lines) < rows
    assert "training loss by iteration" in "\n".join(lines)
    assert [line.split()[0] for line in lines if line.strip().startswith("20")] == ["20"]  # the last epoch


def test_what_the_view_says(tmp_path):
    run = read_run(make_run(tmp_path / "a", errors=ERRORS[:3]))
    lines = view(run, now_s=run.written_s + 7)
    assert lines[1] == "resnet8, minibatch 100 = 10 workers of 10, torch, seed 0"
    assert lines[2].endswith("  75 %, epoch 3.00 of 4, 1 s left")
    assert lines[4].split() == [
        "epoch",
        "lr",
        "loss",
        "error",
        "%",
        "val",
        "%",
        "val",
        "top-5",
        "%",
        "images/s",
        "waiting",
        "%",
    ]
    assert lines[7].split() == ["3", "0.1", "1.0000", "25.00", "20.00", "2.00", "1,200", "–"]
    assert lines[-1] == "unfinished at epoch 3 of 4, written 7 s ago; validation error 20.00 % so far"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"errors": ()}, "   0 %, epoch 0.00 of 4"),
        ({"errors": (), "iterations": 5}, "  12 %, epoch 0.50 of 4"),  # no speed is known before the first row
        ({"errors": (40.0,), "max_iterations": 20}, "  50 %, epoch 1.00 of 2, 1 s left"),
        ({}, " 100 %, epoch 4.00 of 4"),
    ],
)
def test_progress(tmp_path, options, words):
    line = progress(read_run(make_run(tmp_path / "a", **options)))
    assert len(line) == 80
    assert line.endswith(f"]{words}")
    share = float(words.split()[0]) / 100
    assert line.count("#") == pytest.approx(share * (80 - len(words) - 2), abs=1)


def test_the_rows_are_those_of_metrics_csv():
    assert set(epoch_row(0, 9, 1.0)) == set(EPOCH_COLUMNS)
