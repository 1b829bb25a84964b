"""L0: the method in numpy and the standard library; pure functions, no framework."""

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.scaling import linear_scaling
from hvd_imagenet.core.schedules import Schedule, constant, cosine, gradual_warmup, join, step_decay
from hvd_imagenet.core.sharding import Stream

__all__ = [
    "Minibatch",
    "Schedule",
    "Stream",
    "constant",
    "cosine",
    "gradual_warmup",
    "join",
    "linear_scaling",
    "step_decay",
]
