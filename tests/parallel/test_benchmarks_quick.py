"""The short forms of the benchmarks: they measure, and write what they promise."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ranks import ROOT, run

from hvd_imagenet.launcher.tuning import BOUND_CYCLE_TIME_MS

PROVENANCE = {"command", "machine", "date", "commit"}


def benchmark(name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    done = run([sys.executable, f"benchmarks/{name}.py", "--quick", *words], timeout_s=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def found(path: Path) -> dict[str, Any]:
    """What --json has written, with the provenance that every result has."""
    result: dict[str, Any] = json.loads(path.read_text())
    assert set(result) >= PROVENANCE
    assert all(result[name] for name in PROVENANCE)
    return result


def allreduce(result: dict[str, Any]) -> None:
    seconds = result["seconds"]["2"]
    assert set(seconds) == {"horovod_mpi_untuned", "mpi4py"}
    for name, times in seconds.items():
        assert set(times) >= {"4", "1048576", "set", "set_in_one_buffer"}
        # p = 2: 2(p − 1)/p is 1.
        bandwidth = result["bus_bandwidth_gb_s"]["2"][name]["1048576"]
        assert abs(bandwidth - 1048576e-9 / times["1048576"]) <= 0.02 * bandwidth + 0.002
    assert set(result["cycle_time_ms"]) == {"1", "mpi4py"}
    assert 0 < result["cycle_time_ms"]["1"]["idle_cores"] < 2
    assert result["cycle_time_ms"]["1"]["products_per_second"] > 0


def step_overhead(result: dict[str, Any]) -> None:
    """Seconds, the images that a rank had in them, and provenance of the whole and of each part."""
    seconds, images = result["seconds_per_iteration"], result["images_per_s_of_a_rank"]
    contestants = {model: set(found) for model, found in seconds.items()}
    assert contestants == {"resnet8": {"ours_channels_last", "single"}, "keras_resnet8": {"ours"}}
    for model, found in seconds.items():
        for name, spread in found.items():
            assert abs(images[model][name]["median"] * spread["median"] - 8) < 0.1
    assert set(result["provenance"]) == set(seconds)
    [taken] = result["rounds"]["resnet8"]["channels_last"]
    assert result["ratios"]["resnet8_vs_single"] == round(taken["single"] / taken["ours_channels_last"], 3)


def startup(result: dict[str, Any]) -> None:
    assert set(result["seconds"]) == {"launch", "mpirun"}
    assert all(0.1 < seconds < 120 for seconds in result["seconds"].values())
    assert len(result["rounds"]) == 1


def cycle_time(result: dict[str, Any]) -> None:
    shares = result["of_fastest"]
    assert set(shares) == {"1", str(BOUND_CYCLE_TIME_MS)}
    assert max(each["resnet8"] for each in shares.values()) == 1
    assert result["launch_sets_ms"] == {"resnet8": BOUND_CYCLE_TIME_MS}


def decoder_error(result: dict[str, Any]) -> None:
    assert {decoder: len(seeds) for decoder, seeds in result["errors_by_seed"]["shapes"].items()} == {
        "partial": 1,
        "pillow": 1,
    }


# Each script's ratios in its short form, and what else is looked at.
SCRIPTS: dict[str, tuple[set[str], Callable[[dict[str, Any]], None] | None]] = {
    "allreduce": ({"small_tensors_untuned_vs_mpi4py_2_ranks"}, allreduce),
    "checkpoint_writing": ({"wait_background_vs_synchronous"}, None),
    "cycle_time": ({"resnet8_vs_best_cycle"}, cycle_time),
    "decoder_error": (set(), decoder_error),
    "input_pipeline": ({"vs_pil", "of_entropy_limit"}, None),
    "launch_overhead": ({"vs_mpirun", "vs_horovodrun"}, None),
    "safety_overhead": ({"torch_resnet8_check"}, None),
    "startup": ({"vs_mpirun"}, startup),
    "step_overhead": ({"resnet8_vs_single"}, step_overhead),
    "virtual_workers": ({"resnet8_32px_n2_fused_vs_sequential"}, None),
}
# Those with tests of their own, below or in test_scaling_lab.py.
OTHERS = {"minibatch_study", "plan_against_paper", "record_profile", "scaling_lab"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_short_form(name: str, tmp_path: Path) -> None:
    benchmark(name, "--json", str(tmp_path / "found.json"))
    result = found(tmp_path / "found.json")
    ratios, look = SCRIPTS[name]
    # The pipelines to compare with may be installed in this environment too.
    assert set(result.get("ratios", {})) == ratios or (name == "input_pipeline" and set(result["ratios"]) > ratios)
    assert all(ratio > 0 for ratio in result.get("ratios", {}).values())
    if look is not None:
        look(result)


def test_every_script_that_measures_is_tested() -> None:
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if '"--json"' in path.read_text()}
    assert scripts == SCRIPTS.keys() | OTHERS


def test_minibatch_study_goes_on_where_it_stood(tmp_path: Path) -> None:
    words = ["--work", str(tmp_path), "--csv", str(tmp_path / "rows.csv"), "--json", str(tmp_path / "m.json")]
    jobs = str(min(2, len(os.sched_getaffinity(0))))
    first = benchmark("minibatch_study", *words, "--jobs", jobs)
    assert "0 of 2 runs done" in first.stdout
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["minibatch"] for row in rows) == ["128", "64"]
    for row in rows:
        assert (row["outcome"], row["framework"], row["processes"], row["seed"]) == ("finished", "torch", "1", "0")
        assert row["iterations"] == str(2 * 512 // int(row["minibatch"]))
        errors = [float(error) for error in row["val_errors"].split()]
        assert len(errors) == 2
        assert float(row["val_error_final"]) == errors[-1]
        assert json.loads((tmp_path / f"{row['recipe_hash']}-torch-1" / "summary.json").read_text())["iterations"]
    result = found(tmp_path / "m.json")
    assert [(point["label"], point["seeds"], point["diverged"]) for point in result["points"]] == [
        ("kn 64", 1, 0),
        ("kn 128", 1, 0),
    ]
    assert result["ratios"]["QUICK: kn 64"] == 1
    before = (tmp_path / "rows.csv").read_bytes()
    again = benchmark("minibatch_study", *words)
    assert "2 of 2 runs done, 0 h 00 min to go" in again.stdout
    assert (tmp_path / "rows.csv").read_bytes() == before


def test_minibatch_study_lists_its_runs(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/minibatch_study.py", "--list", "--only", "TABLE1", "--csv"]
    done = run([*command, str(tmp_path / "none.csv")], timeout_s=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 of 35 runs done, ")
    assert "24.84 ± 0.37" in done.stdout
    assert not (tmp_path / "none.csv").exists()
    few = run([*command, str(tmp_path / "none.csv"), "--seeds", "1"], timeout_s=60, cwd=ROOT)
    assert few.stdout.startswith("0 of 7 runs done, ")
    none = run([*command, str(tmp_path / "none.csv"), "--seeds", "0"], timeout_s=60, cwd=ROOT)
    assert none.returncode == 2
    assert none.stderr.endswith("minibatch_study.py: error: --seeds must be 1 or more\n")
