"""LARS in PyTorch against the core's formula."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from hvd_imagenet.core.lars import lars_gradient
from hvd_imagenet.core.momentum import State, pytorch_step
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.torch import LARS
from hvd_imagenet.torch.optimizers import optimizer_of

RATES = [0.1, 0.1, 0.2, 3.0, 0.0, 0.05, *np.linspace(0.4, 0.01, 14)]
DECAY, COEFFICIENT = 0.01, 0.02
SHAPES = ((4, 3, 2, 2), (5, 4), (5,))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_twenty_steps_are_those_of_the_core(momentum, nesterov):
    generator = np.random.default_rng(0)
    states = [State(generator.normal(size=shape), np.zeros(shape)) for shape in SHAPES]
    parameters = [nn.Parameter(torch.from_numpy(state.weights.copy())) for state in states]
    optimizer = LARS(
        parameters, momentum=momentum, nesterov=nesterov, weight_decay=DECAY, trust_coefficient=COEFFICIENT
    )
    for rate in RATES:
        gradients = [generator.normal(size=shape) for shape in SHAPES]
        optimizer.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        states = [
            pytorch_step(state, lars_gradient(each, state.weights, DECAY, COEFFICIENT), rate, momentum, nesterov)
            for state, each in zip(states, gradients, strict=True)
        ]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            np.testing.assert_array_equal(parameter.grad.numpy(), gradient)
    for parameter, state in zip(parameters, states, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), state.weights, rtol=1e-12, atol=1e-14)
        if momentum:
            buffer = optimizer.state[parameter]["momentum_buffer"]
            np.testing.assert_allclose(buffer.numpy(), state.momentum, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("zero", ["weights", "gradient", "both"])
def test_zeros_give_numbers(zero):
    weight = nn.Parameter(torch.zeros(2, 2) if zero != "gradient" else torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2) if zero != "weights" else torch.ones(2, 2)
    LARS([weight], lr=0.5, weight_decay=0.0).step()
    expected = -0.5 if zero == "weights" else float(zero == "gradient")
    assert weight.tolist() == [[expected] * 2] * 2


@pytest.mark.parametrize("on_batch_norm", [False, True])
@pytest.mark.parametrize("opt", ["sgd", "lars"])
def test_weight_decay_and_batch_norm(opt, on_batch_norm):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    recipe = Recipe(opt=opt, weight_decay=0.5, decay_batch_norm=on_batch_norm, momentum=0.8)
    optimizer = optimizer_of(recipe, model)
    decays = {
        name: group["weight_decay"]
        for group in optimizer.param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is each for each in group["params"])
    }
    of_batch_norm = 0.5 if on_batch_norm else 0.0
    assert decays == {"0.weight": 0.5, "0.bias": 0.5, "1.weight": of_batch_norm, "1.bias": of_batch_norm}
    assert [(group["lr"], group["momentum"], group["nesterov"]) for group in optimizer.param_groups] == [
        (0.1, 0.8, True)
    ] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr must be 0 or more, not -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, not nan"),
        ({"momentum": 1.0}, "momentum must be in [0, 1), not 1.0"),
        ({"nesterov": True}, "nesterov must be False without momentum"),
        ({"trust_coefficient": 0.0}, "trust_coefficient must be above 0, not 0.0"),
    ],
)
def test_messages(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        LARS([nn.Parameter(torch.zeros(1))], **options)
