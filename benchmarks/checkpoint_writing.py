"""How long does a step wait for checkpoints of ResNet-50, and how much slower is training beside their writer?

One process, random images in memory. Spans of equal numbers of iterations take turns: without a checkpoint, with one
that the trainer writes in the background, and with one that it waits for. The interval is 40 s, an epoch of the
paper's one hour. A checkpoint is 205 MB: weights, averages and momentum in float32.

    python benchmarks/checkpoint_writing.py --json benchmarks/results/checkpoint_writing.json
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from provenance import provenance
from step_loops import CLASSES, random_batch

from hvd_imagenet.data.listing import Listing
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import Session
from hvd_imagenet.torch.session import choose_device, join_job
from hvd_imagenet.torch.trainer import Trainer

KINDS = ("without", "background", "synchronous")
WARM_UP = 3


def make_trainer(folder: Path, model: str, image_size: int, images: int) -> Trainer:
    communicator = join_job()
    recipe = Recipe(
        model=model, minibatch=images, per_worker=images, image_size_px=image_size, validation_resize_px=image_size,
        warmup="none",
    )  # fmt: skip
    fake = Listing(Path(), tuple(map(str, range(CLASSES))), np.array([b""] * 10**6), np.zeros(10**6, dtype=np.int64))
    config = RunConfig(data=Path(), out=folder, channels_last=True)
    session = Session(communicator, fake, fake, "", range(1), folder, None, None)
    return Trainer(recipe, config, session, choose_device(communicator.local_rank))


def span(
    trainer: Trainer, batches: list[tuple[np.ndarray, np.ndarray]], iterations: int, kind: str
) -> dict[str, float]:
    """Seconds of a span and, of these, of waiting for the checkpoint that it begins with."""
    start_s, waited_s = time.perf_counter(), 0.0
    for iteration in range(iterations):
        trainer.iterate(batches)
        if iteration == 0 and kind != "without":
            before_s = time.perf_counter()
            trainer._save()
            if kind == "synchronous":
                trainer.run_state.writer.wait()
            waited_s = time.perf_counter() - before_s
    seconds = time.perf_counter() - start_s
    trainer.run_state.writer.wait()
    return {"seconds": seconds, "waited": waited_s}


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Medians over rounds: what a step waits, in percent of the interval, and how much longer a span takes."""

    def percent(kind: str, value: str) -> float:
        if value == "waited":
            shares = [taken[kind]["waited"] / taken["without"]["seconds"] for taken in rounds]
        else:
            shares = [taken[kind]["seconds"] / taken["without"]["seconds"] - 1 for taken in rounds]
        return round(100 * statistics.median(shares), 3)

    return {
        f"{kind}_{value}_percent": percent(kind, name)
        for kind in KINDS[1:]
        for value, name in (("wait", "waited"), ("slowdown", "seconds"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--interval-s", type=float, default=40.0)
    parser.add_argument("--quick", action="store_true", help="ResNet-8, one round, an interval of 0.2 s: seconds")
    arguments = parser.parse_args()
    model, image_size = ("resnet8", 32) if arguments.quick else ("resnet50", 128)
    if arguments.quick:
        arguments.rounds, arguments.interval_s = 1, 0.2
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(Path(folder), model, image_size, images=8)
        batches = [random_batch(8, image_size)]
        times = []
        for _ in range(WARM_UP + 3):
            start_s = time.perf_counter()
            trainer.iterate(batches)
            times.append(time.perf_counter() - start_s)
        iterations = max(2, round(arguments.interval_s / statistics.median(times[WARM_UP:])))
        rounds = []
        for number in range(arguments.rounds):
            order = KINDS[number % 3 :] + KINDS[: number % 3]
            rounds.append({kind: span(trainer, batches, iterations, kind) for kind in order})
            print(json.dumps(rounds[-1]), flush=True)
        trainer.run_state.writer.wait()
    found = summary(rounds)
    print(json.dumps(found, indent=1))
    if arguments.json:
        waits = [round(taken["synchronous"]["waited"] / taken["background"]["waited"], 3) for taken in rounds]
        ratios = {"wait_background_vs_synchronous": statistics.median(waits)}
        result = {**provenance("1 process of 1 thread"), "ratios": ratios, **found}
        result |= {"iterations_of_a_span": iterations, "rounds": rounds}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
