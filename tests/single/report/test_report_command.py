import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_runs import make_run

from hvd_imagenet.cli import main


def _fails(capsys, *words):
    assert main(["report", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


def test_everything_at_once(tmp_path, capsys):
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b", seed=1, errors=(40.0,))
    names = ("csv", "markdown", "latex", "json", "html")
    options = [word for name in names for word in (f"--{name}", str(tmp_path / name))]
    assert main(["report", str(tmp_path / "runs"), *options, "--out", str(tmp_path / "figures")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "recipe seeds error % final % images/s           state",
        "digits     1   25.00   10.00    1,150 1 of 2 finished",
    ]
    assert lines[3].startswith(f"{tmp_path}/runs/b: unfinished at epoch 1 of 4, written ")
    assert lines[-1] == f"figures in {tmp_path}/figures: loss_by_iteration, training_curves"
    assert (tmp_path / "csv").read_text().startswith("recipe,runs,seeds,error,")
    assert (tmp_path / "markdown").read_text().startswith("| recipe | seeds |")
    assert (tmp_path / "latex").read_text().startswith("\\begin{tabular}")
    assert len(json.loads((tmp_path / "json").read_text())["runs"]) == 2
    assert (tmp_path / "html").read_text().startswith("<!DOCTYPE html>")
    assert len(list((tmp_path / "figures").iterdir())) == 4


def test_runs_are_left_as_they_are(tmp_path):
    path = make_run(tmp_path / "a")
    before = {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in path.iterdir()}
    assert main(["report", str(path), "--html", str(tmp_path / "page.html")]) == 0
    assert {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in path.iterdir()} == before


def test_by_makes_rows_of_its_own(tmp_path, capsys):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", framework="keras")
    assert main(["report", str(tmp_path), "--by", "framework, processes"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["framework", "keras", "torch"]


@pytest.mark.parametrize("words", [["{run}", "--watch"], ["--watch", "{run}"], ["{run}", "--watch", "0.1"]])
def test_watch_of_a_finished_run_ends_at_once(tmp_path, capsys, words):
    run = make_run(tmp_path / "a")
    assert main(["report", *(word.format(run=run) for word in words)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{run}: finished"


def test_what_readme_says_to_type(tmp_path, capsys, monkeypatch):
    make_run(tmp_path / "runs" / "RUN")
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    commands = [
        line.split()[1:] for line in readme.splitlines() if line.startswith(".venv/bin/hvd-imagenet report runs")
    ]
    assert len(commands) == 3
    for command in commands + commands[:1]:  # its own files are no runs
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert "25.00" in out or out.endswith("runs/RUN: finished\n")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"RUN", "report.html", "report.csv", "figures"}


def test_benchmarks_and_readme(tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    (results / "new.json").write_text('{"ratios": {"x": 1.5}}')
    readme = tmp_path / "README.md"
    readme.write_text("<!-- benchmarks -->\n<!-- /benchmarks -->\n")
    assert main(["report", "--benchmarks", str(results)]) == 0
    printed = capsys.readouterr().out
    for said in ("written", "as it was"):
        assert main(["report", "--benchmarks", str(results), "--readme", str(readme)]) == 0
        assert capsys.readouterr().out == f"{readme}: {said}\n"
    assert readme.read_text() == f"<!-- benchmarks -->\n\n{printed}\n<!-- /benchmarks -->\n"


def test_mistakes_are_one_line_with_the_remedy(tmp_path, capsys):
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name, errors=(1.0,))
    runs, nowhere = tmp_path / "runs", tmp_path / "no" / "where"
    assert _fails(capsys) == "RUN is missing: name a run folder, or the folder that holds them, as: report runs"
    assert _fails(capsys, nowhere) == f"{nowhere}: no such folder; name one that train has written, as runs/RUN"
    assert _fails(capsys, runs, "--by", "colour").startswith("--by colour: no run says anything of it; they have amp")
    assert _fails(capsys, runs, "--watch").startswith("--watch shows one run, not 2; name one, as the last written: ")
    for seconds in ("0", "-1", "nan", "inf"):
        said = f"--watch {seconds}: must be a number of seconds above 0, as --watch 5"
        assert _fails(capsys, runs, f"--watch={seconds}") == said
    assert _fails(capsys, "--readme", "README.md") == (
        "--readme shows the results of --benchmarks DIR; name it too, as benchmarks/results"
    )
    assert _fails(capsys, runs, "--benchmarks", "d") == (
        "--benchmarks is a report of its own: leave RUN out, or leave it out"
    )
    for option in ("--csv", "--markdown", "--latex", "--json", "--html"):
        assert _fails(capsys, runs, option, nowhere) == (
            f"{option} {nowhere}: cannot be written (No such file or directory); name a file in a folder of yours"
        )


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path, capsys, monkeypatch):
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("pandas", "jinja2") else real(name))
    assert _fails(capsys, tmp_path) == (
        f"pandas, jinja2 missing; install: {sys.executable} -m pip install pandas jinja2"
    )


def test_a_terminal_without_the_characters_shows_others(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / str(seed), seed=seed)
    command = [sys.executable, "-m", "hvd_imagenet", "report", str(tmp_path)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[1].split() == [
        "digits", "2", "25.00", "?", "0.00", "10.00", "?", "0.00", "1,150", "finished"
    ]  # fmt: skip
    assert done.stderr == ""


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = (
        "import sys; from hvd_imagenet.cli import build_parser; build_parser('report'); "
        "print(sorted({'pandas', 'matplotlib', 'jinja2', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_report_imports_no_framework(tmp_path):
    run = make_run(tmp_path / "a")
    code = (
        "import sys; from hvd_imagenet.cli import main; "
        f"main(['report', {str(run)!r}, '--html', {str(tmp_path / 'page.html')!r}]); "
        "print(sorted({'torch', 'tensorflow', 'keras', 'horovod', 'mpi4py'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
