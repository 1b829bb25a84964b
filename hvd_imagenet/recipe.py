"""A recipe: everything that fixes the result of a run.

It says nothing of processes, threads or hosts: those only decide how fast the result is there.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

from hvd_imagenet.core.lars import TRUST_COEFFICIENT
from hvd_imagenet.core.minibatch import Minibatch, positive_integer
from hvd_imagenet.core.scaling import linear_scaling
from hvd_imagenet.core.schedules import Schedule, constant, cosine, gradual_warmup, join, step_decay
from hvd_imagenet.data.transforms import Augmentation, CentreCrop

WARMUPS = ("gradual", "constant", "none")
SCHEDULES = ("step", "cosine")
OPTIMIZERS = ("sgd", "lars")
MODELS = ("resnet50", "resnet101", "resnet20", "resnet20x4", "resnet8", "resnet8_narrow")
# Fields that came later: at their defaults they are no part of the hash, so that checkpoints from before can go on.
_LATER_FIELDS = ("trust_coefficient", "decay_batch_norm")


@dataclass(frozen=True)
class Recipe:
    """The science of a run; the defaults are the paper's (section 5.1).

    Args:
        model: one of MODELS.
        minibatch: kn, images in one iteration.
        per_worker: n, images of one virtual worker, over which batch normalisation takes its statistics.
        epochs: E, passes over the training images; may be fractional.
        reference_lr: η at the reference minibatch, and where gradual warmup starts.
        reference_minibatch: the minibatch that reference_lr belongs to.
        warmup: gradual, constant or none; minibatches up to the reference have none.
        warmup_epochs: its length.
        schedule: step or cosine.
        decay_epochs: where steps multiply the learning rate by decay_factor.
        decay_factor: of every step.
        opt: one of OPTIMIZERS; sgd is the paper's, lars is of You, Gitman & Ginsburg 2017.
        trust_coefficient: c of lars.
        momentum: m.
        nesterov: Nesterov's form.
        weight_decay: λ, on everything but the γ and β of batch normalisation.
        decay_batch_norm: λ on γ and β too, against the paper.
        zero_last_gamma: γ = 0 at first in the last batch normalisation of every residual block.
        label_smoothing: share of the label's probability spread over all classes; 0 in the paper.
        clip_grad: largest global norm of the reduced gradient; None in the paper.
        model_ema_decay: of the running average of the weights, once an iteration; None in the paper.
        image_size_px: side of the network's input.
        validation_resize_px: what the shorter side is resized to before validation's centre crop.
        area_range: of the random crop, as fractions of the image.
        aspect_range: of the random crop, width over height.
        horizontal_flip: mirror every second training image.
        pixel_mean: per colour, in units of 0–255.
        pixel_std: per colour, in units of 0–255.
        seed: of initial weights, permutations and augmentation.

    Raises:
        ValueError: a field breaks its rule.

    Example:
        >>> Recipe().peak_lr
        3.2
    """

    model: str = "resnet50"
    minibatch: int = 8192
    per_worker: int = 32
    epochs: float = 90
    reference_lr: float = 0.1
    reference_minibatch: int = 256
    warmup: str = "gradual"
    warmup_epochs: float = 5
    schedule: str = "step"
    decay_epochs: tuple[float, ...] = (30, 60, 80)
    decay_factor: float = 0.1
    opt: str = "sgd"
    trust_coefficient: float = TRUST_COEFFICIENT
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_batch_norm: bool = False
    zero_last_gamma: bool = True
    label_smoothing: float = 0.0
    clip_grad: float | None = None
    model_ema_decay: float | None = None
    image_size_px: int = 224
    validation_resize_px: int = 256
    area_range: tuple[float, float] = (0.08, 1.0)
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: bool = True
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    seed: int = 0

    def __post_init__(self) -> None:
        Minibatch(self.minibatch, self.per_worker)
        for name in ("reference_minibatch", "image_size_px"):
            positive_integer(name, getattr(self, name))
        choices_of = {"model": MODELS, "warmup": WARMUPS, "schedule": SCHEDULES, "opt": OPTIMIZERS}
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in ("epochs", "reference_lr", "decay_factor", "trust_coefficient"):
            _within(name, getattr(self, name), zero_fits=False)
        for name in ("weight_decay", "warmup_epochs"):
            _within(name, getattr(self, name), zero_fits=True)
        for name in ("momentum", "label_smoothing"):
            _within(name, getattr(self, name), zero_fits=True, below=1.0)
        if self.clip_grad is not None:
            _within("clip_grad", self.clip_grad, zero_fits=False)
        if self.model_ema_decay is not None:
            _within("model_ema_decay", self.model_ema_decay, zero_fits=True, below=1.0)
        for name in ("pixel_std", "decay_epochs"):
            for value in getattr(self, name):
                _within(name, value, zero_fits=False)
        if self.opt != "lars" and self.trust_coefficient != TRUST_COEFFICIENT:
            raise ValueError(f"trust_coefficient must be left out with opt {self.opt}: it is of lars")
        if self.nesterov and self.momentum == 0:
            raise ValueError("momentum must be above 0 with nesterov, not 0; leave nesterov out with --no-nesterov")
        if self.validation_resize_px < self.image_size_px:
            raise ValueError(
                f"validation_resize_px must be image_size_px ({self.image_size_px}) or more, "
                f"not {self.validation_resize_px}"
            )
        if self.warms_up and self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs must be less than epochs ({self.epochs:g}), not {self.warmup_epochs:g}; "
                f"shorten it with --warmup-epochs or leave it out with --warmup none"
            )
        _ = self.learning_rate, self.augmentation  # they check the fields that they are made of

    @property
    def workers(self) -> Minibatch:
        """Kn and n, with the number of virtual workers."""
        return Minibatch(self.minibatch, self.per_worker)

    @property
    def peak_lr(self) -> float:
        """η after warmup, by the linear scaling rule."""
        return linear_scaling(self.reference_lr, self.minibatch, self.reference_minibatch)

    @property
    def warms_up(self) -> bool:
        """Whether there is a warmup: only minibatches beyond the reference need one (section 2.2)."""
        return self.warmup != "none" and self.minibatch > self.reference_minibatch

    @property
    def learning_rate(self) -> Schedule:
        """The learning rate as a function of fractional epochs."""
        warmup_epochs = self.warmup_epochs if self.warms_up else 0.0
        if self.schedule == "cosine":
            decay = cosine(self.peak_lr, end_epochs=self.epochs, start_epochs=warmup_epochs)
        else:
            decay = step_decay(self.peak_lr, self.decay_epochs, self.decay_factor)
        if not self.warms_up:
            return decay
        if self.warmup == "constant":
            ramp = constant(self.reference_lr)
        else:
            ramp = gradual_warmup(self.reference_lr, self.peak_lr, warmup_epochs)
        return join([ramp, decay], [warmup_epochs])

    @property
    def augmentation(self) -> Augmentation:
        """How training images are cropped and mirrored."""
        return Augmentation(self.area_range, self.aspect_range, self.horizontal_flip)

    @property
    def centre_crop(self) -> CentreCrop:
        """How validation images are cropped."""
        return CentreCrop(self.validation_resize_px)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change with any field.

        Example:
            >>> Recipe().hash == Recipe(seed=0).hash, Recipe().hash == Recipe(seed=1).hash
            (True, False)
        """
        unchanged = {field.name for field in dataclasses.fields(self) if getattr(self, field.name) == field.default}
        left_out = unchanged.intersection(_LATER_FIELDS)
        fields = {name: _plain(value) for name, value in dataclasses.asdict(self).items() if name not in left_out}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


def _plain(value: object) -> object:
    """The value with whole floats as integers and tuples as lists, so that 90 and 90.0 are the same recipe."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _within(name: str, value: float, zero_fits: bool, below: float = math.inf) -> None:
    """Raises ValueError unless value is above 0, or 0 where that fits, and below a limit."""
    if not (0 < value < below or (zero_fits and value == 0)):
        least = "0 or more" if zero_fits else "above 0"
        most = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name} must be {least} and {most}, not {value!r}")
