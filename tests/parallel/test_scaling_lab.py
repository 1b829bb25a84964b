"""The scaling lab and what the planner is compared by, in their short forms."""

import json
import sys
from pathlib import Path

from ranks import run


def benchmark(name: str, *words: str) -> None:
    done = run([sys.executable, f"benchmarks/{name}.py", *words], timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lab_measures_what_the_planner_predicts_and_goes_on_where_it_stood(tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    benchmark("scaling_lab", "--quick", "--json", str(path))
    found = json.loads(path.read_text())
    assert {"command", "machine", "date", "commit", "calibration", "ratios", "over_half_load"} <= set(found)
    [point] = found["points"]
    assert (point["ranks"], point["hosts"], point["factor"]) == (2, 1, 8)
    # A P100's own 0.2078 s, which the ranks wait for; a machine with other work to do may be late, but never early.
    assert 0.2077 < point["fastest_s"] <= point["measured_s"] <= point["slowest_s"]
    assert point["predicted_s"] > 0.2077
    assert abs(point["deviation"]) < 0.4, point
    assert 0 < point["cores_busy_with_ranks"] < 1
    assert found["worst"] == {"setting": point["setting"], "deviation": point["deviation"]}
    assert found["median_deviation"] == abs(point["deviation"])
    # Horovod's own timeline: fused, and most of it while backward runs.
    shares = found["timeline"]["measured"]
    assert 1 <= shares["looks"] <= shares["allreduces"] < 161
    assert 0 < shares["negotiation"] < shares["communication"] < 1
    assert shares["overlapped"] > 0.5
    before = path.read_bytes()
    benchmark("scaling_lab", "--quick", "--json", str(path))
    assert path.read_bytes() == before


def test_a_profile_is_recorded_and_planned_with(tmp_path: Path) -> None:
    profile, plan = tmp_path / "here.json", tmp_path / "plan.json"
    benchmark("record_profile", "--model", "resnet8", "--per-worker", "8", "--steps", "3", "--json", str(profile))
    recorded = json.loads(profile.read_text())
    assert {"command", "machine", "date", "commit"} <= set(recorded)
    layers = recorded["layers"]["resnet8"]
    assert sum(sum(tensors) for _, tensors, _, _ in layers) == 78_042
    assert [name for name, *_ in layers][:2] == ["conv1", "bn1"]
    assert layers[-1][0] == "fc"
    assert all(forward_s > 0 and backward_s > 0 for _, _, forward_s, backward_s in layers)
    words = ["--model", "resnet8", "--per-worker", "8", "--servers-of", "1", "--workers", "1,16", "--network", "10mbit"]
    command = [sys.executable, "-m", "hvd_imagenet", "plan", "--device", str(profile), *words, "--json", str(plan)]
    done = run(command, timeout_s=60)
    assert done.returncode == 0, done.stderr
    alone, sixteen = json.loads(plan.read_text())["points"]
    assert alone["limited_by"] == "compute"
    assert sixteen["limited_by"] == "link"  # 312 kB at 10 Mbit/s
    assert sixteen["step_seconds"] > 0.25


def test_the_comparison_with_the_paper(tmp_path: Path) -> None:
    benchmark("plan_against_paper", "--quick", "--json", str(tmp_path / "paper.json"))
    found = json.loads((tmp_path / "paper.json").read_text())
    assert [abs(point["deviation"]) < 0.02 for point in found["fitted"]["points"].values()] == [True] * 3
    assert -0.1 < found["baseline_fitted"]["points"]["352"]["deviation"] < -0.05
    assert found["cited_alone"]["other_s"] == 0
    assert found["cited_alone"]["points"]["8"]["deviation"] < -0.1
    assert found["fitted"]["points"]["352"]["measured_growth"] == 0.12
    speeds = [each["vs_50gbit"] for each in found["256_workers_by_network"].values()]
    assert speeds[0] < 0.2 < speeds[1] < speeds[2] <= speeds[3] == 1
    assert found["256_workers_by_network"]["1gbit"]["limited_by"] == "link"
    halves = {name: each["half_is_lost_from"] for name, each in found["beyond_the_paper"].items()}
    assert halves["halving-doubling"] is None
    assert halves["flat-ring"]["lost_to"] == "latency"
    assert len(found["parameters"]) == 10
