"""Checkpoints: one format for both frameworks and any number of processes.

A checkpoint is a folder `iteration-00000123` with safetensors files and `manifest.json`. Tensors carry torchvision's
names and layouts (OIHW, out × in) and are the run's dtype, float32 unless asked otherwise: `model.safetensors` holds
weights and batch normalisation averages, `momentum.safetensors` the buffers of PyTorch's form (u ← m·u + g),
`model_ema.safetensors` the running average of the weights if there is one. The manifest holds the iteration, the
learning rate of the last step, the recipe and its hash, the fingerprint of the data, the sums of the epoch in
progress, the validation error where one was measured, versions, and the SHA-256 of every file and of itself. It is
written under another name, flushed to the disk and renamed, by a thread beside the training. No file holds a pickle.
"""

from hvd_imagenet.checkpoint.background import WRITER_THREAD, BackgroundWriter
from hvd_imagenet.checkpoint.format import (
    FOLDER,
    FORMAT,
    MANIFEST,
    Checkpoint,
    DamagedError,
    check_can_go_on,
    check_fits,
)
from hvd_imagenet.checkpoint.generations import BEST, KEPT, find, latest
from hvd_imagenet.checkpoint.reading import Found, load, newest_readable, read_manifest
from hvd_imagenet.checkpoint.tensor_files import read_weights
from hvd_imagenet.checkpoint.writing import save

__all__ = [
    "BEST",
    "FOLDER",
    "FORMAT",
    "KEPT",
    "MANIFEST",
    "WRITER_THREAD",
    "BackgroundWriter",
    "Checkpoint",
    "DamagedError",
    "Found",
    "check_can_go_on",
    "check_fits",
    "find",
    "latest",
    "load",
    "newest_readable",
    "read_manifest",
    "read_weights",
    "save",
]
