"""The linear scaling rule."""


def linear_scaling(reference_lr: float, minibatch: int, reference_minibatch: int = 256) -> float:
    """When the minibatch is multiplied by k, multiply the learning rate by k (paper, section 2.1).

    k small steps and one large step move the weights by nearly the same amount as long as the gradient changes
    little on the way, which is why the rule fails in the first epochs (see schedules.gradual_warmup).

    Args:
        reference_lr: η at the reference minibatch.
        minibatch: kn, images in one iteration.
        reference_minibatch: images in one iteration for which reference_lr was tuned.

    Returns:
        η for this minibatch.

    Example:
        >>> linear_scaling(0.1, minibatch=8192)
        3.2
    """
    return reference_lr * minibatch / reference_minibatch
