"""Callbacks for model.fit: Horovod's four under their names, and this package's own."""

from hvd_imagenet.keras.callbacks.broadcast import BroadcastVariables
from hvd_imagenet.keras.callbacks.horovod import (
    BroadcastGlobalVariablesCallback,
    LearningRateScheduleCallback,
    LearningRateWarmupCallback,
    MetricAverageCallback,
)
from hvd_imagenet.keras.callbacks.metrics import MetricAverage
from hvd_imagenet.keras.callbacks.schedule import LearningRateSchedule

__all__ = [
    "BroadcastGlobalVariablesCallback",
    "BroadcastVariables",
    "LearningRateSchedule",
    "LearningRateScheduleCallback",
    "LearningRateWarmupCallback",
    "MetricAverage",
    "MetricAverageCallback",
]
