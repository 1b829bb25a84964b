r"""The two forms of momentum SGD, and the correction that makes them the same when η changes.

Form of the paper (equation 9; Keras with the opposite sign):  v ← m·v + η·g;  w ← w − v
Form of PyTorch (equation 10):                                 u ← m·u + g;    w ← w − η·u

With constant η, v = η·u and the two are one. When η changes, the second form needs nothing, because η stands
outside its history. In the first form the history carries the old η: scale it by η_new/η_old before the step
("momentum correction", section 3, remark 2). Weight decay is λw added to g, so it passes through momentum.
"""

from typing import NamedTuple

import numpy as np


class State(NamedTuple):
    """Weights and momentum after a step; arrays of one shape and dtype."""

    weights: np.ndarray
    momentum: np.ndarray


def l2_gradient(gradient: np.ndarray, weights: np.ndarray, weight_decay: float) -> np.ndarray:
    """Weight decay as an L2 term, g + λw, added once, after the reduction (section 3, remark 1).

    Args:
        gradient: (1/kn) Σ over the images of the minibatch; any shape.
        weights: same shape.
        weight_decay: λ; 0 for the γ and β of batch normalisation.

    Returns:
        Array of the same shape.

    Example:
        >>> l2_gradient(np.array([1.0]), np.array([10.0]), weight_decay=0.1)
        array([2.])
    """
    return gradient + weight_decay * weights


def paper_step(state: State, gradient: np.ndarray, lr: float, momentum: float, nesterov: bool = False) -> State:
    """One step of v ← m·v + η·g; w ← w − v (equation 9); call correct_momentum before it when η changes.

    Args:
        state: weights and v.
        gradient: with weight decay already in it; the weights' shape.
        lr: η.
        momentum: m.
        nesterov: look ahead, w ← w − (m·v + η·g) with the new v.

    Returns:
        The new weights and v.

    Example:
        >>> paper_step(State(np.array([1.0]), np.array([0.5])), np.array([2.0]), lr=0.1, momentum=0.9)
        State(weights=array([0.35]), momentum=array([0.65]))
    """
    velocity = momentum * state.momentum + lr * gradient
    step = momentum * velocity + lr * gradient if nesterov else velocity
    return State(state.weights - step, velocity)


def pytorch_step(state: State, gradient: np.ndarray, lr: float, momentum: float, nesterov: bool = False) -> State:
    """One step of u ← m·u + g; w ← w − η·u (equation 10), the form of torch.optim.SGD.

    Args:
        state: weights and u.
        gradient: with weight decay already in it; the weights' shape.
        lr: η.
        momentum: m.
        nesterov: look ahead, w ← w − η·(m·u + g) with the new u.

    Returns:
        The new weights and u.

    Example:
        >>> pytorch_step(State(np.array([1.0]), np.array([5.0])), np.array([2.0]), lr=0.1, momentum=0.9)
        State(weights=array([0.35]), momentum=array([6.5]))
    """
    buffer = momentum * state.momentum + gradient
    step = momentum * buffer + gradient if nesterov else buffer
    return State(state.weights - lr * step, buffer)


def correct_momentum(velocity: np.ndarray, new_lr: float, old_lr: float) -> np.ndarray:
    """v·η_new/η_old, for the first form, before the step with the new η (section 3, remark 2).

    Args:
        velocity: v of the form v ← m·v + η·g; any shape.
        new_lr: η of the coming step.
        old_lr: η of the step before; zero (the end of a cosine) leaves no history to scale, so v must be zero.

    Returns:
        Array of the same shape.

    Raises:
        ValueError: old_lr is zero and the velocity is not.

    Example:
        >>> correct_momentum(np.array([0.5]), new_lr=0.01, old_lr=0.1)
        array([0.05])
    """
    if old_lr == 0:
        if np.any(velocity):
            raise ValueError("old_lr must not be 0 while the velocity is not: its history cannot be scaled")
        return velocity
    return velocity * (new_lr / old_lr)


def velocity_from_buffer(buffer: np.ndarray, lr: float) -> np.ndarray:
    """Keras' velocity −η·u from PyTorch's momentum buffer u, where η is that of the last step.

    Args:
        buffer: u of the form u ← m·u + g; any shape.
        lr: η of the step that made it.

    Returns:
        Array of the same shape.

    Example:
        >>> velocity_from_buffer(np.array([5.0]), lr=0.1)
        array([-0.5])
    """
    return -lr * buffer
