"""Images that cannot be read, on several ranks and in both frameworks: all agree, count alike and stop together."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mistakes import is_one_error
from ranks import run_ranks
from test_train_bad_input import train_on_two
from training import RECIPE, Run, losses, train_all

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.listing import list_dataset

sys.path.insert(0, str(Path(__file__).with_name("keras")))
from keras_ranks import run_keras_ranks
from keras_training import train_all as train_all_in_keras

SIX = {**RECIPE, "minibatch": 24, "per_worker": 4}
EIGHT: dict[str, Any] = {"max_iterations": 8, "checkpoint_interval": 2, "dtype": "float64"}


def as_the_stream_meets_them(data: Path, until: int) -> list[tuple[str, str]]:
    """Iteration and path of the three, each where it is first met."""
    listing = list_dataset(data)[0]
    stream = Stream(len(listing), Minibatch(size=24, per_worker=4), seed=RECIPE["seed"])
    first: dict[int, int] = {}
    for t in range(until):
        for image in set(stream.iteration(t)[1].tolist()) & {5, 40, 77}:
            first.setdefault(image, t)
    return [(str(t), path) for t, path in sorted((t, listing.name(image)) for image, t in first.items())]


def table(run: Path) -> list[tuple[str, str]]:
    with (run / "bad_images.csv").open(newline="") as file:
        return [(row["iteration"], row["path"]) for row in csv.DictReader(file)]


def agreed_error_of_each_rank(train: Any, data: str, out: str, runs: list[Run], communicator: Any) -> None:
    """One run too many images of which are bad: every rank raises the same, and none is left in a collective."""
    from hvd_imagenet.errors import AgreedError

    with pytest.raises(AgreedError) as caught:
        train(data, out, runs)
    messages = communicator.gather(str(caught.value))
    assert len(set(messages)) == 1, messages
    assert messages[0].startswith("--bad-images skip=2: 3 images cannot be read, ")
    assert f"mend or remove those in {out}/too-many/bad_images.csv, or allow more" in messages[0]
    assert communicator.sum(np.ones(1)).tolist() == [communicator.size]


def train_in_torch(data: str, out: str, runs: list[Run]) -> None:
    from hvd_imagenet.torch.communication import HorovodCommunicator

    train_all(data, out, runs[:-1])
    agreed_error_of_each_rank(train_all, data, out, runs[-1:], HorovodCommunicator())


def train_in_keras(data: str, out: str, runs: list[Run]) -> None:
    import hvd_imagenet.keras as hvd

    train_all_in_keras(data, out, runs[:-1])
    agreed_error_of_each_rank(train_all_in_keras, data, out, runs[-1:], hvd.HorovodCommunicator())


@pytest.fixture(scope="module")
def runs(damaged_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("bad-images")
    sequence: list[Run] = [
        ("skipped", SIX, {**EIGHT, "bad_images": "skip=3"}),
        ("passes", SIX, {**EIGHT, "bad_images": "skip=3", "workers_per_pass": 2, "threads": 3}),
        ("resumed", SIX, {**EIGHT, "bad_images": "skip=3", "copy_of": "skipped"}),
        ("too-many", SIX, {**EIGHT, "bad_images": "skip=2"}),
    ]
    folders = {"torch-1": out / "torch-1", "torch-2": out / "torch-2", "keras-2": out / "keras-2"}
    run_ranks(1, train_in_torch, damaged_digits, folders["torch-1"], sequence)
    run_ranks(2, train_in_torch, damaged_digits, folders["torch-2"], sequence)
    run_keras_ranks(2, train_in_keras, damaged_digits, folders["keras-2"], sequence, timeout_s=300)
    return folders


PLACES = ["torch-1", "torch-2", "keras-2"]


@pytest.mark.parametrize("name", ["skipped", "passes", "resumed", "too-many"])
@pytest.mark.parametrize("place", PLACES)
def test_each_file_is_listed_where_the_stream_first_meets_it(
    runs: dict[str, Path], damaged_digits: Path, place: str, name: str
) -> None:
    expected = as_the_stream_meets_them(damaged_digits, until=8)
    assert len(expected) == 3
    assert table(runs[place] / name) == expected


@pytest.mark.parametrize("name", ["skipped", "passes", "resumed"])
@pytest.mark.parametrize("place", PLACES)
def test_the_run_is_the_same_on_any_number_of_ranks_and_in_passes(runs: dict[str, Path], place: str, name: str) -> None:
    reference = losses(runs["torch-1"] / "skipped")
    assert len(reference) == 8
    np.testing.assert_allclose(losses(runs[place] / name), reference, rtol=1e-9)
    assert json.loads((runs[place] / name / "summary.json").read_text())["bad_images"] == 3


@pytest.mark.parametrize("place", PLACES)
def test_the_third_of_two_ends_the_run(runs: dict[str, Path], damaged_digits: Path, place: str) -> None:
    run = runs[place] / "too-many"
    assert not (run / "summary.json").exists()
    iteration = int(as_the_stream_meets_them(damaged_digits, until=8)[-1][0])
    assert iteration >= 1
    np.testing.assert_allclose(losses(run), losses(runs["torch-1"] / "skipped")[:iteration], rtol=1e-9)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("words", [[], ["--bad-images", "skip=1"]])
def test_the_command_ends_with_one_line(damaged_digits: Path, tmp_path: Path, framework: str, words: list[str]) -> None:
    out = tmp_path / "run"
    result = train_on_two(damaged_digits, "--framework", framework, "--out", str(out), *words)
    if words:
        is_one_error(result, "--bad-images skip=1: ", f"mend or remove those in {out}/bad_images.csv, or allow more")
    else:
        is_one_error(result, "cannot be read as an image", "; replace the file or remove it")
        assert not (out / "bad_images.csv").exists()
    assert not (out / "summary.json").exists()


def test_the_command_goes_on_with_few(damaged_digits: Path, tmp_path: Path) -> None:
    code, _, errors = train_on_two(damaged_digits, "--out", str(tmp_path / "run"), "--bad-images", "skip=20")
    assert (code, errors) == (0, "")
    assert len(table(tmp_path / "run")) == 3
    assert "bad_images: skip=20" in (tmp_path / "run" / "config.yaml").read_text()


def test_another_word_for_the_option(damaged_digits: Path) -> None:
    is_one_error(
        train_on_two(damaged_digits, "--bad-images", "some"), "bad_images must be stop or skip=N", "not 'some'"
    )
