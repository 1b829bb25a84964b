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
import importlib.util
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
PEERS = ("pil", "dali", "tf_data", "tf_data_same_crops", "opencv_threads")
# Of the short form, where they are installed: name, package. TensorFlow's import alone would be half of it.
QUICK_PEERS = {"pil": "torch", "dali": "nvidia.dali", "opencv_threads": "cv2", "limit_pillow": "PIL"}
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


def pairs(quick: bool) -> list[tuple[Lane, Lane]]:
    """Ours and the lane that it is compared with: its peers on one core and on two, and itself with a second thread."""
    if quick:
        return [(("ours", 1), (name, 1)) for name, package in QUICK_PEERS.items() if installed(package)]
    peers = [name for name in CONTESTANTS if name != "ours"]
    return [(("ours", threads), (name, threads)) for threads in THREADS for name in peers] + [
        (("ours", 1), ("ours", 2))
    ]


def installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package that should hold it
        return False


def measure(pairs: list[tuple[Lane, Lane]], folder: Path, packed: Path, rounds: int, batches: int) -> Taken:
    lanes = {lane for pair in pairs for lane in pair}
    contestants = {lane: Contestant(lane, packed if "packed" in lane[0] else folder) for lane in sorted(lanes)}
    taken: Taken = {pair: [] for pair in pairs}
    turns = [pair for number in range(rounds) for pair in pairs[:: 1 if number % 2 else -1]]
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
    """Of those lanes that were there."""
    ratios = {}
    names = {**{peer: f"vs_{peer}" for peer in PEERS}, "limit_pillow": "of_entropy_limit"}
    names |= {"limit_simplejpeg": "of_entropy_limit_simplejpeg", "ours_packed_400": "packed_vs_folder"}
    for threads in THREADS:
        ours = ("ours", threads)
        for peer, name in names.items():
            if (ours, (peer, threads)) in taken:
                found = ratio(taken, ours, (peer, threads))
                # Here the other one is ours too.
                found = round(1 / found, 3) if peer == "ours_packed_400" else found
                ratios[name if threads == 1 else f"{name}_{threads}_threads"] = found
    if (("ours", 1), ("ours", 2)) in taken:
        ratios["second_thread"] = round(1 / ratio(taken, ("ours", 1), ("ours", 2)), 3)
    return ratios


def processor_ratios_of(taken: Taken) -> dict[str, float]:
    """The peers' processor time an image / ours, on one core: what a busy machine disturbs less."""
    others = [name for (_, threads), (name, _) in taken if threads == 1 and not name.startswith("ours")]
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


def result(taken: Taken, batches: int, paths: list[Path], sizes: list[int], options: str) -> dict[str, object]:
    """What --json holds."""
    rates = {
        f"{lane[0]}_{lane[1]}": round(batches * BATCH / statistics.median(turn["seconds"] for turn in turns))
        for lane, turns in turns_of(taken).items()
    }
    bytes_words = f"{round(statistics.mean(sizes))} bytes in the mean"
    return {
        **provenance("each process confined to 1 core, or with _2 to 2"),
        "decoder": decoder_name(),
        "versions": versions(),
        "images": f"{len(paths)} JPEGs of {input_images.WIDTH} x {input_images.HEIGHT}, {bytes_words}",
        "packed": options and f"hvd-imagenet pack {options}",
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


def versions() -> dict[str, str]:
    """Of what is installed."""
    found = {distribution.metadata["Name"]: distribution.version for distribution in importlib.metadata.distributions()}
    return {package: found[package] for package in PACKAGES if package in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=24, help=f"of {BATCH} images, that a turn takes")
    parser.add_argument("--quick", action="store_true", help="one core, few images, peers that are there: seconds")
    arguments = parser.parse_args()
    images, rounds, batches = IMAGES, arguments.rounds, arguments.batches
    if arguments.quick:
        images, rounds, batches = BATCH, 1, 1
    with tempfile.TemporaryDirectory() as name:
        folder, packed = Path(name, "images"), Path(name, "packed")
        paths = input_images.make(folder, images)
        options = "" if arguments.quick else pack(folder, packed)
        sizes = [path.stat().st_size for path in paths]
        taken = measure(pairs(arguments.quick), folder, packed, rounds, batches)
    found = result(taken, batches, paths, sizes, options)
    print(json.dumps({key: found[key] for key in ("images_per_s", "processor_time_ratios", "ratios")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
