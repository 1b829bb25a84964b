"""The PyTorch side: an optimizer adapter, per-worker batch normalisation, a sampler, networks and the trainer.

Usable one by one in anybody's loop; `hvd-imagenet train` is built on the same pieces.
"""

from hvd_imagenet.torch.batch_norm import (
    PerWorkerBatchNorm,
    average_over_processes,
    convert_batch_norm,
    running_averages,
)
from hvd_imagenet.torch.communication import HorovodCommunicator, abort_job_on_exception, broadcast, metric_average
from hvd_imagenet.torch.data import ReaderDataset
from hvd_imagenet.torch.optimizer import DistributedOptimizer, LearningRate, parameter_groups
from hvd_imagenet.torch.optimizers import LARS
from hvd_imagenet.torch.sampler import StreamBatchSampler

__all__ = [
    "LARS",
    "DistributedOptimizer",
    "HorovodCommunicator",
    "LearningRate",
    "PerWorkerBatchNorm",
    "ReaderDataset",
    "StreamBatchSampler",
    "abort_job_on_exception",
    "average_over_processes",
    "broadcast",
    "convert_batch_norm",
    "metric_average",
    "parameter_groups",
    "running_averages",
]
