"""The options of `train` on two ranks, the files that a run leaves, and validation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ranks import run_ranks
from training import RECIPE, Run, distance, losses, rows, tensors, train_all

FOUR = {**RECIPE, "minibatch": 32, "per_worker": 8, "reference_lr": 0.03}
LENGTH = {"max_iterations": 15}
# Name → what differs from the plain run, and how far its first losses may be from it (None: the loss is another).
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any], float | None]] = {
    "channels-last": ({}, {"channels_last": True}, 1e-4),
    "compression": ({}, {"compression": "fp16"}, 1e-2),
    "bfloat16": ({}, {"amp_dtype": "bfloat16"}, 2e-2),
    "smoothing": ({"label_smoothing": 0.1}, {}, None),
    "clipped": ({"clip_grad": 0.5}, {}, None),
    "ema": ({"model_ema_decay": 0.9}, {}, 0.0),
}


@pytest.fixture(scope="module")
def runs(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("options")
    sequence: list[Run] = [("plain", FOUR, LENGTH)]
    sequence += [(name, {**FOUR, **recipe}, {**LENGTH, **options}) for name, (recipe, options, _) in OPTIONS.items()]
    run_ranks(2, train_all, few_digits, out, sequence, timeout_s=180)
    return out


@pytest.mark.parametrize("name", ["plain", *OPTIONS])
def test_losses_are_finite_and_fall(runs: Path, name: str) -> None:
    found = losses(runs / name)
    assert len(found) == 15
    assert np.isfinite(found).all()
    assert found[-4:].mean() < 0.95 * found[:4].mean()
    assert tensors(runs / name)["fc.weight"].dtype == np.float32


@pytest.mark.parametrize("name", OPTIONS)
def test_losses_beside_those_of_the_plain_run(runs: Path, name: str) -> None:
    found, plain, tolerance = losses(runs / name)[:6], losses(runs / "plain")[:6], OPTIONS[name][2]
    if tolerance is None:
        assert not np.allclose(found, plain, rtol=1e-6)
    else:
        np.testing.assert_allclose(found, plain, rtol=tolerance)
    if name in ("compression", "bfloat16"):
        assert (found != plain).any()


def test_the_average_of_the_weights_is_validated_and_kept(runs: Path) -> None:
    average, weights = tensors(runs / "ema", "model_ema"), tensors(runs / "ema")
    assert 1e-4 < distance(average, weights) < 0.5
    assert distance(weights, tensors(runs / "plain")) == 0.0
    validated = [[row["val_loss"] for row in rows(runs / name, "metrics.csv")] for name in ("ema", "plain")]
    assert validated[0] != validated[1]


def test_the_files_of_a_run(runs: Path, few_digits: Path) -> None:
    run = runs / "plain"
    assert (run / "iterations.csv").read_text().splitlines()[0] == "iteration,epoch,lr,loss"
    columns = (
        "epoch,iteration,lr,train_loss,train_error,val_loss,val_error,val_error_top5,"
        "images_per_second,data_wait_percent"
    )
    assert (run / "metrics.csv").read_text().splitlines()[0] == columns
    summary = json.loads((run / "summary.json").read_text())
    recipe_hash = summary.pop("recipe_hash")
    assert len(recipe_hash) == 12
    epochs = rows(run, "metrics.csv")
    errors = [float(row["val_error"]) for row in epochs]
    assert [(int(row["epoch"]), int(row["iteration"])) for row in epochs] == [
        (0, 2), (1, 5), (2, 8), (3, 11), (4, 14),
    ]  # fmt: skip
    assert summary == {
        "val_error_median_last5": pytest.approx(np.median(errors[-5:])),
        "val_error_final": errors[-1],
        "iterations": 15,
        "images": 92,
        "minibatch": 32,
        "per_worker": 8,
        "workers": 4,
        "processes": 2,
        "framework": "torch",
        "resumed_from_iteration": 0,
        "bad_images": 0,
        "nonfinite_skipped": 0,
    }
    # Top-1 errors are whole numbers of 23 images; of four classes, five are always right.
    np.testing.assert_allclose(np.array(errors) * 23 / 100 % 1 % 0.999, 0, atol=2e-3)
    assert {float(row["val_error_top5"]) for row in epochs} == {0.0}
    by_epoch = [losses(run)[:3].mean(), losses(run)[3:6].mean()]
    np.testing.assert_allclose([float(row["train_loss"]) for row in epochs[:2]], by_epoch, rtol=1e-5)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["minibatch"], config["data"], config["model"]) == (32, str(few_digits), "resnet8")
    assert list(run.glob("events.out.tfevents.*"))


def validation_on_ranks(data: str) -> None:
    """Every image once: the sums are those of a process that validates alone, to the last image."""
    import horovod.torch as hvd
    import torch

    from hvd_imagenet.communicator import SingleProcess, share
    from hvd_imagenet.data.listing import list_dataset
    from hvd_imagenet.data.reader import Reader
    from hvd_imagenet.recipes import Recipe
    from hvd_imagenet.run_config import RunConfig
    from hvd_imagenet.torch.communication import HorovodCommunicator
    from hvd_imagenet.torch.evaluation import evaluate
    from hvd_imagenet.torch.network import build_network

    recipe = Recipe(**FOUR)
    network = build_network(recipe, RunConfig(Path(data), dtype="float64"), 4, 1, torch.device("cpu"))
    torch.nn.init.normal_(network.model.fc.weight, generator=torch.Generator().manual_seed(1))
    listing = list_dataset(Path(data))[1]
    reader = Reader(listing, recipe.centre_crop, recipe.image_size_px)
    for images in (23, hvd.size() - 1, 1):
        shares = HorovodCommunicator().gather(share(images, HorovodCommunicator()).tolist())
        assert sorted(image for part in shares for image in part) == list(range(images))
        together, alone = (evaluate(network, reader, images, who) for who in (HorovodCommunicator(), SingleProcess()))
        assert (together.images, together.correct, together.correct_top5) == (
            images, alone.correct, alone.correct_top5,
        )  # fmt: skip
        assert abs(together.loss / alone.loss - 1) < 1e-12
    assert network.training


@pytest.mark.parametrize("processes", [2, 3])
def test_validation_counts_every_image_once(few_digits: Path, processes: int) -> None:
    run_ranks(processes, validation_on_ranks, few_digits)


def train_compiled(data: str, out: str, runs: list[Run]) -> None:
    train_all(data, out, runs)
    from torch._dynamo.utils import counters

    assert counters["stats"]["unique_graphs"] >= 1


def test_torchcompile(few_digits: Path, tmp_path: Path) -> None:
    sequence: list[Run] = [
        (name, FOUR, {"max_iterations": 4, "torchcompile": compiled, "workers_per_pass": 2})
        for name, compiled in (("compiled", True), ("plain", False))
    ]
    run_ranks(1, train_compiled, few_digits, tmp_path, sequence, timeout_s=400)
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "plain"), rtol=1e-3)
    assert sorted(tensors(tmp_path / "compiled")) == sorted(tensors(tmp_path / "plain"))
