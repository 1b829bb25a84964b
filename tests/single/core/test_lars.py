"""You, Gitman & Ginsburg 2017, algorithm 1."""

import numpy as np
import pytest

from hvd_imagenet.core.lars import is_scaled, lars_gradient, trust_ratio
from hvd_imagenet.core.momentum import State, pytorch_step

G, W = np.array([[3.0, 4.0]]), np.array([[6.0, 8.0]])  # norms 5 and 10


@pytest.mark.parametrize(
    ("gradient", "weights", "weight_decay", "trust_coefficient", "ratio"),
    [
        (G, W, 0.0, 0.001, 0.002),  # 0.001 · 10 / 5
        (G, W, 0.5, 0.001, 0.001),  # 0.001 · 10 / (5 + 0.5 · 10): norms are added, not vectors
        (-G, W, 0.5, 0.02, 0.02),
        (0 * G, W, 0.5, 0.02, 0.04),  # 0.02 · 10 / (0.5 · 10)
        (G, 0 * W, 0.5, 0.02, 1.0),
        (0 * G, W, 0.0, 0.02, 1.0),
        (0 * G, 0 * W, 0.5, 0.02, 1.0),
    ],
)
def test_ratio_by_hand(gradient, weights, weight_decay, trust_coefficient, ratio):
    assert trust_ratio(gradient, weights, weight_decay, trust_coefficient) == pytest.approx(ratio, rel=1e-15)


def test_the_step_does_not_depend_on_the_size_of_the_gradient():
    small, large = (lars_gradient(scale * G, W, 0.0, 0.001) for scale in (1e-6, 1e6))
    np.testing.assert_allclose(small, large, rtol=1e-12)
    assert np.linalg.norm(large) == pytest.approx(0.001 * np.linalg.norm(W), rel=1e-12)


def test_weight_decay_is_scaled_with_the_gradient():
    np.testing.assert_allclose(lars_gradient(G, W, 0.5, 0.001), 0.001 * (G + 0.5 * W), rtol=1e-15)


def test_biases_and_normalisations_keep_the_gradient():
    assert [is_scaled(shape) for shape in ((), (8,), (8, 3), (8, 3, 1, 1))] == [False, False, True, True]
    np.testing.assert_array_equal(lars_gradient(G[0], W[0], 0.5, 0.001), [6.0, 8.0])


# Algorithm 1: v ← m·v + γ·ratio·(g + βw); w ← w − v. The ratio is within the history, and so is its γ.
def test_with_a_constant_learning_rate_the_path_is_the_papers():
    random = np.random.default_rng(0)
    gradients, first = random.normal(size=(20, 4, 3)), random.normal(size=(4, 3))
    lr, momentum, decay, coefficient = 0.7, 0.9, 0.01, 0.05
    weights, velocity = first, np.zeros_like(first)
    state = State(first, np.zeros_like(first))
    for gradient in gradients:
        norm = np.sqrt((weights**2).sum())
        local_lr = coefficient * norm / (np.sqrt((gradient**2).sum()) + decay * norm)
        velocity = momentum * velocity + lr * local_lr * (gradient + decay * weights)
        weights = weights - velocity
        state = pytorch_step(state, lars_gradient(gradient, state.weights, decay, coefficient), lr, momentum)
    np.testing.assert_allclose(state.weights, weights, rtol=1e-12)
