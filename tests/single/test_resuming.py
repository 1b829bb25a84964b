import dataclasses
import json
import re
from pathlib import Path

import pytest

from hvd_imagenet import checkpoint as checkpoints
from hvd_imagenet.checkpoint import Checkpoint
from hvd_imagenet.errors import UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.resuming import check_same_run, choose_checkpoint
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.training_run import TrainingRun


def _checkpoint(folder, iteration):
    return checkpoints.save(folder, Checkpoint(iteration, {"model": {}, "momentum": {}}))


def test_choose_checkpoint(tmp_path):
    empty, there, elsewhere = tmp_path / "empty", tmp_path / "there", tmp_path / "elsewhere"
    _checkpoint(there, 5)
    newest, other = _checkpoint(there, 10), _checkpoint(elsewhere, 7)

    def choose(out, resume):
        found = choose_checkpoint(RunConfig(data=Path("d"), out=out, resume=str(resume)))
        assert (found.path is None) == (found.checkpoint is None)
        return found.path

    assert choose(None, "auto") is None
    assert choose(empty, "auto") is None
    assert choose(there, "auto") == newest
    assert choose(None, "never") is None
    assert choose(empty, "never") is None
    assert choose(empty, elsewhere) == other
    assert choose(None, elsewhere) == other
    assert choose(empty, newest.with_name("iteration-00000005")).name == "iteration-00000005"
    message = f"--out {there} holds a run already; go on with it (--resume auto) or choose another folder"
    for resume in ("never", elsewhere):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            choose(there, resume)
    with pytest.raises(UserError, match=f"^checkpoint {re.escape(str(empty))}: no such folder$"):
        choose(None, empty)


def _manifest(recipe, data_fingerprint="data"):
    run = TrainingRun(recipe, 10, None, 1, log=lambda line: None)
    return json.loads(json.dumps(run.manifest(0.1, data_fingerprint, "torch", {})))


def test_the_same_run_is_accepted():
    recipe = Recipe()
    check_same_run(Path("c"), _manifest(recipe), recipe, "data")
    check_same_run(Path("c"), _manifest(recipe), dataclasses.replace(recipe, epochs=90.0), "data")


REMEDY = "use the same options, or start anew with another --out"


@pytest.mark.parametrize(
    ("changes", "data_fingerprint", "message"),
    [
        ({"seed": 3}, "data", f"checkpoint c is of another recipe: seed 0 there, 3 here; {REMEDY}"),
        (
            {"minibatch": 4096, "epochs": 45},
            "data",
            f"checkpoint c is of another recipe: minibatch 8192 there, 4096 here; epochs 90 there, 45 here; {REMEDY}",
        ),
        (
            {"decay_epochs": (10, 20)},
            "data",
            f"checkpoint c is of another recipe: decay_epochs [30, 60, 80] there, [10, 20] here; {REMEDY}",
        ),
        (
            {"model": "resnet101"},
            "data",
            f"checkpoint c is of another model: model resnet50 there, resnet101 here; {REMEDY}",
        ),
        (
            {},
            "other",
            "checkpoint c is of other data: the names or classes of the training images differ; "
            "give the same --data and --train-list, or start anew with another --out",
        ),
    ],
)
def test_another_run_is_refused(changes, data_fingerprint, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_same_run(Path("c"), _manifest(Recipe()), dataclasses.replace(Recipe(), **changes), data_fingerprint)
