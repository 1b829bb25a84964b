"""Runs of the trainer behind `hvd-imagenet train`, several to a job, and what is read of them."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hvd_imagenet import checkpoint
from hvd_imagenet.communicator import Communicator
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import Session, prepare

# Small, and its loss falls at once.
RECIPE: dict[str, Any] = {
    "model": "resnet8",
    "epochs": 12,
    "reference_lr": 0.05,
    "reference_minibatch": 16,
    "warmup_epochs": 2,
    "schedule": "cosine",
    "weight_decay": 1e-3,
    "image_size_px": 16,
    "validation_resize_px": 16,
    "area_range": (0.6, 1.0),
    "horizontal_flip": False,
    "pixel_mean": (127.5,) * 3,
    "pixel_std": (63.75,) * 3,
    "seed": 7,
}
# Columns of metrics.csv that differ from run to run.
UNMEASURED = {"images_per_second": "", "data_wait_percent": ""}
Run = tuple[str, dict[str, Any], dict[str, Any]]


def train_all(data: str, out: str, runs: list[Run]) -> None:
    """What the ranks execute: each run has a name, which is its folder's, fields of Recipe and fields of RunConfig.

    An option "copy_of" begins with a copy of another run that lost all of its checkpoints but the third from the end.
    """
    import horovod.torch as hvd

    from hvd_imagenet.torch.communication import HorovodCommunicator
    from hvd_imagenet.torch.session import choose_device
    from hvd_imagenet.torch.trainer import Trainer

    device = choose_device(hvd.local_rank())
    train_each(data, out, runs, HorovodCommunicator(), lambda *run: Trainer(*run, device).run())


def train_each(
    data: str, out: str, runs: list[Run], communicator: Communicator, train: Callable[[Recipe, RunConfig, Session], Any]
) -> None:
    """Runs a trainer of either framework; see train_all."""
    for name, fields, options in runs:
        source = options.pop("copy_of", None)
        if source is not None and communicator.rank == 0:
            shutil.copytree(Path(out) / source, Path(out) / name)
            checkpoints = sorted((Path(out) / name / "checkpoints").glob("iteration-*"))
            del checkpoints[-3]
            for other in checkpoints:
                shutil.rmtree(other)
        communicator.sum(np.zeros(1))
        recipe, config = Recipe(**fields), RunConfig(**options, data=Path(data), out=Path(out) / name)
        train(recipe, config, prepare(recipe, config, communicator))


def evaluate_all(data: str, out: str, runs: list[str]) -> None:
    """What the ranks execute: what `evaluate --json` says of each run, as a JSON list."""
    import horovod.torch as hvd

    from hvd_imagenet.torch.communication import HorovodCommunicator
    from hvd_imagenet.torch.evaluate_checkpoint import _evaluate

    results = [_evaluate(Path(run), Path(data), None, HorovodCommunicator()) for run in runs]
    if hvd.rank() == 0:
        Path(out).write_text(json.dumps(results))


def tensors(run: Path, part: str = "model") -> dict[str, np.ndarray]:
    """Of the newest checkpoint."""
    path = checkpoint.latest(run)
    assert path is not None
    return checkpoint.load(path).tensors[part]


def rows(run: Path, file: str = "iterations.csv") -> list[dict[str, str]]:
    with (run / file).open(newline="") as table:
        return list(csv.DictReader(table))


def losses(run: Path) -> np.ndarray:
    return np.array([float(row["loss"]) for row in rows(run)])


def distance(these: dict[str, np.ndarray], those: dict[str, np.ndarray]) -> float:
    """‖Δw‖/‖w‖ over the whole vector."""
    assert sorted(these) == sorted(those)
    a, b = (np.concatenate([side[name].ravel().astype(np.float64) for name in sorted(side)]) for side in (these, those))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
