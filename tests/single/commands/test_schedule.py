import csv
import subprocess
import sys
import time

import pytest

from hvd_imagenet.cli import main
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.schedule_preview import plot, rows, turning_points

PAPER = ["schedule", "--minibatch", "8192", "--images", "1281167", "--epochs", "90", "--warmup", "gradual"]


def _csv(capsys, *words):
    assert main(["schedule", *words, "--csv"]) == 0
    return list(csv.DictReader(capsys.readouterr().out.splitlines()))


def test_the_papers_schedule(capsys):
    table = _csv(capsys, *PAPER[1:])
    assert list(table[0]) == ["iteration", "epoch", "lr"]
    assert [int(row["iteration"]) for row in table] == list(range(14_076))
    for row in table:
        epoch = int(row["iteration"]) * 8192 / 1_281_167
        assert float(row["epoch"]) == epoch
        if epoch < 5:
            expected = 0.1 + 3.1 * epoch / 5
        else:
            expected = 3.2 * 10.0 ** -((epoch >= 30) + (epoch >= 60) + (epoch >= 80))
        assert float(row["lr"]) == pytest.approx(expected, rel=1e-12)
    assert table[0] == {"iteration": "0", "epoch": "0.0", "lr": "0.1"}
    assert table[782]["lr"] == "3.2"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--images 32 --warmup none --epochs 3 --minibatch 256 --decay-epochs 1 2", [0.1]),
        ("--images 512 --epochs 2 --minibatch 256 --decay-epochs 1", [0.1, 0.1, 0.01, 0.01]),
        ("--images 512 --epochs 2 --minibatch 512 --warmup-epochs 1 --decay-epochs 9", [0.1, 0.2]),
        ("--images 1024 --epochs 2 --minibatch 512 --warmup-epochs 1 --decay-epochs 9", [0.1, 0.15, 0.2, 0.2]),
        (
            "--images 1024 --epochs 2 --minibatch 512 --warmup constant --warmup-epochs 1 --decay-epochs 9",
            [0.1, 0.1, 0.2, 0.2],
        ),
        ("--images 256 --epochs 4 --minibatch 256 --schedule cosine", [0.1, 0.0853553391, 0.05, 0.0146446609]),
        ("--images 96 --epochs 1 --minibatch 96 --reference-lr 1 --reference-minibatch 32 --warmup none", [3.0]),
    ],
)
def test_any_option(capsys, words, expected):
    table = _csv(capsys, *words.split())
    assert [float(row["lr"]) for row in table] == pytest.approx(expected, rel=1e-8)
    assert len(table) == len(expected)


def test_full_precision(capsys):
    for row in _csv(capsys, "--images", "1437", "--recipe", "digits"):
        assert repr(float(row["lr"])) == row["lr"]
        assert repr(float(row["epoch"])) == row["epoch"]


def test_the_table_and_the_plot(capsys):
    assert main(PAPER) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "minibatch 8,192 = 256 workers of 32; 90 epochs of 1,281,167 images = 14,076 iterations"
    assert lines[1] == "learning rate 0.1 at minibatch 256, so 3.2 here; gradual warmup over 5 epochs, then step"
    assert [line.split(maxsplit=3)[0::3] for line in lines[4:14]] == [
        ["0", "first"],
        ["781", "last of warmup"],
        ["782", "peak"],
        ["4691", "last before decay"],
        ["4692", "decay"],
        ["9383", "last before decay"],
        ["9384", "decay"],
        ["12511", "last before decay"],
        ["12512", "decay"],
        ["14075", "last"],
    ]
    assert captured.out.isascii()  # no terminal: no colours, no box characters
    assert max(map(len, lines[2:])) <= 80
    assert sum("*" in line for line in lines) >= 5
    assert captured.err == ""


# Boundaries that no binary fraction meets, on and beside an iteration.
@pytest.mark.parametrize("images", [10, 97, 1437])
@pytest.mark.parametrize("decay_epochs", [(0.1, 0.3, 2.1), (1 / 3, 50 / 3), (0.7,), (1000,)])
def test_turning_points_are_where_the_rate_changes(images, decay_epochs):
    recipe = Recipe(minibatch=1, per_worker=1, epochs=20, decay_epochs=decay_epochs)
    table = list(rows(recipe, images))
    changes = [t for t in range(1, len(table)) if table[t].lr != table[t - 1].lr]
    points = turning_points(recipe, images)
    assert [point.iteration for point, what in points if what == "decay"] == changes
    assert all(table[point.iteration] == point for point, _ in points)
    assert [point.iteration for point, _ in points] == sorted({0, len(table) - 1, *changes, *(t - 1 for t in changes)})


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"schedule": "cosine"}, {"warmup": "none"}, {"warmup": "none", "decay_epochs": (100,)},
        {"decay_factor": 1e-200}, {"decay_factor": 0.5}, {"reference_lr": 1e-9}, {"decay_factor": 10},
    ],
)  # fmt: skip
@pytest.mark.parametrize("images", [1, 1000, 1_281_167])
def test_every_plot_fits(changes, images):
    for plain in (True, False):
        text = plot(Recipe(**changes), images, plain)
        assert max(map(len, text.splitlines())) <= 80
        assert len(text.splitlines()) <= 20
        assert "\x1b" not in text
        assert text.isascii() or not plain
        assert ("*" in text) == plain


@pytest.mark.parametrize("images", ["0", "-5"])
def test_images_must_be_positive(capsys, images):
    assert main(["schedule", "--images", images]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: --images must be an integer of 1 or more, not {images}\n"
    assert captured.out == ""


def test_options_from_a_file(capsys, tmp_path):
    (tmp_path / "o.yaml").write_text("images: 256\nepochs: 2\nminibatch: 256\ncsv: true\ndecay_epochs: [1]\n")
    assert main(["schedule", "-c", str(tmp_path / "o.yaml")]) == 0
    assert capsys.readouterr().out == "iteration,epoch,lr\n0,0.0,0.1\n1,1.0,0.010000000000000002\n"


@pytest.mark.parametrize("words", [[], ["--csv"], ["--csv", "--minibatch", "32"]])
def test_a_closed_pipe_is_no_error(words):
    process = subprocess.Popen(
        [sys.executable, "-m", "hvd_imagenet", "schedule", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_terminal_without_utf_8(tmp_path):
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}
    result = subprocess.run([sys.executable, "-m", "hvd_imagenet", *PAPER], env=environment, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")


def test_the_csv_takes_well_under_a_second_of_processor_time():
    code = "import sys, time; from hvd_imagenet.cli import main; main(sys.argv[1:]); print(time.process_time())"
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code, *PAPER, "--csv"], capture_output=True, text=True, check=True)
    assert float(result.stdout.splitlines()[-1]) < 1.0
    assert time.monotonic() - started < 10
