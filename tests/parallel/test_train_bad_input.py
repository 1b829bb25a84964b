"""A user's mistake on two ranks: one line on standard error, exit code 2, soon, and nothing left behind."""

import json
import shutil
from pathlib import Path

import psutil
import pytest
from mistakes import damage_an_image_of_rank_1, is_one_error
from ranks import program, run

from hvd_imagenet.core.minibatch import Minibatch

WITHIN_S = 60  # measured: 2 to 8 s on 2 quiet cores; what hangs fails by it
MINIBATCH = Minibatch(size=64, per_worker=16)
OPTIONS = ["--recipe", "digits", "--image-size", "16", "--validation-resize", "16", "--max-iterations", "3"]
OPTIONS += ["--minibatch", "64", "--per-worker", "16", "--reference-minibatch", "32", "--warmup-epochs", "0.5"]
OPTIONS += ["--seed", "0"]


def train_on_two(data: Path, *words: str, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `launch -np 2 -- train`."""
    command = program("launch", "-np", "2", "--", "train", *OPTIONS, "--data", str(data), *words)
    done = run(command, timeout_s=WITHIN_S, **variables)
    left = [process for process in psutil.process_iter(["cmdline"]) if str(data) in (process.info["cmdline"] or [])]
    _, alive = psutil.wait_procs(left, timeout=20)
    assert alive == []
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def bad_data(few_digits: Path, tmp_path: Path) -> Path:
    """A copy of the data, to be damaged."""
    return Path(shutil.copytree(few_digits, tmp_path / "data"))


@pytest.fixture(scope="module")
def a_run(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three iterations."""
    out = tmp_path_factory.mktemp("a-run") / "run"
    code, _, errors = train_on_two(few_digits, "--out", str(out))
    assert (code, errors) == (0, "")
    return out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--recipe", "digit"], ["not 'digit'", "nearest: digits"]),
        (["--minibatch", "100"], ["100 is not a multiple of 16", "nearest: 96 or 112"]),
        (["--model", "resnet9"], ["--model", "resnet9", "resnet8"]),
        (["--resume", "/nowhere/run"], ["checkpoint /nowhere/run: no such folder"]),
        (["--minibatch", "16"], ["2 processes would share 1 workers", "use 1 processes at most"]),
    ],
)
def test_options(few_digits: Path, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    is_one_error(train_on_two(few_digits, "--out", str(tmp_path / "run"), *words), *parts)
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_no_data_folder(tmp_path: Path) -> None:
    is_one_error(train_on_two(tmp_path / "none"), f"{tmp_path}/none: no such folder", "hvd-imagenet make-dataset")


def test_an_empty_data_folder(tmp_path: Path) -> None:
    is_one_error(train_on_two(tmp_path), f"{tmp_path}: is empty", "hvd-imagenet make-dataset")


def test_a_validation_class_without_training_images(bad_data: Path) -> None:
    (bad_data / "val" / "digit3").rename(bad_data / "val" / "zebra")
    is_one_error(train_on_two(bad_data), "class 'zebra'", "4 training classes", str(bad_data / "val"), "remove it")


def test_an_undecodable_image_that_one_rank_meets_in_mid_run(digits: Path, tmp_path: Path) -> None:
    broken = damage_an_image_of_rank_1(digits, tmp_path / "data", MINIBATCH)
    result = train_on_two(tmp_path / "data", "--out", str(tmp_path / "run"))
    is_one_error(result, str(broken), "cannot be read as an image", "replace the file")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--seed", "5"], ["another recipe", "seed 0 there, 5 here", "--out"]),
        (["--model", "resnet20"], ["another model", "resnet8 there, resnet20 here", "--out"]),
        (["--resume", "never"], ["holds a run already", "--resume auto"]),
    ],
)
def test_a_run_that_is_another(few_digits: Path, a_run: Path, words: list[str], parts: list[str]) -> None:
    is_one_error(train_on_two(few_digits, "--out", str(a_run), *words), str(a_run), *parts)


def test_a_checkpoint_of_other_data(bad_data: Path, a_run: Path) -> None:
    next((bad_data / "train" / "digit2").iterdir()).unlink()
    is_one_error(train_on_two(bad_data, "--out", str(a_run)), str(a_run), "other data", "--data")


def test_a_damaged_checkpoint(few_digits: Path, a_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(a_run, tmp_path / "run"))
    file = next(copy.glob("checkpoints/*/momentum.safetensors"))
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    words = ["--resume", str(file.parent), "--out", str(tmp_path / "new")]
    is_one_error(train_on_two(few_digits, *words), str(file.parent), file.name, "is damaged", "SHA-256")


def test_a_horovod_built_for_another_torch(few_digits: Path, tmp_path: Path) -> None:
    # Another torch, as pip describes it, in front of the one that is installed.
    described = tmp_path / "torch-1.0.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0.0\n")
    result = train_on_two(few_digits, PYTHONPATH=str(tmp_path))
    is_one_error(result, "Horovod was built for torch", "torch 1.0.0 is installed", "hvd-imagenet install-horovod")


def test_a_finished_run_is_no_mistake(few_digits: Path, a_run: Path) -> None:
    before = {path: path.read_bytes() for path in a_run.rglob("*") if path.is_file()}
    code, output, errors = train_on_two(few_digits, "--out", str(a_run))
    assert (code, errors) == (0, "")
    assert f"{a_run} is finished: " in output
    assert {path: path.read_bytes() for path in a_run.rglob("*") if path.is_file()} == before
    assert json.loads((a_run / "summary.json").read_text())["iterations"] == 3
