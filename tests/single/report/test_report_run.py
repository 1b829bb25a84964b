import json
import os

import pytest
import yaml
from made_up_runs import make_run, recipe_of

from hvd_imagenet.errors import UserError
from hvd_imagenet.report import state
from hvd_imagenet.report.finding import run_folders
from hvd_imagenet.report.run import read_run


def _edit(path, name, change):
    (path / name).write_text(change((path / name).read_text()))


def _change_json(**values):
    return lambda text: json.dumps(json.loads(text) | values)


def _without(key):
    return lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != key})


def test_a_finished_run(tmp_path):
    run = read_run(make_run(tmp_path / "a", seed=3))
    assert (run.finished, run.problems, run.name) == (True, (), "digits")
    assert run.recipe == recipe_of(seed=3)
    assert run.epochs["val_error"].tolist() == [40, 30, 20, 10]
    assert run.iterations["iteration"].tolist() == list(range(40))
    assert run.iterations["loss"].tolist() == pytest.approx([2 / (1 + t) for t in range(40)], rel=1e-14)
    assert run.images_per_second == 1150  # the median of 1000, 1100, 1200, 1300
    assert (run.option("framework"), run.option("processes"), run.option("nothing")) == ("torch", 2, None)
    assert state.sentence(run) == "finished"


def test_fields_under_their_own_names_are_a_recipe_too(tmp_path):
    """RunLogger of Keras writes image_size_px, and earlier versions of train did."""
    path = make_run(tmp_path / "a")
    config = yaml.safe_load((path / "config.yaml").read_text())
    del config["recipe"]
    config["image_size_px"], config["validation_resize_px"] = config.pop("image_size"), config.pop("validation_resize")
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    run = read_run(path)
    assert run.recipe == recipe_of()
    assert run.name == "of your own"


def test_a_run_of_an_earlier_version_has_no_share_of_waiting(tmp_path):
    path = make_run(tmp_path / "a")
    _edit(path, "metrics.csv", lambda text: "".join(line.rpartition(",")[0] + "\n" for line in text.splitlines()))
    run = read_run(path)
    assert run.finished
    assert run.epochs["data_wait_percent"].isna().all()


def test_half_a_row_of_a_killed_run_is_left_out(tmp_path):
    path = make_run(tmp_path / "a", errors=(40.0,))
    for name in ("metrics.csv", "iterations.csv"):
        _edit(path, name, lambda text: text + "1,1")
    run = read_run(path)
    assert (len(run.epochs), len(run.iterations), run.problems) == (1, 10, ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "finished"),
        ({"resumed": 17}, "finished; resumed at iteration 17"),
        (
            {"errors": (40.0,), "max_iterations": 10},
            "finished; stopped by --max-iterations at 10 of 40",
        ),
        ({"errors": (40.0, 30.0)}, "unfinished at epoch 2 of 4, written 2 min ago; validation error 30.00 % so far"),
        ({"errors": (), "iterations": 7}, "unfinished at epoch 0.7 of 4, written 2 min ago"),
        ({"errors": (), "iterations": 1}, "unfinished at epoch 0 of 4, written 2 min ago"),
        ({"errors": ()}, "unfinished before its first iteration, written 2 min ago"),
        ({"errors": (), "iterations": 5, "max_iterations": 20}, "unfinished at epoch 0.5 of 2, written 2 min ago"),
    ],
)
def test_what_is_said_of_a_whole_run(tmp_path, options, said):
    run = read_run(make_run(tmp_path / "a", **options))
    assert state.sentence(run, run.written_s + 120) == said


def test_a_run_that_was_started_again_says_so(tmp_path):
    path = make_run(tmp_path / "a", errors=(40.0,))
    (path / "events.out.tfevents.1.host.1").touch()
    run = read_run(path)
    assert state.sentence(run, run.written_s) == (
        "unfinished at epoch 1 of 4, written 0 s ago; started 2 times; validation error 40.00 % so far"
    )


def test_what_the_summary_counts_is_said(tmp_path):
    path = make_run(tmp_path / "a")
    _edit(path, "summary.json", _change_json(bad_images=2, nonfinite_skipped=1))
    assert state.sentence(read_run(path)) == (
        "finished; 2 images could not be read; 1 iterations passed over for NaN or infinity"
    )


BROKEN = [
    ("config.yaml", None, "no config.yaml"),
    ("config.yaml", lambda _: "", "config.yaml holds no options"),
    ("config.yaml", lambda _: "a: [", "config.yaml cannot be read (while parsing a flow node"),
    ("config.yaml", lambda text: text + "minibatch: 101\n", "config.yaml: minibatch must be a multiple of per_worker"),
    ("config.yaml", lambda text: text + "momentum: much\n", "config.yaml: a value is of another kind ("),
    ("config.yaml", lambda _: "recipe: of 2031", "config.yaml: recipe of 2031 is not known to this version"),
    ("config.yaml", lambda text: text + "seed: one\n", "config.yaml: seed must be an integer, not 'one'"),
    ("config.yaml", lambda text: text + "decay_epochs: 2\n", "config.yaml: a value is of another kind ("),
    ("config.yaml", lambda _: "recipe: [a]", "config.yaml: recipe ['a'] is not known to this version"),
    ("config.yaml", lambda text: text + "data: [[a]]\n", "config.yaml has a collection where a value belongs: data"),
    ("metrics.csv", None, "no metrics.csv"),
    ("metrics.csv", lambda _: "", "metrics.csv cannot be read (No columns to parse from file)"),
    ("metrics.csv", lambda text: text.replace("val_error,", "error,"), "metrics.csv lacks the columns val_error"),
    (
        "metrics.csv",
        lambda text: text.replace("20.0", "x"),
        "metrics.csv has something else than numbers under val_err",
    ),
    (
        "metrics.csv",
        lambda text: text.replace("10.0", "11.0"),
        "metrics.csv ends with a validation error of 11.0, summ",
    ),
    ("iterations.csv", None, "no iterations.csv"),
    ("iterations.csv", lambda text: text.replace("\n7,", "\n8,"), "iterations.csv has no iteration 7, but later ones"),
    (
        "iterations.csv",
        lambda text: "".join(text.splitlines(keepends=True)[:31]),
        "iterations.csv has 30 iterations, summary.json says 40",
    ),
    ("summary.json", lambda text: text[:20], "summary.json cannot be read ("),
    ("summary.json", lambda _: "[]", "summary.json lacks val_error_median_last5, val_error_final, iterations"),
    ("summary.json", _without("iterations"), "summary.json lacks iterations"),
    ("summary.json", _change_json(val_error_final="low"), "summary.json has something else than numbers under val_err"),
]


@pytest.mark.parametrize(("name", "change", "said"), BROKEN)
def test_a_broken_run_says_what_is_missing(tmp_path, name, change, said):
    path = make_run(tmp_path / "a")
    if change is None:
        (path / name).unlink()
    else:
        _edit(path, name, change)
    run = read_run(path)
    sentence = state.sentence(run)
    assert sentence.startswith(f"broken: {said}")
    assert "\n" not in sentence
    assert not run.finished
    assert state.kind(run) == "broken"


def test_bytes_that_are_no_text_break_a_run_and_nothing_else(tmp_path):
    path = make_run(tmp_path / "a")
    for name in ("config.yaml", "metrics.csv", "iterations.csv", "summary.json"):
        (path / name).write_bytes(b"\xff\xfe\x00")
    run = read_run(path)
    assert len(run.problems) == 4
    assert all("cannot be read" in problem for problem in run.problems)


def test_errors_that_are_no_number_do_not_break_a_run(tmp_path):
    path = make_run(tmp_path / "a", errors=(40.0, float("nan"), float("nan"), float("nan")))
    run = read_run(path)
    assert run.problems == ()
    assert run.epochs["val_error"].isna().sum() == 3


def test_a_folder_of_runs_stands_for_them(tmp_path):
    runs = [make_run(tmp_path / "runs" / name) for name in ("b", "a")]
    (tmp_path / "runs" / "notes").mkdir()
    assert run_folders([tmp_path / "runs"]) == sorted(runs)
    assert run_folders([runs[0], tmp_path / "runs", runs[0]]) == runs  # each once, in the order given


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "no such folder; name one that train has written, as runs/RUN"),
        (
            "empty",
            "holds no run, and no folder that does: none of config.yaml, metrics.csv, iterations.csv, summary.js",
        ),
        ("file", "is a file; name the run's folder, "),
    ],
)
def test_a_path_without_a_run_is_a_mistake(tmp_path, name, said):
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as mistake:
        run_folders([tmp_path / name])
    assert str(mistake.value).startswith(f"{tmp_path / name}: {said}")


def test_the_time_is_that_of_the_file_written_last(tmp_path):
    path = make_run(tmp_path / "a")
    for number, name in enumerate(("metrics.csv", "iterations.csv", "config.yaml", "summary.json")):
        os.utime(path / name, (1000 + number, 1000 + number))
    assert read_run(path).written_s == 1003
