"""NaN and infinity on one rank: all make the same decision before the update, and nothing of it is written."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from training_jobs import at_once, is_one_error, losses, newest, plan, rows, tensors, train

from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.listing import list_dataset

KERAS = ["--framework", "keras"]


def images_of(data: Path, rank: int, ranks: int, iteration: int) -> list[str]:
    listing, minibatch = list_dataset(data)[0], Minibatch(24, 2)
    workers = minibatch.placement(ranks)[rank]
    return [listing.name(image) for image in Stream(92, minibatch, seed=7).block(iteration, workers)[1].tolist()]


def listed(out: Path) -> list[tuple[str, str, str]]:
    with (out / "nonfinite.csv").open(newline="") as file:
        return [(row["iteration"], row["rank"], row["path"]) for row in csv.DictReader(file)]


def nothing_of_it_is_written(out: Path, iteration: int, saved: int) -> None:
    assert [row["iteration"] for row in rows(out)] == [str(t) for t in range(iteration)]
    assert newest(out) == saved
    for part in ("model", "momentum"):
        assert all(np.isfinite(tensor).all() for tensor in tensors(out, part).values())
    assert not (out / "summary.json").exists()


@pytest.mark.parametrize(
    ("rank", "what", "factor", "words"),
    [
        pytest.param(2, "loss", "nan", [], id="nan-on-rank-2"),
        pytest.param(1, "gradient", "inf", [], id="infinite-gradient", marks=pytest.mark.long),
        pytest.param(2, "loss", "nan", KERAS, id="keras", marks=pytest.mark.long),
    ],
)
def test_18_one_rank_stops_all(
    few_digits: Path, tmp_path: Path, rank: int, what: str, factor: str, words: list[str]
) -> None:
    out = tmp_path / "run"
    done = train(3, few_digits, out, *words, hooks=plan(poison=[[rank, 5, what, factor]]))
    concerned = images_of(few_digits, rank, 3, iteration=5)
    is_one_error(done, f"iteration 5: loss or gradient on rank {rank} (", f"is no finite number, of {concerned[0]}, ")
    assert f"{concerned[1]} and 6 more, listed in {out}/nonfinite.csv; lower --reference-lr, mend" in done.stderr
    assert listed(out) == [("5", str(rank), name) for name in concerned]
    nothing_of_it_is_written(out, iteration=5, saved=4)


@pytest.mark.long
@pytest.mark.parametrize("words", [[], KERAS], ids=["torch", "keras"])
def test_18_skipped_alike_on_any_number_of_ranks(few_digits: Path, tmp_path: Path, words: list[str]) -> None:
    words = [*words, "--dtype", "float64", "--skip-nonfinite", "2", "--max-iterations", "8", "--model-ema"]
    poison = [[0, 2, "loss", "nan"], [0, 6, "gradient", "inf"]]
    alone, on_three = tmp_path / "alone", tmp_path / "three"
    hooks = {on: plan(poison=[[on, *each[1:]] for each in poison]) for on in (0, 2)}
    jobs = at_once(
        lambda: train(1, few_digits, alone, *words, hooks=hooks[0]),
        lambda: train(3, few_digits, on_three, *words, hooks=hooks[2]),
    )
    for done, out, on in zip(jobs, (alone, on_three), hooks, strict=True):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "no update is made (2 of --skip-nonfinite 2)" in done.stdout
        assert json.loads((out / "summary.json").read_text())["nonfinite_skipped"] == 2
        assert [math.isnan(loss) for loss in losses(out)] == [t in (2, 6) for t in range(8)]
        assert {(t, rank) for t, rank, _ in listed(out)} == {("2", str(on)), ("6", str(on))}
    np.testing.assert_allclose(losses(on_three), losses(alone), rtol=1e-9)
    for part in ("model", "momentum", "model_ema"):
        for name, tensor in tensors(alone, part).items():
            assert np.isfinite(tensor).all()
            np.testing.assert_allclose(tensors(on_three, part)[name], tensor, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.long
def test_18_one_more_than_allowed(few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    hooks = plan(poison=[[1, t, "loss", "nan"] for t in (1, 2)])
    done = train(2, few_digits, out, "--skip-nonfinite", "1", hooks=hooks)
    is_one_error(done, "error: --skip-nonfinite 1: one more: iteration 2: loss or gradient on rank 1 (")
    assert math.isnan(losses(out)[1])
    assert len(losses(out)) == 2


@pytest.mark.long
def test_18_a_gradient_too_large_for_the_wire(few_digits: Path, tmp_path: Path) -> None:
    hooks = plan(poison=[[1, 2, "gradient", 1e9]])
    done = train(2, few_digits, tmp_path / "run", "--compression", "fp16", hooks=hooks)
    is_one_error(done, "iteration 2: the sum of the gradients is no finite number, though each process's own is; with")


@pytest.mark.long
@pytest.mark.parametrize("words", [[], KERAS], ids=["torch", "keras"])
def test_18_weights_that_are_no_numbers_are_never_written(few_digits: Path, tmp_path: Path, words: list[str]) -> None:
    """The gradient is finite, but the step is too long for float32; a checkpoint is due right after it."""
    out = tmp_path / "run"
    too_long = ["--reference-lr", "2e38", "--warmup", "none", "--checkpoint-interval", "1"]
    steep = plan(poison=[[rank, 0, "gradient", 1e3] for rank in (0, 1)])
    done = train(2, few_digits, out, *too_long, *words, hooks=steep)
    is_one_error(done, "weights, momentum or running averages are no finite numbers: no checkpoint is written")
    assert not list((out / "checkpoints").glob("iteration-*"))
