import math

from made_up_study import rows_of, write_study

from hvd_imagenet.cli import main
from hvd_imagenet.report.study import read_study

MISTAKES = "name the file that benchmarks/minibatch_study.py writes"


def test_points_are_trainings_that_differ_in_their_seed(tmp_path):
    path = write_study(
        tmp_path / "s.csv",
        rows_of([20.0, 22.0], minibatch=1024, warmup="none"),
        rows_of([16.0, None, 18.0], minibatch=1024),
        rows_of([15.0], framework="keras", processes=2),
        rows_of([13.0, 14.0, 15.0]),
        rows_of([None, None], minibatch=8192, opt="lars", trust_coefficient=0.01),
    )
    study = read_study(path)
    assert [(point.label, point.said, point.diverged, point.seeds) for point in study.points] == [
        ("kn 64", "14.00 ± 1.00", 0, ""),
        ("kn 64, framework keras, processes 2", "15.00", 0, "1 of 3"),
        ("kn 1024", "1 of 3 diverged, the rest 17.00 ± 1.41", 1, ""),
        ("kn 1024, warmup none", "21.00 ± 1.41", 0, "2 of 3"),
        ("kn 8192, opt lars, trust coefficient 0.01", "all 2 diverged", 2, "2 of 3"),
    ]
    assert study.reference is study.points[0]
    assert [point.minibatch for point in study.varied()] == [64, 1024]
    assert [point.changes for point in study.varied("warmup", "opt")] == [{}, {}, {"warmup": "none"}]
    assert study.points[2].trainings[0].errors == {"val_error": (64.0, 32.0, 16.0), "train_error": (65.0, 33.0, 17.0)}
    assert math.isnan(study.points[4].statistics[0])


def test_the_json_beside_it_says_how_many_seeds_are_wanted(tmp_path):
    path = write_study(tmp_path / "s.csv", rows_of([13.0, 14.0, 15.0]), rows_of([15.0], minibatch=128), wanted=5)
    assert [point.seeds for point in read_study(path).points] == ["3 of 5", "1 of 5"]
    for damaged in ("{", '{"points": [{}]}', "[]"):
        path.with_suffix(".json").write_text(damaged)
        assert [point.seeds for point in read_study(path).points] == ["", "1 of 3"]


def test_of_two_rows_of_one_run_the_later_counts(tmp_path):
    (point,) = read_study(write_study(tmp_path / "s.csv", rows_of([13.0, 14.0]), rows_of([15.0]))).points
    assert point.errors == [15.0, 14.0]


def test_what_the_terminal_shows(tmp_path, capsys):
    path = write_study(tmp_path / "s.csv", rows_of([13.0, 14.0, 15.0]), rows_of([15.0, None], minibatch=1024))
    assert main(["report", "--study", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        " seeds  error %                          of resnet8_narrow, cluttered-digits-9-16px-seed0",
        "     3  14.00 ± 1.00                     kn 64",
        "2 of 3  1 of 2 diverged, the rest 15.00  kn 1024",
        "",
        "1 of 2 points have fewer seeds than wanted",
    ]
    assert main(["report", "--study", str(path), "--out", str(tmp_path / "figures")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"figures in {tmp_path}/figures: figure1, figure3"
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"figure{number}.{suffix}" for number in (1, 3) for suffix in ("png", "svg")
    }
    write_study(path, rows_of([13.0]))
    assert main(["report", "--study", str(path), "--out", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out.endswith("none: none; no two points of one question have a row yet\n")


def test_mistakes_are_one_line_with_the_remedy(tmp_path, capsys):
    def said(*words):
        assert main(["report", *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err.removeprefix("error: ").rstrip("\n")

    path = tmp_path / "s.csv"
    assert said("--study", path) == f"--study {path}: cannot be read (No such file or directory); {MISTAKES}"
    path.write_text("")
    assert said("--study", path) == f"--study {path}: holds no row; {MISTAKES}"
    path.write_text("minibatch,seed\n64,0\n")
    assert said("--study", path).startswith(f"--study {path}: lacks the columns recipe_hash, framework, processes, ")
    path.write_bytes(b"\xff\n")
    assert said("--study", path).startswith(f"--study {path}: cannot be read ('utf-8' codec can't decode byte 0xff")
    write_study(path, rows_of([13.0]), rows_of([14.0], sha="def"))
    assert said("--study", path) == (
        f"--study {path}: must be of one set of images, not of cluttered-digits-9-16px-seed0 (abc), "
        "cluttered-digits-9-16px-seed0 (def); give each its file"
    )
    write_study(path, rows_of([13.0, 14.0]))
    path.write_text(path.read_text().replace(",14.0,", ",much,"))
    assert said("--study", path) == (
        f"--study {path}: row 2 cannot be read (could not convert string to float: 'much'); remove it, and train it "
        "again"
    )
    alone = "is a report of its own: leave"
    assert said("runs", "--study", path) == f"--study {alone} RUN out, or leave it out"
    assert said("--benchmarks", "d", "--study", path) == f"--benchmarks {alone} --study out, or leave it out"
    assert said("--study", path, "--csv", "x") == (
        "--csv is of run folders: leave it out with --study, or name RUN in its place"
    )
