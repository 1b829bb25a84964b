"""NaN and infinity on one rank: all make the same decision before the update, and nothing of it is written."""

import csv
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from ranks import program, run
from training_jobs import at_once, is_one_error, losses, newest, plan, rows, tensors, train

from hvd_imagenet.checkpoint import load
from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.listing import list_dataset

KERAS = ["--framework", "keras"]
SCALED_LOOP = """\
import horovod.torch as hvd
import torch
from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.torch import DistributedOptimizer, abort_job_on_exception

hvd.init()
abort_job_on_exception()
model = torch.nn.Linear(3, 1, bias=False)
torch.nn.init.ones_(model.weight)
optimizer = DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters(), Minibatch(3, 1))
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for iteration in range(4):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = model(torch.ones(1, 3)).sum()
    scaler.scale(loss * (float("inf") if (iteration, hvd.rank()) == (2, 2) else 1)).backward()
    optimizer.synchronize()
    scaler.unscale_(optimizer)
    with optimizer.skip_synchronize():
        scaler.step(optimizer)
    scaler.update()
    print(f"rank {hvd.rank()}: {iteration} {scaler.get_scale():g} {model.weight.sum().item():.2f}", flush=True)
"""


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
    ("what", "rank", "words"),
    [
        pytest.param("nan", 2, [], id="nan-on-rank-2"),
        pytest.param("inf", 1, [], id="infinite-gradient", marks=pytest.mark.long),
        pytest.param("nan", 2, KERAS, id="keras", marks=pytest.mark.long),
    ],
)
def test_18_one_rank_stops_all(few_digits: Path, tmp_path: Path, what: str, rank: int, words: list[str]) -> None:
    out = tmp_path / "run"
    done = train(3, few_digits, out, *words, injected=plan(f"{what}@{rank}:5"))
    concerned = images_of(few_digits, rank, 3, iteration=5)
    is_one_error(done, f"iteration 5: loss or gradient on rank {rank} (", f"is no finite number, of {concerned[0]}, ")
    assert f"{concerned[1]} and 6 more, listed in {out}/nonfinite.csv; lower --reference-lr, mend" in done.stderr
    assert listed(out) == [("5", str(rank), name) for name in concerned]
    nothing_of_it_is_written(out, iteration=5, saved=4)


@pytest.mark.long
@pytest.mark.parametrize("words", [[], KERAS], ids=["torch", "keras"])
def test_18_skipped_alike_on_any_number_of_ranks(few_digits: Path, tmp_path: Path, words: list[str]) -> None:
    words = [*words, "--dtype", "float64", "--skip-nonfinite", "2", "--max-iterations", "8", "--model-ema"]
    alone, on_three = tmp_path / "alone", tmp_path / "three"
    injected = {on: plan(f"nan@{on}:2", f"inf@{on}:6") for on in (0, 2)}
    jobs = at_once(
        lambda: train(1, few_digits, alone, *words, injected=injected[0]),
        lambda: train(3, few_digits, on_three, *words, injected=injected[2]),
    )
    for done, out, on in zip(jobs, (alone, on_three), injected, strict=True):
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
@pytest.mark.parametrize("words", [[], KERAS], ids=["torch", "keras"])
def test_18_what_is_skipped_leaves_all_as_it_was_and_one_more_is_not_allowed(
    few_digits: Path, tmp_path: Path, words: list[str]
) -> None:
    """The forward pass is spoiled on one rank; that of the other moves its running averages as ever."""
    out = tmp_path / "run"
    words = [*words, "--skip-nonfinite", "2", "--model-ema", "--checkpoint-interval", "2"]
    spoiled = ("nan-activations@1:2", "nan-activations@0:3", "nan@1:5")
    done = train(2, few_digits, out, *words, injected=plan(*spoiled))
    is_one_error(done, "error: --skip-nonfinite 2: one more: iteration 5: loss or gradient on rank 1 (")
    assert [t for t, loss in enumerate(losses(out)) if math.isnan(loss)] == [2, 3]
    assert len(losses(out)) == 5
    before, after = (load(out / "checkpoints" / f"iteration-{iteration:08d}").tensors for iteration in (2, 4))
    assert any("running_" in name for name in before["model"])
    for part in ("model", "momentum", "model_ema"):
        for name, tensor in before[part].items():
            np.testing.assert_array_equal(after[part][name], tensor, err_msg=f"{part} {name}")


@pytest.mark.long
def test_18_inf_under_loss_scaling(tmp_path: Path) -> None:
    """On rank 2 alone, in a loop of one's own: no rank makes this step, and all halve their scale."""
    (tmp_path / "loop.py").write_text(SCALED_LOOP)
    done = run([*program("launch", "-np", "3", "--"), sys.executable, str(tmp_path / "loop.py")], timeout_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = ["0 1024 2.70", "1 1024 2.40", "2 512 2.40", "3 512 2.10"]
    found = sorted(line for line in done.stdout.splitlines() if line.startswith("rank "))
    assert found == [f"rank {rank}: {step}" for rank in range(3) for step in steps]


@pytest.mark.long
def test_18_a_gradient_too_large_for_the_wire(few_digits: Path, tmp_path: Path) -> None:
    done = train(2, few_digits, tmp_path / "run", "--compression", "fp16", injected=plan("over-fp16@1:2"))
    is_one_error(done, "iteration 2: the sum of the gradients is no finite number, though each process's own is; with")


@pytest.mark.long
@pytest.mark.parametrize("words", [[], KERAS], ids=["torch", "keras"])
def test_18_weights_that_are_no_numbers_are_never_written(few_digits: Path, tmp_path: Path, words: list[str]) -> None:
    """A gradient is finite, but the step too long for float32; or their average is none. A checkpoint is due then."""
    outs, words = [tmp_path / "weights", tmp_path / "average"], [*words, "--checkpoint-interval", "1"]
    too_long = ["--reference-lr", "2e38", "--warmup", "none"]
    steep, average = plan("steep@0:0", "steep@1:0"), plan("nan-average@0:0", "nan-average@1:0")
    jobs = at_once(
        lambda: train(2, few_digits, outs[0], *too_long, *words, injected=steep),
        lambda: train(2, few_digits, outs[1], "--model-ema", *words, injected=average),
    )
    for done, out in zip(jobs, outs, strict=True):
        is_one_error(done, "weights, momentum or running averages are no finite numbers: no checkpoint is written")
        assert not list((out / "checkpoints").glob("iteration-*"))
