"""Does the validation error move when training crops are decoded in part, instead of by Pillow in full?

The same short trainings, a seed each, with either decoder; validation images are decoded in full quality by both. The
shapes are drawn at 128 pixels and shown at 32, so that most of their crops are decoded at 1/2.

    python benchmarks/decoder_error.py --json benchmarks/results/decoder_error.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from provenance import provenance

COMMAND = [sys.executable, "-m", "hvd_imagenet"]
# Data set: options of make-dataset, options of train.
Options = tuple[list[str], list[str]]
STUDIES: dict[str, Options] = {
    "digits": (["--source", "digits"], ["--recipe", "digits"]),
    "shapes": (
        ["--source", "shapes", "--images", "2000", "--size", "128"],
        ["--recipe", "digits", "--epochs", "20", "--area-range", "0.4", "1"],
    ),
}
QUICK: dict[str, Options] = {
    "shapes": (
        ["--source", "shapes", "--images", "64", "--size", "64"],
        ["--recipe", "digits", "--epochs", "1", "--warmup", "none"],
    )
}
DECODERS = {"partial": "", "pillow": "pillow"}
ERROR = "val_error_median_last5"


def error_of(data: Path, options: list[str], decoder: str, seed: int, out: Path) -> float:
    """Of one training, in percent."""
    words = [*COMMAND, "train", "--data", str(data), *options, "--seed", str(seed), "--out", str(out)]
    environment = {**os.environ, "HVD_IMAGENET_DECODER": DECODERS[decoder], "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    error = float(json.loads((out / "summary.json").read_text())[ERROR])
    print(f"{data.name} seed {seed} {decoder}: {error} %", flush=True)
    return error


def study(name: str, of: Options, seeds: int, folder: Path) -> dict[str, list[float]]:
    made, options = of
    data = folder / name
    subprocess.run([*COMMAND, "make-dataset", str(data), *made], check=True, stdout=subprocess.DEVNULL)
    return {
        decoder: [error_of(data, options, decoder, seed, folder / f"{name}-{decoder}-{seed}") for seed in range(seeds)]
        for decoder in DECODERS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="one epoch of 64 images, one seed: seconds")
    arguments = parser.parse_args()
    studies, seeds = (QUICK, 1) if arguments.quick else (STUDIES, arguments.seeds)
    with tempfile.TemporaryDirectory() as folder:
        errors = {name: study(name, of, seeds, Path(folder)) for name, of in studies.items()}
    means = {
        name: {decoder: round(statistics.mean(each), 2) for decoder, each in of.items()} for name, of in errors.items()
    }
    print(json.dumps(means, indent=1))
    if arguments.json:
        result = {**provenance("one process"), "measure": f"{ERROR}, %", "means": means, "errors_by_seed": errors}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
