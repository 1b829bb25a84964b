"""The options of `train --framework keras`, its terminal, and a user's mistakes: one line and exit code 2."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from keras_ranks import run_keras_ranks
from keras_training import train_all
from mistakes import damage_an_image_of_rank_1, is_one_error
from ranks import program, run
from training import RECIPE, Run, losses, rows, tensors

from hvd_imagenet.core.minibatch import Minibatch

WITHIN_S = 120  # measured: 1 to 15 s on 2 quiet cores; what hangs fails by it
FOUR = {**RECIPE, "minibatch": 32, "per_worker": 8, "reference_lr": 0.03}
# Name → options, and how far its first losses may be from those of the plain run.
OPTIONS: dict[str, tuple[dict[str, Any], float]] = {
    "compression": ({"compression": "fp16"}, 1e-2),
    "bfloat16": ({"amp_dtype": "bfloat16"}, 2e-2),
}
MINIBATCH = Minibatch(size=64, per_worker=16)
WORDS = ["train", "--framework", "keras", "--recipe", "digits", "--image-size", "16", "--validation-resize", "16"]
WORDS += ["--minibatch", "64", "--per-worker", "16", "--reference-minibatch", "32", "--warmup-epochs", "0.5"]


@pytest.fixture(scope="module")
def runs(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("options")
    sequence: list[Run] = [("plain", FOUR, {"max_iterations": 15})]
    sequence += [(name, FOUR, {"max_iterations": 15, **options}) for name, (options, _) in OPTIONS.items()]
    run_keras_ranks(2, train_all, few_digits, out, sequence, timeout_s=240)
    return out


@pytest.mark.parametrize("name", list(OPTIONS))
def test_losses_beside_those_of_the_plain_run(runs: Path, name: str) -> None:
    found, plain, tolerance = losses(runs / name), losses(runs / "plain"), OPTIONS[name][1]
    assert len(found) == 15
    assert np.isfinite(found).all()
    assert found[-4:].mean() < 0.95 * found[:4].mean()
    np.testing.assert_allclose(found[:6], plain[:6], rtol=tolerance)
    assert (found != plain).any()
    assert tensors(runs / name)["fc.weight"].dtype == np.float32


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path: Path) -> Iterator[None]:
    yield
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.startswith(str(tmp_path)) for word in process.info["cmdline"] or [])
    ]
    assert psutil.wait_procs(left, timeout=20)[1] == []


def train(processes: int, *words: str, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `train`."""
    launch = ["launch", "-np", str(processes), "--"] if processes > 1 else []
    done = run(program(*launch, *words), timeout_s=WITHIN_S, **variables)
    return done.returncode, done.stdout, done.stderr


REFUSED: list[tuple[list[str], dict[str, str], list[str]]] = [
    (["--channels-last"], {}, ["channels_last must be left out with framework keras", "channels-last already"]),
    (["--torchcompile"], {}, ["torchcompile must be left out with framework keras", "compiled to a TensorFlow graph"]),
    (["--amp-dtype", "bfloat16", "--dtype", "float64"], {}, ["amp_dtype must be left out with dtype float64"]),
    (["--tf32", "--dtype", "float64"], {}, ["tf32 must be left out with dtype float64"]),
    ([], {"KERAS_BACKEND": "torch"}, ["KERAS_BACKEND=torch", "unset KERAS_BACKEND, or use --framework torch"]),
    ([], {"KERAS_BACKEND": "jax"}, ["Keras' backend is 'jax'", "KERAS_BACKEND=tensorflow"]),
]


@pytest.mark.parametrize(("words", "variables", "parts"), REFUSED)
def test_what_makes_no_sense_in_keras(
    few_digits: Path, tmp_path: Path, words: list[str], variables: dict[str, str], parts: list[str]
) -> None:
    out = tmp_path / "run"
    result = train(2, *WORDS, "--data", str(few_digits), "--out", str(out), *words, **variables)
    assert result[1] == ""
    is_one_error(result, *parts)
    assert not out.exists()


def test_an_undecodable_image_that_one_rank_meets_in_mid_run(digits: Path, tmp_path: Path) -> None:
    broken = damage_an_image_of_rank_1(digits, tmp_path / "data", MINIBATCH)
    result = train(2, *WORDS, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"))
    is_one_error(result, str(broken), "cannot be read as an image", "replace the file")


def test_a_checkpoint_that_cannot_be_written(few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "checkpoints").write_text("in the way")
    result = train(2, *WORDS, "--data", str(few_digits), "--out", str(out), "--max-iterations", "1")
    is_one_error(result, f"checkpoint of iteration 1 in {out}: cannot be written (", "make room or mend the folder")


@pytest.fixture(scope="module")
def a_run(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Three iterations on two processes, and what the terminal has shown."""
    out = tmp_path_factory.mktemp("run") / "run"
    words = [*WORDS, "--data", str(few_digits), "--out", str(out), "--max-iterations", "3"]
    # TensorFlow's own default: the tests of other files set it.
    code, output, errors = train(2, *words, TF_CPP_MIN_LOG_LEVEL="")
    assert code == 0, errors
    assert errors == ""
    return out, output


def test_the_terminal_shows_the_run_alone(a_run: tuple[Path, str], few_digits: Path) -> None:
    out, output = a_run
    lines = output.splitlines()
    assert lines[0] == (
        "resnet8: minibatch 64 = 4 workers of 16, on 2 processes (cpu); 92 training and 23 validation images; "
        "3 iterations"
    )
    assert lines[1] == f"run folder {out}"
    assert [line[:18] for line in lines[2:4]] == ["epoch  1/16  lr 0.", "epoch  2/16  lr 0."]
    assert all(len(line) <= 80 for line in lines[2:4])
    assert lines[4].startswith("validation error ")
    assert lines[5].startswith("next: ")
    assert lines[5].endswith(f"evaluate --checkpoint {out} --data {few_digits}")
    assert len(lines) == 6


def test_a_finished_run_is_no_mistake(a_run: tuple[Path, str], few_digits: Path) -> None:
    out = a_run[0]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    code, output, errors = train(
        2, *WORDS, "--data", str(few_digits), "--out", str(out), "--max-iterations", "3"
    )  # fmt: skip
    assert (code, errors) == (0, "")
    assert f"{out} is finished: 3 iterations are done, 3 are wanted" in output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("framework", [None, "torch"])
def test_its_config_repeats_the_run(a_run: tuple[Path, str], tmp_path: Path, framework: str | None) -> None:
    again = tmp_path / "again"
    words = ["train", "-c", str(a_run[0] / "config.yaml"), "--out", str(again)]
    code, _, errors = train(2 if framework is None else 1, *words, *(["--framework", framework] if framework else []))
    assert (code, errors) == (0, "")
    expected = yaml.safe_load((a_run[0] / "config.yaml").read_text())
    assert expected["framework"] == "keras"
    found = yaml.safe_load((again / "config.yaml").read_text())
    assert found == {**expected, "framework": framework or "keras"}
    summaries = [json.loads((path / "summary.json").read_text()) for path in (again, a_run[0])]
    assert summaries[0]["framework"] == (framework or "keras")
    assert summaries[0]["recipe_hash"] == summaries[1]["recipe_hash"]
    np.testing.assert_allclose(losses(again), losses(a_run[0]), rtol=0 if framework is None else 1e-3)
    assert [row["lr"] for row in rows(again)] == [row["lr"] for row in rows(a_run[0])]
