"""What do the check for numbers that are no numbers, and --deterministic, cost a step? On the cores of one machine.

The check is turned on and off in turns within one job, a few steps each, so that both cores are as busy for each; its
cost is the median over turns of (with / without) of neighbours. --deterministic is of a whole job, and of 4 ranks, as 2
have the same bits without it: jobs with and without it take turns.

    python benchmarks/safety_overhead.py --json benchmarks/results/safety_overhead.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from provenance import provenance
from turns import spread

RANKS, RANKS_OF_DETERMINISTIC = 2, 4
MODELS: dict[str, dict[str, Any]] = {
    "resnet8": {"per_worker": 8, "image_size_px": 32, "validation_resize_px": 32},
    "resnet20": {"per_worker": 32, "image_size_px": 32, "validation_resize_px": 32},
    "resnet50": {"per_worker": 8, "image_size_px": 224, "validation_resize_px": 256},
}
# Of a job of --deterministic: half of them have the check, and are compared.
TURNS_IN_PAIRS = 4
STEPS = {"resnet8": 2, "resnet20": 20, "resnet50": 2}
TURNS_OF_RESNET50 = 5


def of_rank(framework: str, model: str, turns: int, deterministic: str) -> None:
    """One rank of a job: prints the seconds of its steps in each turn, with the check and without it."""
    from hvd_imagenet.determinism import variables_for

    if deterministic == "yes":
        os.environ.update(variables_for(os.environ))
    seconds = (_turns_in_torch if framework == "torch" else _turns_in_keras)(model, turns, deterministic == "yes")
    if seconds is not None:
        print("SECONDS " + json.dumps(seconds), flush=True)


def _run(model: str, framework: str, communicator: Any) -> tuple[Any, ...]:
    from hvd_imagenet.recipes import Recipe
    from hvd_imagenet.run_config import RunConfig
    from hvd_imagenet.session import prepare

    minibatch = MODELS[model]["per_worker"] * communicator.size
    recipe = Recipe(model=model, warmup="none", reference_lr=0.001, minibatch=minibatch, **MODELS[model])
    out = Path(communicator.gather(tempfile.mkdtemp())[0])
    config = RunConfig(data=None, synthetic=True, framework=framework, out=out)
    return recipe, config, prepare(recipe, config, communicator)


def _turns_in_torch(model: str, turns: int, deterministic: bool) -> dict[str, list[float]] | None:
    import torch

    from hvd_imagenet.course import iterations
    from hvd_imagenet.torch import trainer as module
    from hvd_imagenet.torch.session import choose_device, join_job

    communicator = join_job()
    torch.use_deterministic_algorithms(deterministic)
    recipe, config, session = _run(model, "torch", communicator)
    trainer = module.Trainer(recipe, config, session, choose_device(communicator.local_rank))
    batches = next(iterations(trainer.run_state, config, session))
    check = module.all_finite
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(2 * turns + 1):
        name = "with" if turn % 2 else "without"
        module.all_finite = check if name == "with" else lambda tensors: True
        started_s = time.perf_counter()
        for _ in range(STEPS[model]):
            trainer.iterate(batches)
        if turn:  # the first one warms up
            seconds[name].append((time.perf_counter() - started_s) / STEPS[model])
    return seconds if communicator.rank == 0 else None


def _turns_in_keras(model: str, turns: int, deterministic: bool) -> dict[str, list[float]] | None:
    import tensorflow as tf

    from hvd_imagenet.course import iterations
    from hvd_imagenet.keras import network
    from hvd_imagenet.keras.session import choose_device, join_job
    from hvd_imagenet.keras.trainer import Trainer, _joined

    communicator = join_job()
    device = choose_device(communicator.local_rank)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    recipe, config, session = _run(model, "keras", communicator)
    trainer = Trainer(recipe, config, session, device)
    data = (*_joined(next(iterations(trainer.state, config, session))), trainer.state.notes(1))
    data = tuple(tf.constant(each) if index < 2 else tf.constant(each, tf.float64) for index, each in enumerate(data))
    steps = {"with": trainer.step}
    steps["with"](*data)  # traced
    guarded = network.Network.train_step

    def unguarded(self: Any, data: Any) -> Any:
        """As train_step was before: the update waits for no sum."""
        import horovod.tensorflow as hvd

        *images_and_labels, notes = data
        gradients, sums = self._accumulate(*images_and_labels)
        self.optimizer.apply(gradients, self.trainable_variables)
        reduced = hvd.allreduce(tf.concat([sums, notes], 0), op=hvd.Sum, name="without", ignore_name_scope=True)
        return {"sums": reduced}

    network.Network.train_step = unguarded  # type: ignore[method-assign]
    steps["without"] = tf.function(lambda *data: trainer.network.train_step(data), autograph=False)
    steps["without"](*data)
    network.Network.train_step = guarded  # type: ignore[method-assign]
    seconds: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(2 * turns + 1):
        name = "with" if turn % 2 else "without"
        started_s = time.perf_counter()
        for _ in range(STEPS[model]):
            float(steps[name](*data)["sums"][1])
        if turn:
            seconds[name].append((time.perf_counter() - started_s) / STEPS[model])
    return seconds if communicator.rank == 0 else None


def job(framework: str, model: str, turns: int, deterministic: bool, ranks: int = RANKS) -> dict[str, list[float]]:
    words = [sys.executable, __file__, "--rank", framework, model, str(turns), "yes" if deterministic else "no"]
    launch = [sys.executable, "-m", "hvd_imagenet", "launch", "-np", str(ranks), "--", *words]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("SECONDS "):
            return dict(json.loads(line.removeprefix("SECONDS ")))
    raise RuntimeError(f"{' '.join(launch)}\n{done.stdout}\n{done.stderr}")


def check(framework: str, model: str, turns: int, ranks: int = RANKS) -> dict[str, Any]:
    """What the check costs, in one job."""
    seconds = job(framework, model, turns, deterministic=False, ranks=ranks)
    ratios = [a / b for a, b in zip(seconds["with"], seconds["without"], strict=True)]
    found = spread(ratios)
    result = {
        "step_seconds": statistics.median(seconds["with"]),
        "with_over_without": found["median"],
        "quartiles": found["quartiles"],
        "turns": ratios,
    }
    print(f"{framework} {model}: the check:", result, flush=True)
    return result


def deterministic(framework: str, jobs: int) -> dict[str, Any]:
    """What --deterministic costs, in pairs of jobs."""
    pairs = []
    for number in range(jobs):
        order = (True, False) if number % 2 else (False, True)
        medians = {
            chosen: statistics.median(
                job(framework, "resnet20", TURNS_IN_PAIRS, chosen, RANKS_OF_DETERMINISTIC)["with"]
            )
            for chosen in order
        }
        pairs.append(medians[True] / medians[False])
    result = {"with_over_without": statistics.median(pairs), "jobs": pairs}
    print(f"{framework} resnet20: --deterministic:", result, flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--turns", type=int, default=20, help="of each kind in a job")
    parser.add_argument("--jobs", type=int, default=4, help="of each kind, for --deterministic")
    parser.add_argument("--quick", action="store_true", help="the check alone, ResNet-8 on one rank: seconds")
    parser.add_argument("--rank", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        framework, model, turns, chosen = arguments.rank
        of_rank(framework, model, int(turns), chosen)
        return
    results: dict[str, Any] = {}
    if arguments.quick:
        results["torch_resnet8_check"] = check("torch", "resnet8", turns=2, ranks=1)
    else:
        for framework, model in (("torch", "resnet20"), ("torch", "resnet50"), ("keras", "resnet20")):
            turns = arguments.turns if model == "resnet20" else TURNS_OF_RESNET50
            results[f"{framework}_{model}_check"] = check(framework, model, turns)
        for framework in ("torch", "keras"):
            results[f"{framework}_resnet20_deterministic"] = deterministic(framework, arguments.jobs)
    words = "1 rank" if arguments.quick else f"{RANKS} ranks, {RANKS_OF_DETERMINISTIC} with and without --deterministic"
    ratios = {name: round(1 / found["with_over_without"], 3) for name, found in results.items()}
    if arguments.json:
        result = {**provenance(words), "ratios": ratios, **results}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
