import math

import pytest
from made_up_runs import make_run

from hvd_imagenet.errors import UserError
from hvd_imagenet.report.groups import as_frame, common_fields, grouped
from hvd_imagenet.report.run import read_run


def _runs(tmp_path, *options):
    return [read_run(make_run(tmp_path / str(number), **each)) for number, each in enumerate(options)]


def _errors(last):
    return (40.0, 30.0, last, last)


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path):
    runs = _runs(
        tmp_path,
        {"seed": 0, "errors": (50.0, 12.0, 10.0, 11.0)},  # median 11.5
        {"seed": 1, "errors": (50.0, 14.0, 12.0, 13.0)},  # median 13.5
        {"seed": 2, "errors": (50.0, 16.0, 14.0, 15.0)},  # median 15.5
        {"seed": 0, "minibatch": 200},
    )
    small, large = grouped(runs)
    assert [run.path.name for run in small.runs] == ["0", "1", "2"]
    assert (small.differing, large.differing) == ({"minibatch": 100}, {"minibatch": 200})
    assert (small.label, small.seeds, small.states) == ("minibatch 100", [0, 1, 2], "finished")
    error, final = small.of_summary("val_error_median_last5"), small.of_summary("val_error_final")
    assert (error.mean, error.deviation) == (13.5, 2.0)
    assert (final.mean, final.deviation) == (13.0, 2.0)
    assert math.isnan(large.of_summary("val_error_final").deviation)  # a single seed has none


def test_runs_of_one_seed_count_as_one(tmp_path):
    """1, 2 and 4 processes of a recipe are the same experiment, not three."""
    runs = _runs(
        tmp_path,
        {"seed": 0, "errors": _errors(10.0)},
        {"seed": 0, "errors": _errors(14.0), "framework": "keras"},
        {"seed": 1, "errors": _errors(16.0)},
    )
    (group,) = grouped(runs)
    found = group.of_summary("val_error_final")
    assert (found.mean, found.deviation) == (14.0, pytest.approx(math.sqrt(8)))  # of 12 and 16


def test_what_makes_a_row_of_its_own(tmp_path):
    runs = _runs(
        tmp_path,
        {},
        {"epochs": 4.0},  # 4 and 4.0 are the same
        {"framework": "keras"},  # changes rounding alone
        {"data": "other"},
        {"errors": (40.0,), "max_iterations": 10},
        {"warmup": "none"},
    )
    groups = grouped(runs)
    assert sorted(len(group.runs) for group in groups) == [1, 1, 1, 3]
    assert list(groups[0].differing) == ["warmup", "data", "max_iterations"]
    assert len(grouped(runs[:3])) == 1


def test_decays_that_follow_from_the_length_are_no_difference_of_their_own(tmp_path):
    longer, other = {"epochs": 8, "decay_epochs": (4, 6)}, {"epochs": 8, "decay_epochs": (4, 7)}
    runs = _runs(tmp_path, {}, longer)
    assert [group.label for group in grouped(runs)] == ["epochs 4", "epochs 8"]
    assert "decay_epochs" not in common_fields(grouped(runs))
    labels = [group.label for group in grouped([*runs, *_runs(tmp_path / "more", other)])]
    assert labels == ["epochs 4, decay epochs 2 3", "epochs 8, decay epochs 4 6", "epochs 8, decay epochs 4 7"]


def test_a_name_separates_groups_too(tmp_path):
    runs = _runs(tmp_path, {}, {"framework": "keras"}, {"seed": 1})
    groups = grouped(runs, ["framework", "processes"])
    assert [group.label for group in groups] == ["framework keras", "framework torch"]
    assert [len(group.runs) for group in groups] == [1, 2]


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"--by colour: no run says anything of it; they have .*framework.*processes"):
        grouped(_runs(tmp_path, {}), ["colour"])


def test_groups_come_in_the_order_of_numbers(tmp_path):
    runs = _runs(tmp_path, *({"minibatch": size} for size in (1000, 20, 100, 200)))
    assert [group.fields["minibatch"] for group in grouped(runs)] == [20, 100, 200, 1000]


def test_unfinished_and_broken_runs_give_no_numbers(tmp_path):
    runs = _runs(tmp_path, {"seed": 0}, {"seed": 1, "errors": (40.0,)}, {"seed": 2})
    (tmp_path / "2" / "iterations.csv").unlink()
    runs[2] = read_run(tmp_path / "2")
    (group,) = grouped(runs)
    assert (group.states, group.seeds) == ("1 of 3 finished", [0])
    assert group.of_summary("val_error_final").mean == 10.0
    row = as_frame([group]).iloc[0]
    assert (row["recipe"], row["runs"], row["seeds"], row["error"], row["images_per_second"]) == (
        "digits",
        3,
        1,
        25.0,
        1150.0,
    )


def test_a_run_without_a_recipe_belongs_to_no_group(tmp_path):
    (run,) = _runs(tmp_path, {})
    (run.path / "config.yaml").unlink()
    assert grouped([read_run(run.path)]) == []
    assert as_frame([]).empty


def test_what_all_have_in_common(tmp_path):
    groups = grouped(_runs(tmp_path, {}, {"minibatch": 200, "warmup": "none"}))
    common = common_fields(groups)
    assert (common["model"], common["data"]) == ("resnet8", "d")
    assert {"seed", "minibatch", "warmup"}.isdisjoint(common)
