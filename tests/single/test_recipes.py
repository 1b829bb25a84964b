import dataclasses
import json
import math
import re

import pytest

from hvd_imagenet.data.transforms import Augmentation, CentreCrop
from hvd_imagenet.recipes import RECIPES, Recipe, named, scaled_decay_epochs


def test_the_papers_numbers():
    recipe = named("resnet50_1hour")
    assert (recipe.model, recipe.minibatch, recipe.per_worker, recipe.epochs) == ("resnet50", 8192, 32, 90)
    assert (recipe.reference_lr, recipe.reference_minibatch, recipe.peak_lr) == (0.1, 256, 3.2)
    assert (recipe.warmup, recipe.warmup_epochs, recipe.warms_up) == ("gradual", 5, True)
    assert (recipe.schedule, recipe.decay_epochs, recipe.decay_factor) == ("step", (30, 60, 80), 0.1)
    assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, True, 1e-4)
    assert (recipe.zero_last_gamma, recipe.label_smoothing, recipe.clip_grad) == (True, 0.0, None)
    assert recipe.augmentation == Augmentation((0.08, 1.0), (3 / 4, 4 / 3), True)
    assert (recipe.image_size_px, recipe.centre_crop) == (224, CentreCrop(256))
    assert recipe.workers.workers == 256


@pytest.mark.parametrize(
    ("name", "changes"), [("resnet50_256", {"minibatch": 256}), ("resnet101_1hour", {"model": "resnet101"})]
)
def test_the_papers_other_runs_differ_in_one_thing(name, changes):
    assert named(name) == dataclasses.replace(Recipe(), **changes)


# He et al. 2016, section 4.2: 64,000 iterations of 128 images, 0.1 times a tenth after 32,000 and 48,000.
def test_resnet20_on_cifar():
    recipe = named("resnet20_cifar")
    assert (recipe.model, recipe.minibatch, recipe.workers.workers, recipe.peak_lr) == ("resnet20", 128, 2, 0.1)
    assert (recipe.momentum, recipe.nesterov, recipe.weight_decay, recipe.warms_up) == (0.9, False, 1e-4, False)
    assert recipe.workers.iterations(50_000, recipe.epochs) == pytest.approx(64_000, rel=2e-3)
    rates = {31_900: 0.1, 32_100: 0.01, 47_900: 0.01, 48_100: 0.001}
    for iteration, lr in rates.items():
        progress = recipe.workers.progress_epochs(iteration, 50_000)
        assert recipe.learning_rate(progress) == pytest.approx(lr, rel=1e-12)
    assert dataclasses.replace(recipe, minibatch=1024).warms_up


# Zagoruyko & Komodakis 2016, section 3: 200 epochs, 0.1 times 0.2 at 60, 120 and 160, weight decay 5e-4, Nesterov.
def test_the_wide_resnet20_on_cifar():
    recipe = named("resnet20x4_cifar")
    assert (recipe.model, recipe.minibatch, recipe.epochs, recipe.nesterov) == ("resnet20x4", 128, 200, True)
    assert recipe.weight_decay == 5e-4
    rates = {0: 0.1, 59.9: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008, 199: 0.0008}
    for epochs, lr in rates.items():
        assert recipe.learning_rate(epochs) == pytest.approx(lr, rel=1e-12)


def test_every_recipe_is_whole():
    for name, make in RECIPES.items():
        recipe = make()
        assert named(name) == recipe
        assert make.__doc__
        assert recipe.learning_rate(0) == (recipe.reference_lr if recipe.warms_up else recipe.peak_lr)
    assert not named("digits").horizontal_flip


# Section 5.1 with kn = 8192: 0.1 → 3.2 in 5 epochs, a tenth at 30, 60 and 80.
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {0: 0.1, 2.5: 1.65, 5: 3.2, 29.9: 3.2, 30: 0.32, 60: 0.032, 80: 0.0032, 89.9: 0.0032}),
        ({"warmup": "constant"}, {0: 0.1, 4.99: 0.1, 5: 3.2, 30: 0.32, 80: 0.0032}),
        ({"warmup": "none"}, {0: 3.2, 29.9: 3.2, 30: 0.32}),
        ({"minibatch": 256}, {0: 0.1, 29.9: 0.1, 30: 0.01, 60: 0.001, 80: 0.0001}),
        ({"minibatch": 128}, {0: 0.05, 30: 0.005}),
        ({"warmup_epochs": 0}, {0: 3.2, 30: 0.32}),
        ({"warmup_epochs": 2.5}, {0: 0.1, 1.25: 1.65, 2.5: 3.2, 29.9: 3.2}),
        ({"schedule": "cosine"}, {0: 0.1, 5: 3.2, 47.5: 1.6, 90: 0.0}),
        ({"schedule": "cosine", "warmup": "none"}, {0: 3.2, 45: 1.6, 90: 0.0}),
        ({"schedule": "cosine", "minibatch": 256}, {0: 0.1, 45: 0.05}),
        ({"warmup_epochs": 40}, {35: 0.1 + 3.1 * 35 / 40, 40: 0.32, 60: 0.032}),
    ],
)
def test_learning_rate(changes, expected):
    learning_rate = Recipe(**changes).learning_rate
    for epochs, lr in expected.items():
        assert learning_rate(epochs) == pytest.approx(lr, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("minibatch", "warmup", "warms_up"),
    [
        (8192, "gradual", True),
        (8192, "none", False),
        (256, "gradual", False),
        (288, "constant", True),
        (32, "constant", False),
    ],
)
def test_only_minibatches_beyond_the_reference_warm_up(minibatch, warmup, warms_up):
    assert Recipe(minibatch=minibatch, warmup=warmup).warms_up is warms_up


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minibatch": 0}, "minibatch must be an integer of 1 or more, not 0"),
        (
            {"minibatch": 100},
            "minibatch must be a multiple of per_worker, but 100 is not a multiple of 32; nearest: 96 or 128",
        ),
        ({"per_worker": -32}, "per_worker must be an integer of 1 or more, not -32"),
        ({"reference_minibatch": 0}, "reference_minibatch must be an integer of 1 or more, not 0"),
        ({"image_size_px": 22.4}, "image_size_px must be an integer of 1 or more, not 22.4"),
        (
            {"model": "vgg"},
            "model must be one of resnet50, resnet101, resnet20, resnet20x4, resnet8, resnet8_narrow, not 'vgg'",
        ),
        ({"warmup": "slow"}, "warmup must be one of gradual, constant, none, not 'slow'"),
        ({"schedule": "poly"}, "schedule must be one of step, cosine, not 'poly'"),
        ({"opt": "adam"}, "opt must be one of sgd, lars, not 'adam'"),
        ({"epochs": 0}, "epochs must be above 0 and finite, not 0"),
        ({"epochs": INF}, "epochs must be above 0 and finite, not inf"),
        ({"epochs": NAN}, "epochs must be above 0 and finite, not nan"),
        ({"reference_lr": 0.0}, "reference_lr must be above 0 and finite, not 0.0"),
        ({"decay_factor": -0.1}, "decay_factor must be above 0 and finite, not -0.1"),
        ({"weight_decay": -1e-4}, "weight_decay must be 0 or more and finite, not -0.0001"),
        ({"warmup_epochs": -1}, "warmup_epochs must be 0 or more and finite, not -1"),
        ({"momentum": 1.0}, "momentum must be 0 or more and below 1, not 1.0"),
        ({"momentum": -0.5}, "momentum must be 0 or more and below 1, not -0.5"),
        ({"momentum": 0}, "momentum must be above 0 with nesterov, not 0; leave nesterov out with --no-nesterov"),
        ({"label_smoothing": 1}, "label_smoothing must be 0 or more and below 1, not 1"),
        ({"clip_grad": 0}, "clip_grad must be above 0 and finite, not 0"),
        ({"model_ema_decay": 1.5}, "model_ema_decay must be 0 or more and below 1, not 1.5"),
        ({"pixel_std": (58.0, 0.0, 57.0)}, "pixel_std must be above 0 and finite, not 0.0"),
        ({"decay_epochs": (0, 30)}, "decay_epochs must be above 0 and finite, not 0"),
        ({"decay_epochs": (30, 20)}, "decay_epochs must ascend, not (30, 20)"),
        ({"validation_resize_px": 200}, "validation_resize_px must be image_size_px (224) or more, not 200"),
        (
            {"epochs": 4},
            "warmup_epochs must be less than epochs (4), not 5; shorten it with --warmup-epochs "
            "or leave it out with --warmup none",
        ),
        (
            {"area_range": (0.5, 0.1)},
            "area_range must be a pair (low, high) with 0 < low <= high <= 1, got (0.5, 0.1)",
        ),
        ({"opt": "lars", "trust_coefficient": 0}, "trust_coefficient must be above 0 and finite, not 0"),
        ({"trust_coefficient": 0.01}, "trust_coefficient must be left out with opt sgd: it is of lars"),
        ({"aspect_range": (0, 1)}, "aspect_range must be a pair (low, high) with 0 < low <= high, got (0, 1)"),
    ],
)
def test_messages(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Recipe(**changes)


def test_what_is_allowed_at_the_edges():
    Recipe(momentum=0, nesterov=False, weight_decay=0, label_smoothing=0, model_ema_decay=0)
    Recipe(epochs=4, warmup="none")
    Recipe(epochs=4, minibatch=256)
    Recipe(validation_resize_px=224)
    Recipe(decay_epochs=())


def test_hash_is_that_of_the_numbers_not_of_their_types():
    recipe = Recipe()
    same = dataclasses.replace(recipe, epochs=90.0, decay_epochs=(30.0, 60.0, 80.0), warmup_epochs=5.0)
    assert same.hash == recipe.hash
    read_back = json.loads(json.dumps(dataclasses.asdict(recipe)))
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in read_back.items()}
    assert Recipe(**fields).hash == recipe.hash
    assert re.fullmatch("[0-9a-f]{12}", recipe.hash)


def test_hash_changes_with_every_field():
    changes = {
        "model": "resnet101", "minibatch": 4096, "per_worker": 64, "epochs": 90.5, "reference_lr": 0.2,
        "reference_minibatch": 128, "warmup": "constant", "warmup_epochs": 4, "schedule": "cosine",
        "decay_epochs": (30, 60), "decay_factor": 0.2, "momentum": 0.8, "nesterov": False, "weight_decay": 0,
        "opt": "lars", "decay_batch_norm": True, "zero_last_gamma": False, "label_smoothing": 0.1,
        "clip_grad": 1.0, "model_ema_decay": 0.9,
        "image_size_px": 192, "validation_resize_px": 288, "area_range": (0.25, 1.0), "aspect_range": (1.0, 1.0),
        "horizontal_flip": False, "pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (1.0, 1.0, 1.0), "seed": 1,
    }  # fmt: skip
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert set(changes) == fields - {"trust_coefficient"}  # of lars alone
    hashes = {Recipe(**{name: value}).hash for name, value in changes.items()} | {Recipe().hash}
    assert len(hashes) == len(changes) + 1
    assert Recipe(opt="lars", trust_coefficient=0.002).hash not in hashes


def test_hashes_of_large_seeds_differ():
    assert Recipe(seed=2**60).hash != Recipe(seed=2**60 + 1).hash


def test_hash_is_frozen():
    # A checkpoint of an earlier version is refused if this changes.
    assert Recipe().hash == "ed0856226c75"


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("digit", "not 'digit'; nearest: digits, cluttered_digits"),
        ("resnet50", "not 'resnet50'; nearest: resnet50_256, resnet50_1hour, resnet20_cifar"),
        ("shape", "not 'shape'; nearest: shapes"),
        ("qqq", "not 'qqq'"),
        ("", "not ''"),
    ],
)
def test_unknown_names(name, ending):
    names = ["cluttered_digits", "digits", "resnet101_1hour", "resnet20_cifar", "resnet20x4_cifar", "resnet50_1hour"]
    message = f"recipe must be one of {', '.join(names)}, resnet50_256, shapes, {ending}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        named(name)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(90, (30, 60, 80)), (45, (15, 30, 40)), (9, (3, 6, 8)), (180.0, (60, 120, 160))]
)
def test_decay_epochs_keep_their_fraction(epochs, expected):
    assert scaled_decay_epochs(Recipe(), epochs) == pytest.approx(expected)
