"""TrainingRuns without a framework: iterations whose numbers are made up."""

from hvd_imagenet.core.metrics import Sums
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.training_run import TrainingRun

VALIDATION = Sums(images=10, loss=20.0, correct=8, correct_top5=9)


def recipe_of(minibatch, epochs):
    return Recipe(minibatch=minibatch, per_worker=1, epochs=epochs, warmup="none")


def iterate(run, loss=1.0):
    size = run.recipe.minibatch
    run.record(run.iteration, 0.1, Sums(size, size * loss, size / 2, size))
    run.iteration += 1


def walk(run, until=None):
    """Goes on to the end, or to an iteration; returns (iteration, epoch) of every row."""
    rows = []
    while run.iteration < (until or run.stop_at):
        iterate(run)
        due = run.rows_due()
        if due:
            run.end_epochs(due, lr=0.1, speed=100.0, validation=VALIDATION)
        rows += [(run.iteration - 1, epoch) for epoch in due]
    return rows


def run_of(images, minibatch, epochs, folder=None, max_iterations=None):
    recipe = recipe_of(minibatch, epochs)
    total = recipe.workers.iterations(images, epochs)
    return TrainingRun(recipe, images, folder, min(total, max_iterations or total), log=lambda line: None)
