import csv
import io
import json

import pytest
from made_up_runs import make_run

from hvd_imagenet.asked_file import write_asked_for
from hvd_imagenet.errors import UserError
from hvd_imagenet.report import tables
from hvd_imagenet.report.groups import grouped
from hvd_imagenet.report.run import read_run


def _report(tmp_path, *options):
    runs = [read_run(make_run(tmp_path / str(number), **each)) for number, each in enumerate(options)]
    return grouped(runs), runs


@pytest.fixture
def study(tmp_path):
    """Two minibatches: two seeds of 10 and 14 % (final), and one run of 20 %; a third is unfinished."""
    return _report(
        tmp_path,
        {"seed": 0, "errors": (40.0, 30.0, 12.0, 10.0)},  # median 21
        {"seed": 1, "errors": (40.0, 34.0, 16.0, 14.0)},  # median 25
        {"seed": 0, "minibatch": 200, "errors": (50.0, 40.0, 30.0, 20.0)},  # median 35
        {"seed": 0, "minibatch": 500, "errors": (50.0,)},
    )


def test_the_terminals_table(study):
    groups, runs = study
    text = tables.as_terminal(groups, runs, now_s=runs[3].written_s + 5)
    assert text.splitlines() == [
        "minibatch seeds      error %      final % images/s      state",
        "      100     2 23.00 ± 2.83 12.00 ± 2.83    1,150   finished",
        "      200     1        35.00        20.00    1,150   finished",
        "      500     0            –            –        – unfinished",
        "",
        f"{runs[3].path}: unfinished at epoch 1 of 4, written 5 s ago; validation error 50.00 % so far",
    ]


def test_where_the_table_does_not_fit_groups_are_numbered(tmp_path):
    groups, runs = _report(
        tmp_path,
        {"warmup": "gradual", "schedule": "cosine", "weight_decay": 1e-4, "data": "digits of 1998"},
        {"warmup": "none", "schedule": "step", "weight_decay": 5e-5, "label_smoothing": 0.1, "minibatch": 200},
    )
    lines = tables.as_terminal(groups, runs).splitlines()
    assert lines[0].startswith(
        "1: minibatch 100, warmup gradual, schedule cosine, weight decay 0.0001, label smoothing"
    )
    table = lines[lines.index("") + 1 :]
    assert table == [
        "group seeds error % final % images/s    state",
        "    1     1   25.00   10.00    1,150 finished",
        "    2     1   25.00   10.00    1,150 finished",
    ]


def test_all_tables_fit_80_columns(study):
    groups, _ = study
    assert max(map(len, tables.as_terminal(groups, []).splitlines())) <= 80


def test_markdown(study):
    groups, _ = study
    assert tables.as_markdown(groups[:2]).splitlines() == [
        "| minibatch | seeds | error % | final % | images/s | state |",
        "|---|---|---|---|---|---|",
        "| 100 | 2 | 23.00 ± 2.83 | 12.00 ± 2.83 | 1,150 | finished |",
        "| 200 | 1 | 35.00 | 20.00 | 1,150 | finished |",
    ]


def test_csv_has_the_numbers_in_full(study):
    groups, _ = study
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(groups))))
    assert [row["minibatch"] for row in rows] == ["100", "200", "500"]
    assert (float(rows[0]["error"]), float(rows[0]["error_std"])) == (23.0, pytest.approx(8**0.5, rel=1e-12))
    assert (rows[1]["error_std"], rows[2]["error"]) == ("", "")
    assert [row["state"] for row in rows] == ["finished", "finished", "unfinished"]


def test_latex(study):
    groups, _ = study
    lines = tables.as_latex(groups).splitlines()
    assert lines[0] == r"\begin{tabular}{llllll}"
    assert r"minibatch & seeds & error \% & final \% & images/s & state \\" in lines
    assert r"100 & 2 & 23.00 $\pm$ 2.83 & 12.00 $\pm$ 2.83 & 1,150 & finished \\" in lines
    assert r"500 & 0 & -- & -- & -- & unfinished \\" in lines
    assert "\\".join(lines).isascii()


def test_json(study):
    groups, runs = study
    found = json.loads(tables.as_json(groups, runs), parse_constant=pytest.fail)  # no NaN: JSON has none
    assert found["common"]["model"] == "resnet8"
    assert [group["differing"] for group in found["groups"]] == [{"minibatch": n} for n in (100, 200, 500)]
    assert (found["groups"][0]["error"], found["groups"][0]["seed_numbers"]) == (23.0, [0, 1])
    assert found["groups"][2]["error"] is None
    assert found["groups"][0]["folders"] == [str(run.path) for run in runs[:2]]
    assert [run["final"] for run in found["runs"]] == [10.0, 14.0, 20.0, None]
    assert [run["epochs"] for run in found["runs"]] == [4.0, 4.0, 4.0, 1.0]
    assert len(found["notes"]) == 1


def test_a_seed_that_stands_twice_is_told(tmp_path):
    groups, runs = _report(tmp_path, {"seed": 7}, {"seed": 7, "framework": "keras"}, {"seed": 8})
    assert tables.notes(groups, runs) == ["digits: seed 7 in 2 runs, which count as one, their mean"]


def test_broken_runs_alone_have_a_line_each_and_no_table(tmp_path):
    _, runs = _report(tmp_path, {})
    (runs[0].path / "config.yaml").unlink()
    runs = [read_run(runs[0].path)]
    assert tables.as_terminal(grouped(runs), runs) == f"{runs[0].path}: broken: no config.yaml"
    assert json.loads(tables.as_json([], runs))["groups"] == []
    assert tables.as_csv([]) == "\n"


def test_a_file_that_cannot_be_written_is_a_mistake(tmp_path):
    with pytest.raises(UserError) as mistake:
        write_asked_for("--csv", tmp_path / "no" / "t.csv", "")
    assert str(mistake.value) == (
        f"--csv {tmp_path}/no/t.csv: cannot be written (No such file or directory); name a file in a folder of yours"
    )
