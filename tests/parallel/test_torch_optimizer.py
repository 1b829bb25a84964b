"""The optimizer adapter on 1 to 5 processes against an implementation of the method in numpy alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks import run_ranks

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.momentum import State, correct_momentum, l2_gradient, paper_step
from hvd_imagenet.core.sharding import Stream

IMAGES, INPUTS, HIDDEN, CLASSES = 50, 5, 6, 4
MINIBATCH = Minibatch(size=21, per_worker=3)  # 7 workers: uneven on 2, 3 and 5 processes
STREAM = Stream(IMAGES, MINIBATCH, seed=11)
ITERATIONS = 20
MOMENTUM, WEIGHT_DECAY, EPS, KEPT = 0.9, 0.03, 1e-5, 0.9
DECAYED = ("w1", "b1", "w2", "b2")
Arrays = dict[str, np.ndarray]


def eta(epochs: float) -> float:
    """Changes at every step."""
    return 0.05 + 0.04 * math.sin(5.0 * epochs)


def problem() -> tuple[np.ndarray, np.ndarray, Arrays]:
    random = np.random.default_rng(5)
    inputs, labels = random.normal(size=(IMAGES, INPUTS)), random.integers(0, CLASSES, IMAGES)
    weights = {
        "w1": random.normal(size=(HIDDEN, INPUTS)),
        "b1": random.normal(size=HIDDEN),
        "gamma": 1.0 + 0.1 * random.normal(size=HIDDEN),
        "beta": 0.1 * random.normal(size=HIDDEN),
        "w2": random.normal(size=(CLASSES, HIDDEN)),
        "b2": random.normal(size=CLASSES),
    }
    return inputs, labels, weights


# --- the reference ---------------------------------------------------------------------------------------------------


def gradient_of_worker(w: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, np.ndarray, np.ndarray]:
    """Σ loss and its gradient over one worker's images, and the mean and unbiased variance before normalisation."""
    n = len(x)
    a = x @ w["w1"].T + w["b1"]
    mean, variance = a.mean(0), a.var(0)
    normal = (a - mean) / np.sqrt(variance + EPS)
    h = np.tanh(w["gamma"] * normal + w["beta"])
    logits = h @ w["w2"].T + w["b2"]
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    p = exponentials / exponentials.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(n), labels]).sum()
    d_logits = p - np.eye(CLASSES)[labels]
    d_pre = (d_logits @ w["w2"]) * (1 - h**2)
    d_normal = d_pre * w["gamma"]
    d_a = (d_normal - d_normal.mean(0) - normal * (d_normal * normal).mean(0)) / np.sqrt(variance + EPS)
    gradient = {
        "w1": d_a.T @ x,
        "b1": d_a.sum(0),
        "gamma": (d_pre * normal).sum(0),
        "beta": d_pre.sum(0),
        "w2": d_logits.T @ h,
        "b2": d_logits.sum(0),
    }
    return float(loss), gradient, mean, a.var(0, ddof=1)


def reference() -> tuple[Arrays, list[float]]:
    """Equations 9 and 10 of the paper, momentum corrected, Nesterov; losses over the whole minibatch."""
    inputs, labels, w = problem()
    velocity = {name: np.zeros_like(value) for name, value in w.items()}
    running_mean, running_var = np.zeros(HIDDEN), np.ones(HIDDEN)
    losses, old = [], eta(0.0)
    for t in range(ITERATIONS):
        ids = STREAM.iteration(t)[1].reshape(MINIBATCH.workers, MINIBATCH.per_worker)
        of_workers = [gradient_of_worker(w, inputs[part], labels[part]) for part in ids]
        lr = eta(t * MINIBATCH.size / IMAGES)
        for name in w:
            g = sum(gradient[name] for _, gradient, _, _ in of_workers) / MINIBATCH.size
            g = g + (WEIGHT_DECAY * w[name] if name in DECAYED else 0.0)
            velocity[name] = MOMENTUM * velocity[name] * (lr / old) + lr * g
            w[name] = w[name] - (MOMENTUM * velocity[name] + lr * g)
        running_mean = KEPT * running_mean + (1 - KEPT) * np.mean([mean for _, _, mean, _ in of_workers], axis=0)
        running_var = KEPT * running_var + (1 - KEPT) * np.mean([variance for *_, variance in of_workers], axis=0)
        losses.append(sum(loss for loss, *_ in of_workers) / MINIBATCH.size)
        old = lr
    return {**w, "running_mean": running_mean, "running_var": running_var}, losses


# --- what the ranks execute ------------------------------------------------------------------------------------------


def train_on_ranks(out: str, workers_per_pass: int) -> None:
    import horovod.torch as hvd
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from hvd_imagenet.torch import (
        DistributedOptimizer,
        HorovodCommunicator,
        StreamBatchSampler,
        average_over_processes,
        convert_batch_norm,
        metric_average,
        parameter_groups,
        running_averages,
    )

    inputs, labels, weights = problem()
    workers = MINIBATCH.placement(hvd.size())[hvd.rank()]
    model = nn.Sequential(
        nn.Linear(INPUTS, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES)
    ).double()
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), weights.values(), strict=True):
            parameter.copy_(torch.from_numpy(value))
    convert_batch_norm(model, MINIBATCH.per_worker, len(workers))
    inner = torch.optim.SGD(parameter_groups(model, WEIGHT_DECAY), lr=9.0, momentum=MOMENTUM, nesterov=True)
    optimizer: Any = DistributedOptimizer(
        inner, model.named_parameters(), MINIBATCH, eta, IMAGES, passes=-(-len(workers) // workers_per_pass)
    )
    data = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels))
    batches = iter(DataLoader(data, batch_sampler=StreamBatchSampler(STREAM, workers, range(ITERATIONS))))
    totals = []
    for _ in range(ITERATIONS):
        optimizer.zero_grad(set_to_none=True)
        parts = [next(batches) for _ in workers]
        total = 0.0
        for start in range(0, len(parts), workers_per_pass):
            together = parts[start : start + workers_per_pass]
            x, y = torch.cat([part[0] for part in together]), torch.cat([part[1] for part in together])
            loss = nn.functional.cross_entropy(model(x), y, reduction="sum") / MINIBATCH.per_worker
            loss.backward()
            total += loss.item() * MINIBATCH.per_worker
        optimizer.step()
        totals.append(total)
    losses = HorovodCommunicator().sum(np.array(totals)) / MINIBATCH.size
    np.testing.assert_allclose(metric_average(totals[-1], len(workers) * MINIBATCH.per_worker), losses[-1], rtol=1e-14)
    averages = running_averages(model)
    average_over_processes(averages, len(workers) / MINIBATCH.workers, HorovodCommunicator())
    values = [*(parameter.detach() for parameter in model.parameters()), *averages.values()]
    of_ranks = HorovodCommunicator().gather([value.tolist() for value in values])
    assert all(of_rank == of_ranks[0] for of_rank in of_ranks), "the ranks' weights differ"
    assert optimizer.iteration == ITERATIONS
    if hvd.rank() == 0:
        names = [*weights, "running_mean", "running_var"]
        np.savez(out, losses=losses, **dict(zip(names, (value.numpy() for value in values), strict=True)))


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processes", "workers_per_pass"), [(1, 1), (1, 7), (2, 1), (3, 2), (5, 1)])
def test_the_optimizer_is_the_paper_s_on_any_placement(processes: int, workers_per_pass: int, tmp_path: Path) -> None:
    run_ranks(processes, train_on_ranks, tmp_path / "result.npz", workers_per_pass)
    result = dict(np.load(tmp_path / "result.npz"))
    expected, losses = reference()
    np.testing.assert_allclose(result.pop("losses"), losses, rtol=1e-12)
    assert sorted(result) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-12, atol=1e-13, err_msg=name)


def test_the_reference_agrees_with_the_core_s_form_of_the_paper_and_learns() -> None:
    inputs, labels, weights = problem()
    states = {name: State(value, np.zeros_like(value)) for name, value in weights.items()}
    for t in range(ITERATIONS):
        w = {name: state.weights for name, state in states.items()}
        ids = STREAM.iteration(t)[1].reshape(MINIBATCH.workers, MINIBATCH.per_worker)
        gradients = [gradient_of_worker(w, inputs[part], labels[part])[1] for part in ids]
        lr, old = (eta(max(s, 0) * MINIBATCH.size / IMAGES) for s in (t, t - 1))
        for name, state in states.items():
            g = sum(gradient[name] for gradient in gradients) / MINIBATCH.size
            g = l2_gradient(g, state.weights, WEIGHT_DECAY if name in DECAYED else 0.0)
            velocity = correct_momentum(state.momentum, lr, old)
            states[name] = paper_step(State(state.weights, velocity), g, lr, MOMENTUM, nesterov=True)
    expected, losses = reference()
    for name, state in states.items():
        np.testing.assert_allclose(state.weights, expected[name], rtol=1e-12, atol=1e-13, err_msg=name)
    assert losses[-1] < 0.7 * losses[0]


def test_the_reference_s_gradient_is_the_derivative_of_its_loss() -> None:
    inputs, labels, w = problem()
    _, gradient, _, _ = gradient_of_worker(w, inputs[:3], labels[:3])
    for name, value in w.items():
        for index in [(0,) * value.ndim, tuple(size - 1 for size in value.shape)]:
            sides = []
            for step in (1e-6, -1e-6):
                moved = {**w, name: value.copy()}
                moved[name][index] += step
                sides.append(gradient_of_worker(moved, inputs[:3], labels[:3])[0])
            difference = (sides[0] - sides[1]) / 2e-6
            np.testing.assert_allclose(gradient[name][index], difference, rtol=1e-5, atol=1e-7, err_msg=name)
