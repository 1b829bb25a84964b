import dataclasses
import re

import pytest

from hvd_imagenet.cli import Parser
from hvd_imagenet.commands import train_options
from hvd_imagenet.commands.recipe_options import recipe_of
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe


def _arguments(line):
    parser = Parser(prog="hvd-imagenet train")
    train_options.add_arguments(parser)
    return parser.parse_args(line.split())


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("--minibatch 1024 --per-worker 64", {"minibatch": 1024, "per_worker": 64}),
        ("--epochs 45", {"epochs": 45, "decay_epochs": (15, 30, 40)}),
        ("--epochs 45 --decay-epochs 20 40", {"epochs": 45, "decay_epochs": (20, 40)}),
        ("--reference-lr .05 --reference-minibatch 128", {"reference_lr": 0.05, "reference_minibatch": 128}),
        ("--warmup constant --warmup-epochs 2.5", {"warmup": "constant", "warmup_epochs": 2.5}),
        ("--schedule cosine --decay-factor 0.2", {"schedule": "cosine", "decay_factor": 0.2}),
        ("--momentum 0.95 --no-nesterov", {"momentum": 0.95, "nesterov": False}),
        ("--weight-decay 5e-5 --no-zero-last-gamma", {"weight_decay": 5e-5, "zero_last_gamma": False}),
        ("--label-smoothing 0.1 --clip-grad 1", {"label_smoothing": 0.1, "clip_grad": 1.0}),
        ("--model-ema", {"model_ema_decay": 0.9998}),
        ("--model-ema-decay 0.99", {"model_ema_decay": 0.99}),
        ("--model-ema --model-ema-decay 0.99", {"model_ema_decay": 0.99}),
        ("--no-model-ema --model-ema-decay 0.99", {}),
        ("--image-size 160 --validation-resize 192", {"image_size_px": 160, "validation_resize_px": 192}),
        ("--area-range 0.25 1 --aspect-range 1 1", {"area_range": (0.25, 1.0), "aspect_range": (1.0, 1.0)}),
        ("--no-horizontal-flip --seed 7", {"horizontal_flip": False, "seed": 7}),
        ("--pixel-mean 1 2 3 --pixel-std 4 5 6", {"pixel_mean": (1.0, 2.0, 3.0), "pixel_std": (4.0, 5.0, 6.0)}),
        ("--model resnet101 --opt sgd", {"model": "resnet101"}),
        ("--opt lars --trust-coefficient 0.002", {"opt": "lars", "trust_coefficient": 0.002}),
        ("--decay-batch-norm", {"decay_batch_norm": True}),
    ],
)
def test_options_change_the_recipe(line, changes):
    assert recipe_of(_arguments(line)) == ("resnet50_1hour", dataclasses.replace(Recipe(), **changes))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--minibatch 100",
            "minibatch must be a multiple of per_worker, but 100 is not a multiple of 32; nearest: 96 or 128",
        ),
        ("--minibatch -32", "minibatch must be an integer of 1 or more, not -32"),
        (
            "--recipe digit",
            "recipe must be one of cluttered_digits, digits, resnet101_1hour, resnet20_cifar, resnet20x4_cifar, "
            "resnet50_1hour, resnet50_256, shapes, not 'digit'; nearest: digits, cluttered_digits",
        ),
        (
            "--epochs 3",
            "warmup_epochs must be less than epochs (3), not 5; shorten it with --warmup-epochs "
            "or leave it out with --warmup none",
        ),
        ("--epochs 0", "epochs must be above 0 and finite, not 0.0"),
        ("--epochs -1", "epochs must be above 0 and finite, not -1.0"),
        ("--momentum 0", "momentum must be above 0 with nesterov, not 0; leave nesterov out with --no-nesterov"),
        ("--decay-epochs 30 20", "decay_epochs must ascend, not (30.0, 20.0)"),
        ("--pixel-std 1 0 1", "pixel_std must be above 0 and finite, not 0.0"),
        ("--image-size 300", "validation_resize_px must be image_size_px (300) or more, not 256"),
        ("--model-ema-decay 1", "model_ema_decay must be 0 or more and below 1, not 1.0"),
        ("--clip-grad nan", "clip_grad must be above 0 and finite, not nan"),
    ],
)
def test_messages(line, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        recipe_of(_arguments(line))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "--data is missing: name a folder, or make one: hvd-imagenet make-dataset DIR --source digits"),
        ("--data d --max-iterations 0", "--max-iterations must be an integer of 1 or more, not 0"),
        ("--data d --checkpoint-interval -1", "--checkpoint-interval must be an integer of 1 or more, not -1"),
        ("--data d --workers-per-pass 0", "--workers-per-pass must be an integer of 1 or more, not 0"),
        ("--data d --threads 0", "--threads must be an integer of 1 or more, not 0"),
    ],
)
def test_messages_of_train(line, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        train_options.run_config_of(_arguments(line), "digits")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--model vgg", "argument --model: invalid choice: 'vgg' (choose from"),
        ("--minibatch 8k", "argument --minibatch: invalid int value: '8k'; see: hvd-imagenet train --help"),
        ("--area-range 1", "argument --area-range: expected 2 arguments; see: hvd-imagenet train --help"),
        ("--bogus", "unrecognized arguments: --bogus; see: hvd-imagenet train --help"),
        ("--dtype float16", "argument --dtype: invalid choice: 'float16' (choose from"),
    ],
)
def test_messages_of_the_parser(line, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        _arguments(line)
