"""Every way to start `train` gives the same run."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ranks import program, run
from training import losses

BIN = Path(sys.executable).parent
RANKS = ["-np", "2"]
STARTS = {
    "plain": [str(BIN / "hvd-imagenet")],
    "launch": [*program("launch"), *RANKS, "--"],
    "mpirun": [str(BIN / "mpirun"), *RANKS, "--map-by", ":OVERSUBSCRIBE", str(BIN / "hvd-imagenet")],
    "horovodrun-mpi": [str(BIN / "horovodrun"), *RANKS, "--mpi", str(BIN / "hvd-imagenet")],
    "horovodrun-gloo": [str(BIN / "horovodrun"), *RANKS, "--gloo", str(BIN / "hvd-imagenet")],
}
ROOT_MAY_RUN = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
RECIPE = ["--recipe", "digits", "--image-size", "16", "--validation-resize", "16", "--minibatch", "64"]
RECIPE += ["--per-worker", "16", "--warmup", "none", "--reference-lr", "0.01", "--max-iterations", "8"]


@pytest.fixture(scope="module")
def run_of_launch(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start("launch", few_digits, tmp_path_factory.mktemp("launch") / "run")


def start(name: str, data: Path, out: Path) -> Path:
    words = ["train", *RECIPE, "--data", str(data), "--out", str(out)]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = run([*STARTS[name], *words], timeout_s=120, PATH=path, **ROOT_MAY_RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    processes = 1 if name == "plain" else 2
    assert done.stdout.count(f"minibatch 64 = 4 workers of 16, on {processes} processes (cpu)") == 1, done.stdout
    assert done.stdout.count("validation error ") == 1
    assert f"evaluate --checkpoint {out} --data {data}" in done.stdout
    return out


@pytest.mark.parametrize("name", [name for name in STARTS if name != "launch"])
def test_the_run_is_the_same(run_of_launch: Path, few_digits: Path, tmp_path: Path, name: str) -> None:
    found, expected = losses(start(name, few_digits, tmp_path / "run")), losses(run_of_launch)
    assert len(found) == 8
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)


def test_without_out_every_run_gets_a_new_folder(few_digits: Path, tmp_path: Path) -> None:
    words = ["train", *RECIPE, "--max-iterations", "1", "--data", str(few_digits)]
    done = run([*STARTS["launch"], *words], timeout_s=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits-")
    assert len(losses(folder)) == 1
    assert f"run folder runs/{folder.name}" in done.stdout
