"""What benchmarks/minibatch_study.py makes of its rows, and what it leaves behind when it is told to end."""

import contextlib
import csv
import fcntl
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DATA = "cluttered-digits"


@pytest.fixture(scope="module")
def study():
    """The scripts' modules, which lie outside of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import minibatch_study
        import study_points
        import study_results

        yield minibatch_study, study_points, study_results


def _results(study, tmp_path, errors, data=DATA, **fields):
    """Results with a row for each seed of a point's errors, None of one that diverged."""
    _, _, study_results = study
    results = study_results.Results(tmp_path / "rows.csv", data)
    here = {"data_sha256": "aaa", "machine": "a host", "date": "2026-11-23", "commit": "abc1234"}
    for point, of_seeds in errors.items():
        for run, error in zip(point.runs, of_seeds, strict=False):
            outcome = {
                "outcome": "diverged" if error is None else "finished",
                "val_error_median_last5": "" if error is None else str(error),
            }
            results.add(run, {**outcome, "seconds": "", **here, **fields})
    return results


def test_ratios_are_of_the_reference_wherever_it_stands(study, tmp_path):
    _, points, study_results = study
    errors = {point: [100.0 / size] * 2 for point, size in zip(points.figure1(), points.SIZES, strict=True)}
    results = _results(study, tmp_path, errors)
    study_results.write_json(tmp_path / "m.json", points.chosen(["FIGURE1"]), results)
    found = json.loads((tmp_path / "m.json").read_text())
    reference = points.base().reference_minibatch
    assert points.SIZES[0] < reference
    assert found["ratios"][f"FIGURE1: kn {reference}"] == 1
    assert found["ratios"][f"FIGURE1: kn {points.SIZES[0]}"] == pytest.approx(points.SIZES[0] / reference, abs=1e-3)
    first = found["points"][0]
    assert (first["label"], first["seeds"], first["wanted"]) == (f"kn {points.SIZES[0]}", 2, 3)
    assert first["runs"] == [f"{run.recipe.hash}-torch-1" for run in next(points.figure1()).runs]


def test_without_the_reference_there_is_no_ratio(study, tmp_path):
    _, points, study_results = study
    small = points.at(points.base().reference_minibatch, reference_lr=0.2)
    others = [points.Point("large", points.at(1024)), points.Point("other rate", small)]
    results = _results(study, tmp_path, {point: [15.0] for point in others})
    study_results.write_json(tmp_path / "m.json", {"S": others}, results)
    assert json.loads((tmp_path / "m.json").read_text())["ratios"] == {}


def test_a_point_with_a_diverged_seed_has_no_ratio(study, tmp_path):
    _, points, study_results = study
    both = [points.Point("small", points.at(points.base().reference_minibatch)), points.Point("large", points.at(1024))]
    results = _results(study, tmp_path, dict(zip(both, ([14.0, 15.0], [20.0, None]), strict=True)))
    study_results.write_json(tmp_path / "m.json", {"S": both}, results)
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["ratios"] == {"S: small": 1}
    assert [(each["seeds"], each["diverged"], each["mean"]) for each in found["points"]] == [(2, 0, 14.5), (2, 1, 20)]


def test_a_result_says_where_and_when_its_rows_were_measured(study, tmp_path):
    _, points, study_results = study
    early, late = points.Point("kn 64", points.at(64)), points.Point("kn 128", points.at(128))
    _results(study, tmp_path, {early: [15.0]}, date="2026-11-20", commit="1111111")
    results = _results(study, tmp_path, {late: [15.0]})
    said = study_results.measured({"S": [late, early]}, results)
    assert (said["machine"], said["date"]) == ("a host", "2026-11-20 to 2026-11-23")
    assert said["commit"] == "abc1234, 1111111"


def test_rows_of_other_images_are_refused(study, tmp_path):
    minibatch_study, points, study_results = study
    point = points.Point("kn 64", points.at(64))
    results = _results(study, tmp_path, {point: [15.0]})
    assert results.mixture() is None
    assert results.mixture("aaa") is None
    mistake = results.mixture("bbb")
    assert mistake == (
        f"{tmp_path}/rows.csv: its rows must be of the same images, {DATA}, but have data_sha256 aaa, here they are "
        "bbb; name another file with --csv, or make the images with the versions of libjpeg and numpy that those rows "
        "had"
    )
    with pytest.raises(SystemExit) as left:
        minibatch_study.refuse(mistake)
    assert left.value.code == 2
    _results(study, tmp_path, {point: [15.0]}, data="others", data_sha256="ccc")
    assert study_results.Results(tmp_path / "rows.csv", DATA).mixture("aaa") is None


def test_only_leaves_the_other_studies_in_the_json(study, tmp_path):
    _, points, _ = study
    _results(study, tmp_path, {point: [15.0] for point in points.table1()}, data="cluttered-digits-0")
    rows = (tmp_path / "rows.csv").read_text().replace("cluttered-digits-0", study[0].data_name(study[0].IMAGES))
    (tmp_path / "rows.csv").write_text(rows)
    command = [sys.executable, str(BENCHMARKS / "minibatch_study.py"), "--list", "--only", "LARS", "--csv"]
    words = [str(tmp_path / "rows.csv"), "--json", str(tmp_path / "m.json")]
    done = subprocess.run([*command, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "TABLE1" not in done.stdout
    found = json.loads((tmp_path / "m.json").read_text())["points"]
    assert {point["study"] for point in found} == set(points.STUDIES)
    assert {point["seeds"] for point in found if point["study"] == "TABLE1"} == {1}


def test_trainings_end_with_the_call_and_hold_its_lock_until_then(study, tmp_path):
    minibatch_study, _, _ = study
    sleeping = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trainings = minibatch_study.Trainings(lock.fileno())
        done = []
        thread = threading.Thread(target=lambda: done.append(trainings.run(sleeping, {})))
        thread.start()
        while not (children := psutil.Process().children()):
            time.sleep(0.01)
    with (tmp_path / "lock").open("w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        trainings.stop()
        thread.join(10)
        assert done[0].returncode == -signal.SIGTERM
        assert not any(child.is_running() for child in children)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(RuntimeError, match="told to end"):
        trainings.run(sleeping, {})


@pytest.mark.timeout(240)
def test_a_call_that_is_told_to_end_takes_its_trainings_with_it(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "minibatch_study.py"), "--quick", "--jobs", "1", "--work"]
    with subprocess.Popen([*command, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=BENCHMARKS.parent) as call:
        while not (trainings := _trainings_of(call.pid)):
            assert call.poll() is None
            time.sleep(0.05)
        call.terminate()
        assert call.wait(120) == 128 + signal.SIGTERM
    assert not any(training.is_running() for training in trainings)
    assert not (tmp_path / "minibatch_study.csv").exists() or len(_read(tmp_path / "minibatch_study.csv")) < 2
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _trainings_of(pid):
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            found += [child] if "train" in child.cmdline() else []
    return found


def _read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
