"""Run folders as `train` writes them, with numbers that tests can compute by hand."""

import dataclasses
import math

from hvd_imagenet.recipes import named
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.run_folder import RunFolder
from hvd_imagenet.session import config_of

IMAGES = 1000


def recipe_of(**changes):
    """Digits, in 4 epochs of 10 iterations of 100 images unless told otherwise."""
    options = {"minibatch": 100, "per_worker": 10, "epochs": 4, "warmup_epochs": 1, "decay_epochs": (2, 3)}
    return dataclasses.replace(named("digits"), **{**options, **changes})


def make_run(path, errors=(40.0, 30.0, 20.0, 10.0), iterations=None, resumed=0, framework="torch", data="d", **changes):
    """A run folder; finished if it has an error for each epoch and all iterations.

    Args:
        path: made.
        errors: validation error in percent, an epoch each; the training error is 5 more.
        iterations: rows of iterations.csv; those of the epochs if None.
        resumed: iteration that the summary says it was resumed from.
        framework: of the configuration.
        data: folder of images.
        changes: of the recipe, or options of RunConfig.

    Returns:
        The path.
    """
    options = {name: changes.pop(name) for name in list(changes) if name in RunConfig.__dataclass_fields__}
    recipe = recipe_of(**changes)
    path.mkdir(parents=True)
    config = RunConfig(data=data, framework=framework, recipe_name="digits", **options)
    folder = RunFolder(path, config_of(recipe, config))
    an_epoch = math.ceil(IMAGES / recipe.minibatch)
    count = len(errors) * an_epoch if iterations is None else iterations
    for iteration in range(count):
        epoch = iteration * recipe.minibatch / IMAGES
        folder.iteration(iteration, epoch, 0.1, 2.0 / (1 + iteration))
        done = (iteration + 1) // an_epoch
        if (iteration + 1) % an_epoch == 0 and done <= len(errors):
            folder.epoch(epoch_row(done - 1, iteration, errors[done - 1]))
    whole = recipe.workers.iterations(IMAGES, recipe.epochs)
    finished = count >= min(whole, options.get("max_iterations") or whole)
    folder.close(summary_of(recipe, errors, count, resumed, framework) if finished else None)
    return path


def epoch_row(epoch, iteration, error):
    return {
        "epoch": epoch,
        "iteration": iteration,
        "lr": 0.1,
        "train_loss": 1.0,
        "train_error": error + 5,
        "val_loss": 1.0,
        "val_error": error,
        "val_error_top5": error / 10,
        "images_per_second": 1000 + 100 * epoch,
        "data_wait_percent": "",
    }


def summary_of(recipe, errors, iterations, resumed=0, framework="torch"):
    last = sorted(errors[-5:])
    half = len(last) // 2
    median = last[half] if len(last) % 2 else (last[half - 1] + last[half]) / 2
    return {
        "val_error_median_last5": median,
        "val_error_final": errors[-1],
        "iterations": iterations,
        "images": IMAGES,
        "minibatch": recipe.minibatch,
        "per_worker": recipe.per_worker,
        "workers": recipe.workers.workers,
        "processes": 2,
        "framework": framework,
        "recipe_hash": recipe.hash,
        "resumed_from_iteration": resumed,
        "bad_images": 0,
        "nonfinite_skipped": 0,
    }
