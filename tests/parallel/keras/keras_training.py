"""Runs of the trainer behind `hvd-imagenet train --framework keras`, several to a job."""

import json
from pathlib import Path

from training import Run, train_each


def train_all(data: str, out: str, runs: list[Run]) -> None:
    """What the ranks execute; as training.train_all, in Keras."""
    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.session import choose_device
    from hvd_imagenet.keras.trainer import Trainer

    device = choose_device(hvd.local_rank())
    in_keras = [(name, recipe, {"framework": "keras", **options}) for name, recipe, options in runs]
    train_each(data, out, in_keras, hvd.HorovodCommunicator(), lambda *run: Trainer(*run, device).run())


def evaluate_all(data: str, out: str, runs: list[str]) -> None:
    """What the ranks execute; as training.evaluate_all, in Keras."""
    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.evaluate_checkpoint import _evaluate

    results = [_evaluate(Path(run), Path(data), None, hvd.HorovodCommunicator()) for run in runs]
    if hvd.rank() == 0:
        Path(out).write_text(json.dumps(results))
