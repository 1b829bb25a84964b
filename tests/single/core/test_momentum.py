import numpy as np
import pytest

from hvd_imagenet.core.momentum import (
    State,
    correct_momentum,
    l2_gradient,
    paper_step,
    pytorch_step,
    velocity_from_buffer,
)

STEPS, SIZE = 50, 7


def _problem():
    """Learning rates that change at every step, gradients that depend on the weights, first weights."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(SIZE, SIZE)) / SIZE
    noise = random.normal(size=(STEPS, SIZE))
    return 10 ** random.uniform(-3, 0, STEPS), (lambda w, t: matrix @ w + noise[t]), random.normal(size=SIZE)


def _independent(momentum, nesterov, weight_decay):
    """Weights after every step, each from the whole history of gradients: w ← w − η Σ mⁱ g."""
    rates, gradient_at, weights = _problem()
    gradients, path = [], []
    for t, rate in enumerate(rates):
        gradients.append(gradient_at(weights, t) + weight_decay * weights)
        ages = range(len(gradients))
        step = sum(momentum**age * gradients[-1 - age] for age in ages)
        if nesterov:
            step = sum(momentum ** (age + 1) * gradients[-1 - age] for age in ages) + gradients[-1]
        weights = weights - rate * step
        path.append(weights)
    return np.array(path)


def _walk(form, momentum, nesterov, weight_decay, corrected=False):
    rates, gradient_at, weights = _problem()
    state, path, old_rate = State(weights, np.zeros(SIZE)), [], rates[0]
    for t, rate in enumerate(rates):
        if corrected:
            state = State(state.weights, correct_momentum(state.momentum, new_lr=rate, old_lr=old_rate))
        gradient = l2_gradient(gradient_at(state.weights, t), state.weights, weight_decay)
        state, old_rate = form(state, gradient, rate, momentum, nesterov), rate
        path.append(state.weights)
    return np.array(path)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_both_forms_are_the_sum_over_the_history(momentum, weight_decay, nesterov):
    expected = _independent(momentum, nesterov, weight_decay)
    for path in (
        _walk(pytorch_step, momentum, nesterov, weight_decay),
        _walk(paper_step, momentum, nesterov, weight_decay, corrected=True),
    ):
        np.testing.assert_allclose(path, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_without_correction_the_forms_part(nesterov):
    expected = _independent(0.9, nesterov, 0.01)
    path = _walk(paper_step, 0.9, nesterov, 0.01, corrected=False)
    np.testing.assert_allclose(path[0], expected[0], rtol=1e-12)
    assert np.abs(path[-1] - expected[-1]).max() > 0.1


# One number by hand: w 1, momentum 0.5 or 5, g 2, η 0.1, m 0.9.
@pytest.mark.parametrize(
    ("form", "momentum", "nesterov", "weights", "new_momentum"),
    [
        (paper_step, 0.5, False, 0.35, 0.65),
        (paper_step, 0.5, True, 0.215, 0.65),  # 1 − (0.9·0.65 + 0.2)
        (pytorch_step, 5.0, False, 0.35, 6.5),
        (pytorch_step, 5.0, True, 0.215, 6.5),  # 1 − 0.1·(0.9·6.5 + 2)
    ],
)
def test_one_step_by_hand(form, momentum, nesterov, weights, new_momentum):
    state = form(State(np.array([1.0]), np.array([momentum])), np.array([2.0]), 0.1, 0.9, nesterov)
    assert state.weights[0] == pytest.approx(weights, rel=1e-14)
    assert state.momentum[0] == pytest.approx(new_momentum, rel=1e-14)


def test_weight_decay_is_added_to_the_gradient():
    np.testing.assert_allclose(l2_gradient(np.array([1.0, -1.0]), np.array([10.0, 20.0]), 1e-4), [1.001, -0.998])


@pytest.mark.parametrize(("new_lr", "old_lr", "expected"), [(0.32, 3.2, 0.05), (3.2, 0.1, 16.0), (0.0, 0.1, 0.0)])
def test_correction(new_lr, old_lr, expected):
    assert correct_momentum(np.array([0.5]), new_lr, old_lr)[0] == pytest.approx(expected, rel=1e-14)


def test_correction_from_a_learning_rate_of_zero():
    assert correct_momentum(np.zeros(3), new_lr=0.1, old_lr=0.0).tolist() == [0.0] * 3
    with pytest.raises(ValueError, match=r"^old_lr must not be 0 while the velocity is not: its history cannot be"):
        correct_momentum(np.array([0.0, 1e-9]), new_lr=0.1, old_lr=0.0)


def test_velocity_of_keras_continues_a_run_of_pytorch():
    rates, gradient_at, weights = _problem()
    state = State(weights, np.zeros(SIZE))
    for t in range(10):
        state = pytorch_step(state, gradient_at(state.weights, t), rates[t], 0.9, nesterov=True)
    # Keras: v ← m·v − η·g; w ← w + m·v − η·g (Nesterov), the correction before the step.
    keras_weights, velocity = state.weights, velocity_from_buffer(state.momentum, rates[9])
    for t in range(10, 20):
        velocity = velocity * rates[t] / rates[t - 1]
        gradient = gradient_at(keras_weights, t)
        velocity = 0.9 * velocity - rates[t] * gradient
        keras_weights = keras_weights + 0.9 * velocity - rates[t] * gradient
        state = pytorch_step(state, gradient_at(state.weights, t), rates[t], 0.9, nesterov=True)
    np.testing.assert_allclose(keras_weights, state.weights, rtol=1e-11)
