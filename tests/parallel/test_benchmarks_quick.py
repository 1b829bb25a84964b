"""The short forms of the benchmarks: they measure, and write what they promise."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ranks import ROOT, run

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


def test_allreduce(tmp_path: Path) -> None:
    benchmark("allreduce", "--json", str(tmp_path / "a.json"))
    result = found(tmp_path / "a.json")
    assert set(result["ratios"]) == {"resnet50_vs_mpi4py_2_ranks", "resnet50_vs_torch_gloo_2_ranks"}
    assert all(ratio > 0 for ratio in result["ratios"].values())
    seconds = result["seconds"]["2"]
    assert set(seconds) == {"horovod_mpi_cycle_1ms", "mpi4py", "torch_gloo"}
    for name, times in seconds.items():
        assert set(times) == {"4", "1048576", "set", "set_in_one_buffer"}
        # p = 2: 2(p − 1)/p is 1.
        bandwidth = result["bus_bandwidth_gb_s"]["2"][name]["1048576"]
        assert abs(bandwidth - 1048576e-9 / times["1048576"]) <= 0.02 * bandwidth + 0.002
    [(cycle_ms, idle)] = result["cycle_time_ms"].items()
    assert cycle_ms == "1"
    assert 0 < idle["idle_cores"] < 2
    assert idle["products_per_second"] > 0


def test_startup(tmp_path: Path) -> None:
    benchmark("startup", "--json", str(tmp_path / "s.json"))
    result = found(tmp_path / "s.json")
    assert set(result["seconds"]) == {"launch", "torchrun"}
    assert all(0.1 < seconds < 60 for seconds in result["seconds"].values())
    assert set(result["ratios"]) == {"vs_torchrun"}


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
