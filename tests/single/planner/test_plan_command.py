"""`hvd-imagenet plan`: the table, the JSON object, and what it says of mistakes."""

import json
import subprocess
import sys

import pytest

from hvd_imagenet.cli import main
from hvd_imagenet.planner.asked import numbers_of_workers

ASKED = ["plan", "--device", "p100", "--model", "resnet50", "--per-worker", "32"]
ASKED += ["--network", "50gbit", "--servers-of", "8"]


def plan(tmp_path, *words):
    path = tmp_path / "plan.json"
    assert main([*ASKED, *words, "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_the_papers_cluster(tmp_path, capsys):
    found = plan(tmp_path, "--workers", "8,…,256,352")
    points = {point["workers"]: point for point in found["points"]}
    assert points[8]["step_seconds"] == pytest.approx(0.232, rel=0.01)
    assert points[256]["step_seconds"] == pytest.approx(0.256, rel=0.02)
    assert points[352]["step_seconds"] / points[8]["step_seconds"] == pytest.approx(1.12, abs=0.02)
    assert points[256]["efficiency"] == pytest.approx(0.9, abs=0.02)
    assert points[256]["images_per_second"] == pytest.approx(8192 / points[256]["step_seconds"])
    assert points[256]["run_seconds"] == pytest.approx(14_076 * points[256]["step_seconds"])
    assert {point["limited_by"] for point in found["points"]} == {"compute"}
    assert {"value", "kind", "source"} <= set(found["parameters"][0])
    out = capsys.readouterr().out
    assert "29:0" in out  # hours with 8
    assert "fitted: other_s, stragglers" in out
    assert list(points) == [8, 16, 32, 64, 128, 256, 352]


def test_json_has_what_is_printed(tmp_path, capsys):
    found = plan(tmp_path, "--network", "1gbit", "--algorithm", "ring", "--workers", "1024,…")
    out = capsys.readouterr().out
    assert [point["workers"] for point in found["points"]] == [1024, 2048, 4096, 8192, 16_384]
    whats = ["a link twice as fast", "a link ten times as fast", "half the latency", "64 images a worker"]
    assert [other["what"] for other in found["alternatives"]] == whats
    for other in found["alternatives"]:
        assert other["workers"] == 16_384
        assert f"{other['what'] + ':':<26} {other['step_seconds']:.4f} s" in out
        assert f"{100 * (other['faster'] - 1):+.1f} % images/s" in out
    assert [stop["efficiency_below"] for stop in found["stops_scaling"]] == [0.9, 0.5]
    for stop in found["stops_scaling"]:
        line = f"below {100 * stop['efficiency_below']:g} % efficiency from {stop['workers']:,} workers on: link"
        assert stop["lost_to"] == "link"
        assert line in out
    assert (found["network"], found["epochs"], found["images"]) == ("1gbit", 90, 1_281_167)
    assert "costs accuracy" in found["notes"][0]


def test_json_says_where_it_does_not_stop(tmp_path, capsys):
    found = plan(tmp_path, "--minibatch", "8192", "--workers", "256")
    [tenth, half] = found["stops_scaling"]
    assert (tenth["workers"], tenth["lost_to"]) == (128, "stragglers")
    assert half == {"efficiency_below": 0.5, "workers": None, "lost_to": None, "looked_up_to": 256}
    assert "above 50 % efficiency up to 256 workers, all of the minibatch's\n" in capsys.readouterr().out
    assert found["notes"] == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("8,…,256,…", [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384]),
        ("8, ... ,64, 352", [8, 16, 32, 64, 352]),
        ("8...32", [8, 16, 32]),
        ("3,…,24", [3, 6, 12, 24]),
        ("8,16,8,", [8, 16]),
    ],
)
def test_numbers_of_workers(text, numbers):
    assert numbers_of_workers(text) == numbers


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--network", "1gbit", "--workers", "1,8,10000000"],
        ["--minibatch", "8192", "--workers", "8,256", "--epochs", "900"],
        ["--algorithm", "flat-ring", "--cores", "1", "--storage-mb", "100", "--stragglers", "exponential:0.5"],
        ["--servers-of", "1", "--workers", "1", "--fusion-threshold-mb", "0", "--cycle-time-ms", "0"],
    ],
)
def test_it_fits_into_80_columns(tmp_path, capsys, words):
    plan(tmp_path, *words)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    assert not any(line.endswith(" ") for line in lines)


def test_slow_links_slow_storage_and_few_cores_are_named(tmp_path):
    cases = {
        "link": ["--network", "1gbit"],
        "input": ["--cores", "1", "--images-per-core", "400"],
        "storage": ["--storage-mb", "50"],
        "latency": ["--algorithm", "flat-ring", "--latency-us", "1000"],
        "stragglers": ["--stragglers", "exponential:0.9"],
    }
    for limit, words in cases.items():
        point = plan(tmp_path, *words, "--workers", "256")["points"][0]
        assert (point["limited_by"], point["lost_to"]) == (limit, limit)


def test_a_fixed_minibatch_runs_on_no_more_processes_than_it_has_workers(tmp_path, capsys):
    found = plan(tmp_path, "--minibatch", "8192", "--workers", "8,256")
    assert [point["minibatch"] for point in found["points"]] == [8192, 8192]
    capsys.readouterr()
    assert main([*ASKED, "--minibatch", "8192", "--workers", "512"]) == 2
    assert "512 processes would share 256 workers" in capsys.readouterr().err


def test_larger_minibatches_are_told_their_accuracy(tmp_path, capsys):
    plan(tmp_path, "--workers", "256")
    assert "costs accuracy" not in capsys.readouterr().out
    plan(tmp_path, "--workers", "1024")
    assert "a minibatch of 32,768 costs accuracy" in capsys.readouterr().out


def recorded(**changes):
    names = ["other_s", "inside_bytes_per_s", "inside_latency_s", "reduce_bytes_per_s", "latency_s", "payload_share"]
    parameters = {name: {"value": 1.0, "kind": "measured", "source": "here"} for name in names}
    parameters["stragglers"] = {"value": "none", "kind": "measured", "source": "here"}
    layers = {"resnet8": [["conv1", [432], 1.0, 2.0], ["fc", [640, 10], 0.5, 0.5]]}
    return {"device": "mine", "per_worker": 16, "parameters": parameters, "layers": layers, **changes}


def test_a_recorded_profile(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(recorded()))
    found = plan(tmp_path, "--device", str(path), "--model", "resnet8", "--per-worker", "32", "--workers", "1")
    assert found["points"][0]["step_seconds"] == pytest.approx(1 + 2 * 4)


@pytest.mark.parametrize(
    ("content", "model", "message"),
    [
        (recorded(), "resnet50", "the profile does not have --model resnet50; it has resnet8"),
        (
            recorded(layers={"resnet8": [["conv1", [432], 1.0]]}),
            "resnet8",
            "not enough values to unpack (expected 4, got 3)",
        ),
        (recorded(per_worker="many"), "resnet8", "invalid literal for int() with base 10: 'many'"),
        ({"device": "mine"}, "resnet8", "not a profile: KeyError at 'parameters'; see p100's"),
        ([], "resnet8", "not a profile: TypeError at list indices must be integers or slices, not str; see p100's"),
        (recorded(parameters={"other_s": {"value": 1, "kind": "guessed", "source": "x"}}), "resnet8", "not guessed"),
    ],
)
def test_files_that_are_no_profile(tmp_path, capsys, content, model, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    assert main(["plan", "--device", str(path), "--model", model]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --device {path}: ")
    assert error.endswith(f"{message}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--device k80", "--device k80: no such profile; there are p100, or name a JSON file of one"),
        ("--device README.md", "--device README.md: not a JSON file"),
        ("--model resnet20", "--device p100: the profile does not have --model resnet20; it has resnet50, resnet101"),
        ("--network fast", "--network fast: must be a rate above 0, such as 50gbit or 200mbit"),
        ("--network 0gbit", "--network 0gbit: must be a rate above 0"),
        ("--workers many", "--workers many: must be numbers from 1 to 10000000, with commas between: 8,64,256"),
        ("--workers 0", "--workers 0: must be numbers from 1"),
        ("--workers 100000000", "--workers 100000000: must be numbers from 1"),
        ("--workers ,", "--workers ,: must be numbers from 1"),
        ("--workers 8..64", "--workers 8..64: must be numbers from 1"),
        ("--workers …,8", "--workers …,8: an ellipsis must follow a number, as in 8,…,256"),
        ("--workers 8,…,…,64", "--workers 8,…,…,64: an ellipsis must follow a number, as in 8,…,256"),
        (
            "--workers 8,…,352",
            "--workers 8,…,352: an ellipsis stands for doubling, which does not lead from 8 to 352",
        ),
        (
            "--workers 16384,…",
            "--workers 16384,…: an ellipsis stands for doubling, which does not lead from 16384 to 16384",
        ),
        ("--workers 12", "workers must fill servers of 8, but 12 do not; nearest: 8 or 16"),
        ("--servers-of 0", "servers_of must be an integer of 1 or more, not 0"),
        ("--per-worker 0", "per_worker must be an integer of 1 or more, not 0"),
        ("--minibatch 100", "minibatch must be a multiple of per_worker, but 100 is not a multiple of 32"),
        ("--stragglers some", "stragglers must be none, or one of normal, lognormal, exponential"),
        ("--latency-us -1", "--latency-us -1: must be a number, 0 or more"),
        ("--fusion-threshold-mb nan", "--fusion-threshold-mb nan: must be a number, 0 or more"),
        ("--cycle-time-ms inf", "--cycle-time-ms inf: must be a number, 0 or more"),
        ("--cores 0", "--cores must be an integer of 1 or more, not 0"),
        ("--images-per-core 0", "--images-per-core 0: must be a number above 0"),
        ("--storage-mb nan", "--storage-mb nan: must be a number above 0"),
        ("--image-kb -3", "--image-kb -3: must be a number above 0"),
        ("--epochs 0", "epochs must be a finite number above 0, not 0.0"),
        ("--images 0", "images must be an integer of 1 or more, not 0"),
        ("--json /nowhere/plan.json", "--json /nowhere/plan.json: cannot be written (No such file or directory)"),
        ("--figure plan.gif", "--figure plan.gif: the name must end in one of .png, .svg, .pdf"),
        ("--algorithm star", "argument --algorithm: invalid choice: 'star'"),
    ],
)
def test_mistakes(capsys, words, message):
    given = ["--workers", "8"] if "--workers" not in words else []
    assert main(["plan", *given, *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}"), error
    assert error.count("\n") == 1


def test_a_figure_without_matplotlib(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\nfrom hvd_imagenet.cli import main\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["plan", "--workers", "8", "--figure", str(tmp_path / "plan.png")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs matplotlib; install it with: pip install 'hvd_imagenet[report]'" in done.stderr
