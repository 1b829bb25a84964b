"""Callbacks for model.fit: Horovod's four under their names, and this package's own."""

from typing import Any

from hvd_imagenet.keras.callbacks.broadcast import BroadcastVariables
from hvd_imagenet.keras.callbacks.checkpoint import ResumableCheckpoint
from hvd_imagenet.keras.callbacks.horovod import (
    BroadcastGlobalVariablesCallback,
    LearningRateScheduleCallback,
    LearningRateWarmupCallback,
    MetricAverageCallback,
)
from hvd_imagenet.keras.callbacks.metrics import MetricAverage
from hvd_imagenet.keras.callbacks.run import Run, RunLogger, open_run
from hvd_imagenet.keras.callbacks.schedule import LearningRateSchedule
from hvd_imagenet.keras.callbacks.validation import ExactValidation

__all__ = [
    "BroadcastGlobalVariablesCallback",
    "BroadcastVariables",
    "ExactValidation",
    "LearningRateSchedule",
    "LearningRateScheduleCallback",
    "LearningRateWarmupCallback",
    "MetricAverage",
    "MetricAverageCallback",
    "ResumableCheckpoint",
    "Run",
    "RunLogger",
    "open_run",
]


def __getattr__(name: str) -> Any:
    if name == "BestModelCheckpoint":
        raise ImportError(
            "hvd_imagenet.keras.callbacks has no BestModelCheckpoint: on rank 0 alone use "
            "keras.callbacks.ModelCheckpoint(path, save_best_only=True), after MetricAverageCallback"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
