"""Small tensors of a checkpoint, always the same."""

import numpy as np


def made_up_tensors(dtype=np.float32, value=0.0):
    random = np.random.default_rng(1)
    return {
        "model": {
            "conv1.weight": (random.normal(size=(4, 3, 7, 7)) + value).astype(dtype),
            "bn1.running_var": np.ones(4, dtype),
            "bn1.num_batches_tracked": np.array(7, np.int64),
            "fc.weight": random.normal(size=(5, 4)).astype(dtype),
        },
        "momentum": {"conv1.weight": random.normal(size=(4, 3, 7, 7)).astype(dtype)},
    }
