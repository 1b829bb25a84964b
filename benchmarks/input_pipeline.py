"""Is our reader as fast as the others, and how near is it to the limit of JPEG decoding?

JPEGs of 500 x 375 pixels and 55 kB, made here, to random-resized crops of 224 pixels, flips, batches of 32; on one core
and on two. All are in processes of their own, confined to as many cores as they have threads, and take turns, between
which they are stopped; before or after each turn of a peer is one of ours. A rate is the median over all turns; a ratio
the median of (our rate / the peer's) over such pairs, so higher is better for us:

- vs_pil, vs_dali, vs_tf_data, vs_opencv_threads: on one core; with _2_threads: on two. TensorFlow's own sampling takes
  smaller crops than the others' (in the mean 0.39 of the image against 0.44), which are less to decode;
  vs_tf_data_same_crops is against tf.data with crops like everyone else's;
- of_entropy_limit: our rate / that of decoding the same images at 1/8 with the libjpeg-turbo that ours uses;
  of_entropy_limit_simplejpeg: the same with the one in simplejpeg's wheel;
- second_thread: our rate with two threads on two cores / with one on one;
- packed_vs_folder: the same images packed with --max-side 400 / in their folder, one core.

    make bench, or: .venv-bench/bin/python benchmarks/input_pipeline.py --json benchmarks/results/input_pipeline.json
"""

import argparse
import importlib.metadata
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import input_images
import psutil
from input_contestants import BATCH, CONTESTANTS
from provenance import provenance
from tqdm import tqdm

from hvd_imagenet.data.jpeg import decoder_name

WORKER = str(Path(__file__).with_name("input_contestants.py"))
IMAGES = 192
PACKAGES = ("numpy", "nvidia-dali-cuda120", "opencv-python-headless", "pillow", "simplejpeg", "tensorflow-cpu", "torch")
THREADS = (1, 2)
# Name, threads.
Lane = tuple[str, int]
# The turns of pairs of lanes, ours first.
Taken = dict[tuple[Lane, Lane], list[tuple[dict[str, float], dict[str, float]]]]


class Contestant:
    """A process that waits for its turns."""

    def __init__(self, lane: Lane, folder: Path) -> None:
        name, threads = lane
        pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **dict.fromkeys(pools, str(threads))}
        command = [sys.executable, WORKER, name, str(folder), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._answer() != "ready":
            raise RuntimeError(f"{' '.join(command)} does not work; its messages are above")
        self._signal(signal.SIGSTOP)

    def turn(self, batches: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        self._process.stdin.write(f"{batches}\n")
        self._process.stdin.flush()
        answer = json.loads(self._answer())
        self._signal(signal.SIGSTOP)
        return answer

    def end(self) -> None:
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        self._process.stdin.close()
        self._process.wait()

    def _signal(self, number: int) -> None:
        """Stops or continues it with all that it has started: read-ahead without limit would run in others' turns."""
        for process in (this := psutil.Process(self._process.pid), *this.children(recursive=True)):
            process.send_signal(number)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(("ready", "{")):
                return line.strip()
        return ""


def pairs() -> list[tuple[Lane, Lane]]:
    """Ours and the lane that it is compared with: its peers on one core and on two, and itself with a second thread."""
    peers = [name for name in CONTESTANTS if name != "ours"]
    return [(("ours", threads), (name, threads)) for threads in THREADS for name in peers] + [
        (("ours", 1), ("ours", 2))
    ]


def measure(folder: Path, packed: Path, rounds: int, batches: int) -> Taken:
    lanes = {lane for pair in pairs() for lane in pair}
    contestants = {lane: Contestant(lane, packed if "packed" in lane[0] else folder) for lane in sorted(lanes)}
    taken: Taken = {pair: [] for pair in pairs()}
    turns = [pair for number in range(rounds) for pair in pairs()[:: 1 if number % 2 else -1]]
    for number, pair in enumerate(tqdm(turns, desc="turns", disable=not sys.stderr.isatty())):
        order = pair if number % 2 else pair[::-1]
        turn = {lane: contestants[lane].turn(batches) for lane in order}
        taken[pair].append((turn[pair[0]], turn[pair[1]]))
    for contestant in contestants.values():
        contestant.end()
    return taken


def ratio(taken: Taken, ours: Lane, other: Lane, what: str = "seconds") -> float:
    return round(statistics.median(theirs[what] / our[what] for our, theirs in taken[ours, other]), 3)


def ratios_of(taken: Taken) -> dict[str, float]:
    ratios = {}
    for threads in THREADS:
        suffix = "" if threads == 1 else f"_{threads}_threads"
        ours = ("ours", threads)
        for peer in ("pil", "dali", "tf_data", "tf_data_same_crops", "opencv_threads"):
            ratios[f"vs_{peer}{suffix}"] = ratio(taken, ours, (peer, threads))
        ratios[f"of_entropy_limit{suffix}"] = ratio(taken, ours, ("limit_pillow", threads))
        ratios[f"of_entropy_limit_simplejpeg{suffix}"] = ratio(taken, ours, ("limit_simplejpeg", threads))
        ratios[f"packed_vs_folder{suffix}"] = round(1 / ratio(taken, ours, ("ours_packed_400", threads)), 3)
    ratios["second_thread"] = round(1 / ratio(taken, ("ours", 1), ("ours", 2)), 3)
    return ratios


def processor_ratios_of(taken: Taken) -> dict[str, float]:
    """The peers' processor time an image / ours, on one core: what a busy machine disturbs less."""
    others = [name for name in CONTESTANTS if not name.startswith("ours")]
    return {name: ratio(taken, ("ours", 1), (name, 1), "processor_s") for name in others}


def turns_of(taken: Taken) -> dict[Lane, list[dict[str, float]]]:
    turns: dict[Lane, list[dict[str, float]]] = {}
    for pair, of_pair in taken.items():
        for index, lane in enumerate(pair):
            turns.setdefault(lane, []).extend(turn[index] for turn in of_pair)
    return turns


def pack(folder: Path, packed: Path) -> str:
    options = ["--max-side", "400", "--quality", "90"]
    command = [sys.executable, "-m", "hvd_imagenet", "pack", str(folder), str(packed), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return " ".join(options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=24, help=f"of {BATCH} images, that a turn takes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, packed = Path(name, "images"), Path(name, "packed")
        paths = input_images.make(folder, IMAGES)
        options = pack(folder, packed)
        file_bytes = round(statistics.mean(path.stat().st_size for path in paths))
        taken = measure(folder, packed, arguments.rounds, arguments.batches)
    images = arguments.batches * BATCH
    rates = {
        f"{lane[0]}_{lane[1]}": round(images / statistics.median(turn["seconds"] for turn in turns))
        for lane, turns in turns_of(taken).items()
    }
    result = {
        **provenance("each process confined to 1 core, or with _2 to 2"),
        "decoder": decoder_name(),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "images": f"{IMAGES} JPEGs of {input_images.WIDTH} x {input_images.HEIGHT}, {file_bytes} bytes in the mean",
        "packed": f"hvd-imagenet pack {options}",
        "ratios": ratios_of(taken),
        "processor_time_ratios": processor_ratios_of(taken),
        "images_per_s": rates,
        "seconds_of_pairs": {
            f"{ours[0]}_{ours[1]} {other[0]}_{other[1]}": [
                [round(turn["seconds"], 3) for turn in turns] for turns in both
            ]
            for (ours, other), both in taken.items()
        },
    }
    print(json.dumps({key: result[key] for key in ("images_per_s", "processor_time_ratios", "ratios")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
