"""Layer-wise adaptive rate scaling, LARS (You, Gitman & Ginsburg 2017, algorithm 1): every layer has its own step.

Where η is large, a layer whose gradient is large beside its weights diverges before the others learn. LARS gives every
weight tensor a step in proportion to its own norm: the gradient with weight decay, g + λw, is scaled by the trust ratio

    c·‖w‖ / (‖g‖ + λ·‖w‖)

and then passes through momentum, u ← m·u + ratio·(g + λw); w ← w − η·u. Tensors of one dimension, which are biases and
the γ and β of batch normalisation, keep the gradient as it is. In the paper η is within the history; here it stands
outside, as in equation 10 of Goyal et al., so that a change of η needs no correction.
"""

import numpy as np

TRUST_COEFFICIENT = 0.001
"""c of the paper's experiments (its section 5)."""


def is_scaled(shape: tuple[int, ...]) -> bool:
    """Whether LARS scales the gradient of a parameter; biases and the γ and β of normalisations are left out.

    Args:
        shape: of the parameter.

    Returns:
        True for two dimensions and more.

    Example:
        >>> is_scaled((64, 3, 7, 7)), is_scaled((64,))
        (True, False)
    """
    return len(shape) > 1


def trust_ratio(gradient: np.ndarray, weights: np.ndarray, weight_decay: float, trust_coefficient: float) -> float:
    """c·‖w‖ / (‖g‖ + λ·‖w‖), Euclidean norms over the whole tensor.

    Args:
        gradient: (1/kn) Σ over the images of the minibatch, without weight decay; any shape.
        weights: same shape.
        weight_decay: λ.
        trust_coefficient: c.

    Returns:
        The ratio; 1 where the formula gives 0, which would hold weights of zero where they are, or 0/0.

    Example:
        >>> trust_ratio(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]]), weight_decay=0.5, trust_coefficient=0.75)
        0.25
    """
    norm = float(np.linalg.norm(weights))
    denominator = float(np.linalg.norm(gradient)) + weight_decay * norm
    return trust_coefficient * norm / denominator if norm > 0 and denominator > 0 else 1.0


def lars_gradient(
    gradient: np.ndarray, weights: np.ndarray, weight_decay: float, trust_coefficient: float
) -> np.ndarray:
    """What momentum takes in: g + λw, scaled by the trust ratio unless the tensor has one dimension.

    Args:
        gradient: (1/kn) Σ over the images of the minibatch; any shape.
        weights: same shape.
        weight_decay: λ; 0 for the γ and β of batch normalisation.
        trust_coefficient: c.

    Returns:
        Array of the same shape, for momentum.pytorch_step.

    Example:
        >>> lars_gradient(np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]]), 0.5, trust_coefficient=0.3)
        array([[0.3, 0.5]])
        >>> lars_gradient(np.array([3.0, 4.0]), np.array([0.0, 2.0]), 0.5, trust_coefficient=0.3)
        array([3., 5.])
    """
    decayed = gradient + weight_decay * weights
    if not is_scaled(gradient.shape):
        return decayed
    return trust_ratio(gradient, weights, weight_decay, trust_coefficient) * decayed
