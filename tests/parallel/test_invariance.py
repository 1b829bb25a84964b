"""A recipe gives the same run on any number of processes, and however a process computes its workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import run_ranks
from training import RECIPE, distance, losses, rows, tensors, train_all

from hvd_imagenet.torch import models
from hvd_imagenet.torch.state import copy_into, model_tensors

ITERATIONS = 20
# Warmup for 2 epochs (4 and 6 iterations), then a cosine: η is another one at each step.
TWELVE = {**RECIPE, "minibatch": 48, "per_worker": 4}
SEVEN = {**RECIPE, "minibatch": 35, "per_worker": 5}
# In float32 rounding grows from iteration to iteration, with the learning rate.
SMALL_STEPS = {**TWELVE, "reference_lr": 0.02}
# Far steps for the few weight tensors; the trust ratio is of the whole minibatch's gradient.
LARS = {**TWELVE, "opt": "lars", "trust_coefficient": 0.02}
DOUBLE, SINGLE = {"dtype": "float64"}, {"dtype": "float32"}
# On how many processes, and in which ways: name → (recipe, options).
ONE_STEP = ({**TWELVE, "weight_decay": 0.0}, {**SINGLE, "max_iterations": 1})
RUNS: dict[int, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    1: {
        "double": (TWELVE, DOUBLE),
        "single": (SMALL_STEPS, SINGLE),
        "one-step": ONE_STEP,
        "seven": (SEVEN, DOUBLE),
        "lars": (LARS, DOUBLE),
        "fused-3": (TWELVE, {**DOUBLE, "workers_per_pass": 3}),
        "fused-5": (TWELVE, {**DOUBLE, "workers_per_pass": 5}),
        "channels-last": (TWELVE, {**DOUBLE, "channels_last": True}),
    },
    2: {
        "double": (TWELVE, DOUBLE),
        "single": (SMALL_STEPS, SINGLE),
        "one-step": ONE_STEP,
        "lars": (LARS, {**DOUBLE, "workers_per_pass": 2}),
        "fused-2": (TWELVE, {**DOUBLE, "workers_per_pass": 2}),
        "channels-last-fused-3": (TWELVE, {**DOUBLE, "workers_per_pass": 3, "channels_last": True}),
    },
    3: {
        "double": (TWELVE, DOUBLE),
        "one-step": ONE_STEP,
        "seven": (SEVEN, DOUBLE),
        "seven-fused-2": (SEVEN, {**DOUBLE, "workers_per_pass": 2}),
    },
    4: {"double": (TWELVE, DOUBLE), "single": (SMALL_STEPS, SINGLE), "one-step": ONE_STEP},
    5: {"double": (TWELVE, DOUBLE), "lars": (LARS, DOUBLE), "one-step": ONE_STEP},
}


class Runs:
    """The runs on a number of processes, started when they are first asked for."""

    def __init__(self, data: Path, parent: Path) -> None:
        self._data, self._parent = data, parent
        self._failures: dict[int, str | None] = {}

    def folder(self, processes: int) -> Path:
        out = self._parent / f"{processes}-processes"
        if processes not in self._failures:
            self._failures[processes] = "failed in an earlier test"
            of_all = {"max_iterations": ITERATIONS}
            runs = [(name, recipe, {**of_all, **options}) for name, (recipe, options) in RUNS[processes].items()]
            run_ranks(processes, train_all, self._data, out, runs, timeout_s=300)
            self._failures[processes] = None
        assert self._failures[processes] is None
        return out

    def tensors(self, processes: int, name: str, part: str = "model") -> dict[str, np.ndarray]:
        return tensors(self.folder(processes) / name, part)

    def rows(self, processes: int, name: str) -> list[dict[str, str]]:
        return rows(self.folder(processes) / name)

    def losses(self, processes: int, name: str) -> np.ndarray:
        return losses(self.folder(processes) / name)


@pytest.fixture(scope="module")
def runs(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(few_digits, tmp_path_factory.mktemp("invariance"))


def split(tensors: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights, and the running averages of batch normalisation."""
    averages = {name: value for name, value in tensors.items() if ".running_" in name or name.startswith("bn1.running")}
    return {name: value for name, value in tensors.items() if name not in averages}, averages


DOUBLE_RUNS = [
    *[(processes, "double", "double") for processes in (2, 3, 4, 5)],
    *[(1, name, "double") for name in ("fused-3", "fused-5", "channels-last")],
    *[(2, name, "double") for name in ("fused-2", "channels-last-fused-3")],
    *[(processes, "lars", "lars") for processes in (2, 5)],
    (3, "seven", "seven"),
    (3, "seven-fused-2", "seven"),
]


@pytest.mark.parametrize(("processes", "name", "reference"), DOUBLE_RUNS)
def test_float64_weights_momentum_and_averages_after_20_iterations(
    runs: Runs, processes: int, name: str, reference: str
) -> None:
    weights, averages = split(runs.tensors(processes, name))
    weights_on_one, averages_on_one = split(runs.tensors(1, reference))
    assert len(averages) == 2 * 9
    assert weights["fc.weight"].dtype == np.float64
    assert distance(weights, weights_on_one) <= 1e-9
    assert distance(averages, averages_on_one) <= 1e-9
    momentum, momentum_on_one = (runs.tensors(*run, "momentum") for run in ((processes, name), (1, reference)))
    assert distance(momentum, momentum_on_one) <= 1e-8
    np.testing.assert_allclose(runs.losses(processes, name), runs.losses(1, reference), rtol=1e-9)


def logits(tensors: dict[str, np.ndarray]) -> np.ndarray:
    model = models.resnet8(num_classes=4).double().eval()
    copy_into(model_tensors(model), tensors, "a run")
    with torch.no_grad():
        return model(torch.randn(64, 3, 16, 16, dtype=torch.float64, generator=torch.manual_seed(0))).numpy()


@pytest.mark.parametrize("processes", [2, 3, 4, 5])
def test_float64_predictions_wherever_the_margin_is_not_tiny(runs: Runs, processes: int) -> None:
    ours, on_one = logits(runs.tensors(processes, "double")), logits(runs.tensors(1, "double"))
    second, first = np.sort(on_one, axis=1)[:, -2:].T
    clear = first - second > 1e-4
    assert clear.sum() > 32
    np.testing.assert_array_equal(ours.argmax(1)[clear], on_one.argmax(1)[clear])


@pytest.mark.parametrize("processes", [2, 3, 4, 5])
def test_float32_gradient_of_one_step_from_equal_weights(runs: Runs, processes: int) -> None:
    # After one step, without weight decay, the momentum is the gradient.
    gradient = runs.tensors(processes, "one-step", "momentum")
    assert gradient["fc.weight"].dtype == np.float32
    assert distance(gradient, runs.tensors(1, "one-step", "momentum")) <= 1e-5


@pytest.mark.parametrize(("processes", "name"), [(2, "single"), (4, "single")])
def test_float32_losses_of_20_iterations(runs: Runs, processes: int, name: str) -> None:
    np.testing.assert_allclose(runs.losses(processes, name), runs.losses(1, name), rtol=1e-3)


@pytest.mark.parametrize("name", ["double", "seven"])
def test_the_iterations_are_those_of_the_recipe_on_every_placement(runs: Runs, name: str) -> None:
    minibatch = {"double": 48, "seven": 35}[name]
    of_placements = [runs.rows(processes, name) for processes in RUNS if name in RUNS[processes]]
    for table in of_placements:
        assert [int(row["iteration"]) for row in table] == list(range(ITERATIONS))
        progress = [t * minibatch / 92 for t in range(ITERATIONS)]
        np.testing.assert_allclose([float(row["epoch"]) for row in table], progress, atol=1e-6)
        assert [row["lr"] for row in table] == [row["lr"] for row in of_placements[0]]
    assert len({row["lr"] for row in of_placements[0]}) == ITERATIONS


@pytest.mark.parametrize(("name", "ratio"), [("double", 0.85), ("single", 0.95), ("seven", 0.85)])
def test_the_loss_falls(runs: Runs, name: str, ratio: float) -> None:
    losses = runs.losses(1, name)
    assert losses[-4:].mean() < ratio * losses[:4].mean(), losses
    assert np.isfinite(losses).all()
