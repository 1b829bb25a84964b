"""What a run is told beside its recipe: where things are, how to compute, when to stop."""

import math
from dataclasses import dataclass
from pathlib import Path

from hvd_imagenet.bad_images import STOP, allowed_bad_images
from hvd_imagenet.checkpoint import KEPT

RESUME_AUTO, RESUME_NEVER = "auto", "never"
FRAMEWORKS = ("torch", "keras")
DTYPES = ("float32", "float64")
AMP_DTYPES = ("bfloat16",)
COMPRESSIONS = ("none", "fp16")
_TORCH_ONLY = {
    "channels_last": "TensorFlow's images are channels-last already",
    "torchcompile": "its step is compiled to a TensorFlow graph already",
}


@dataclass(frozen=True)
class RunConfig:
    """Options that do not change what a run computes, up to rounding.

    Args:
        data: folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG; None with synthetic images.
        train_list: file that names the training images to keep, one a line; None for all.
        framework: one of FRAMEWORKS.
        recipe_name: where the recipe came from, for names and messages.
        out: run folder; a new one under runs/ if None.
        resume: auto (go on where the run folder ends), never, or the path of a checkpoint or run.
        initial_checkpoint: file of the weights to begin with, under torchvision's names; None for those of the seed.
        checkpoint_interval: iterations between checkpoints, beside the one at the end of every epoch; None for no more.
        checkpoint_minutes: between checkpoints by the clock, beside the others; None for no more.
        checkpoint_hist: checkpoints that stay, beside the one with the lowest validation error.
        max_iterations: stop after so many, counted from the start of the run; None for the recipe's.
        dtype: of weights and computation, one of DTYPES.
        amp_dtype: of automatic mixed precision, one of AMP_DTYPES, or None.
        tf32: let GPUs multiply float32 with 10 bits of mantissa, which is faster there.
        channels_last: memory layout of activations and weights.
        torchcompile: compile the network with torch.compile.
        compression: of gradients on the wire, one of COMPRESSIONS.
        workers_per_pass: virtual workers computed in one forward and backward pass.
        threads: that decode images in each process; its cores if None.
        synthetic: images from memory at no cost, in place of data.
        bad_images: stop at a training image that cannot be read, or skip=N: take another in place of N of them.
        skip_nonfinite: pass over so many iterations whose loss or gradient is no finite number, before the run stops.
        deterministic: the same bits from every run on as many processes with as many threads, at some cost.
        requeue: put the Slurm job back into the queue when SIGUSR1 has ended the run.
        progress_bar: draw one, else print plain lines.
        launched_size: processes that the launcher says it has started; None if there was no launcher.

    Raises:
        ValueError: options that exclude each other, another word for bad_images, or a number out of range.

    Example:
        >>> RunConfig(data=Path("digits")).resume
        'auto'
    """

    data: Path | None
    train_list: Path | None = None
    framework: str = "torch"
    recipe_name: str = "resnet50_1hour"
    out: Path | None = None
    resume: str = RESUME_AUTO
    initial_checkpoint: Path | None = None
    checkpoint_interval: int | None = None
    checkpoint_minutes: float | None = None
    checkpoint_hist: int = KEPT
    max_iterations: int | None = None
    dtype: str = "float32"
    amp_dtype: str | None = None
    tf32: bool = False
    channels_last: bool = False
    torchcompile: bool = False
    compression: str = "none"
    workers_per_pass: int = 1
    threads: int | None = None
    synthetic: bool = False
    bad_images: str = STOP
    skip_nonfinite: int = 0
    deterministic: bool = False
    requeue: bool = False
    progress_bar: bool = False
    launched_size: int | None = None

    def __post_init__(self) -> None:
        allowed_bad_images(self.bad_images)
        if self.skip_nonfinite < 0:
            raise ValueError(f"skip_nonfinite must be at least 0, not {self.skip_nonfinite}")
        if self.checkpoint_minutes is not None and not 0 < self.checkpoint_minutes < math.inf:
            raise ValueError(f"checkpoint_minutes must be above 0, not {self.checkpoint_minutes}")
        if self.synthetic != (self.data is None):
            raise ValueError("data must be given unless the images are synthetic, and only then")
        for name, remedy in _TORCH_ONLY.items():
            if self.framework == "keras" and getattr(self, name):
                raise ValueError(f"{name} must be left out with framework keras: {remedy}")
        if self.amp_dtype is not None and self.dtype != "float32":
            raise ValueError(f"amp_dtype must be left out with dtype {self.dtype}: mixed precision is of float32")
        if self.tf32 and self.dtype != "float32":
            raise ValueError(f"tf32 must be left out with dtype {self.dtype}: TensorFloat-32 is of float32")
