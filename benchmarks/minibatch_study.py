"""Does large-minibatch training keep its accuracy? The paper's figures and tables at a size for two cores.

Every point of study_points.py is trained with several seeds, one process of one thread a run, a run on every core. A
finished run is a row of results/minibatch_study.csv, known by the hash of its recipe, framework, number of processes
and data; a later call passes over it, and goes on with runs that were stopped. Errors are medians of the last five
epochs, in percent, mean ± standard deviation over seeds.

    python benchmarks/minibatch_study.py --list
    python benchmarks/minibatch_study.py --only FIGURE1 TABLE1 --seeds 1
    python benchmarks/minibatch_study.py --json benchmarks/results/minibatch_study.json
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import yaml
from provenance import provenance
from study_points import STUDIES, Run, chosen, quick, runs_of
from study_results import HOW, Results, Row, read_rows, summary, table, write_json

from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import config_of

RESULTS = Path(__file__).with_name("results") / "minibatch_study.csv"
WORK = Path("runs") / "minibatch_study"
PROGRAM = [sys.executable, "-m", "hvd_imagenet"]
IMAGES, QUICK_IMAGES, SIZE_PX = 30_000, 512, 16
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
# Activations of some megabytes stay with the process: given back after each layer, they come again page by page.
KEEP_MEMORY = dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**32))
SECONDS_TO_LEAVE = 60.0  # for a training that is told to, which writes a checkpoint first


def make_data(folder: Path, images: int) -> Path:
    """Cluttered digits, packed, unless they are there; 16 pixels as `train` reads them."""
    files, packed = folder / f"digits-{images}", folder / f"digits-{images}-packed"
    words = ["--source", "cluttered-digits", "--images", str(images), "--size", str(SIZE_PX)]
    for command in (["make-dataset", str(files), *words], ["pack", str(files), str(packed)]):
        subprocess.run([*PROGRAM, *command], check=True, stdout=subprocess.DEVNULL)
    return packed


def data_name(images: int) -> str:
    """All that the images follow from, but for the versions of libjpeg and numpy, which move them by rounding."""
    return f"cluttered-digits-{images}-{SIZE_PX}px-seed0"


def data_sha256(packed: Path) -> str:
    """Twelve digits over the contents of all images."""
    splits = json.loads((packed / "manifest.json").read_text())["splits"]
    digests = [shard["sha256"] for name in sorted(splits) for shard in splits[name]["shards"]]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:12]


def command_of(run: Run, data: Path, folder: Path) -> list[str]:
    """`train` with a file of all options, which is also how anyone can repeat the run."""
    config = RunConfig(
        data=data, framework=run.framework, recipe_name="cluttered_digits", checkpoint_hist=1, threads=1,
        workers_per_pass=WORKERS_PER_PASS, channels_last=run.framework == "torch" and CHANNELS_LAST,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    options = folder.with_suffix(".yaml")
    options.write_text(yaml.safe_dump(config_of(run.recipe, config), sort_keys=False))
    train = ["train", "-c", str(options), "--out", str(folder)]
    return [*PROGRAM, *(train if run.processes == 1 else ["launch", "-np", str(run.processes), "--", *train])]


# Measured: see results/minibatch_study.md.
WORKERS_PER_PASS, CHANNELS_LAST = 16, True


class Trainings:
    """The processes at work. None of them outlives a call that is told to end: they leave with a checkpoint.

    Each has the lock's file, so that those of a call that was killed outright keep another out until they end.
    """

    def __init__(self, lock: int) -> None:
        self._held, self._lock, self.stopped = lock, threading.Lock(), False
        self._running: set[subprocess.Popen[str]] = set()

    def run(self, command: list[str], env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        with self._lock:
            if self.stopped:
                raise RuntimeError("told to end")
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                pass_fds=(self._held,),
            )  # fmt: skip
            self._running.add(process)
        output, errors = process.communicate()
        self._running.discard(process)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
        running = [process for process in self._running if process.poll() is None]
        for process in running:
            process.terminate()
        end_s = time.monotonic() + SECONDS_TO_LEAVE
        for process in running:
            try:
                process.wait(max(0.0, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def train(run: Run, data: Path, work: Path, trainings: Trainings) -> Row:
    """Trains to the end, from where it was stopped if it was; the CSV's columns of results."""
    folder = work / "-".join(run.key)
    is_new, begin_s = not folder.exists(), time.monotonic()
    variables = {**os.environ, **ONE_THREAD, **KEEP_MEMORY, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = trainings.run(command_of(run, data, folder), variables)
    seconds = time.monotonic() - begin_s
    diverged = "finite number" in done.stderr
    if done.returncode and not diverged:
        raise RuntimeError(f"{folder}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    epochs = read_rows(folder / "metrics.csv")
    summary = {} if diverged else json.loads((folder / "summary.json").read_text())
    here = provenance(HOW)
    return {
        "outcome": "diverged" if diverged else "finished",
        "val_error_median_last5": str(summary.get("val_error_median_last5", "")),
        "val_error_final": str(summary.get("val_error_final", "")),
        "iterations": str(summary.get("iterations", "")),
        "val_errors": " ".join(row["val_error"] for row in epochs),
        "train_errors": " ".join(row["train_error"] for row in epochs),
        "seconds": f"{seconds:.1f}" if is_new else "",  # of a run that was stopped, only the last part is known
        "data_sha256": data_sha256(data),
        **{name: here[name] for name in ("machine", "date", "commit")},
    }


class Study:
    """The runs that are missing, some at a time, each on a core of its own."""

    def __init__(self, runs: list[Run], results: Results, work: Path, jobs: int) -> None:
        self.results, self._work, self._jobs = results, work, jobs
        self._missing = [run for run in runs if results.of(run) is None]
        self._total, self.failures = len(runs), 0

    @property
    def left_s(self) -> float:
        """Until the end; a job of several processes has the cores to itself."""
        missing = [run for run in self._missing if self.results.of(run) is None]
        return sum(self.results.seconds(run) / (self._jobs if run.processes == 1 else 1) for run in missing)

    def status(self) -> str:
        missing = sum(self.results.of(run) is None for run in self._missing)
        return f"{self._total - missing} of {self._total} runs done, {hours(self.left_s)} to go"

    def run(self, data: Path, lock: int) -> None:
        """All that are missing; told to end, it ends the trainings first."""
        print(self.status(), flush=True)
        trainings, cores = Trainings(lock), iter(sorted(os.sched_getaffinity(0))[: self._jobs] * self._jobs)
        one_at_a_time = threading.Lock()

        def pin() -> None:
            with one_at_a_time:
                os.sched_setaffinity(0, {next(cores)})  # of this thread, and of what it starts

        train_one = partial(self._train, data, trainings)
        pool = ThreadPoolExecutor(self._jobs, initializer=pin)
        try:
            list(pool.map(train_one, [run for run in self._missing if run.processes == 1]))
            for run in self._missing:
                if run.processes > 1:
                    train_one(run)
        finally:
            trainings.stop()
            pool.shutdown(cancel_futures=True)

    def _train(self, data: Path, trainings: Trainings, run: Run) -> None:
        what = f"{run.recipe.opt} kn {run.recipe.minibatch} seed {run.recipe.seed} {'-'.join(run.key)}"
        try:
            row = train(run, data, self._work, trainings)
        except (RuntimeError, OSError, ValueError) as error:
            if trainings.stopped:
                return
            self.failures += 1
            print(f"{what}: {error}", file=sys.stderr, flush=True)
            return
        self.results.add(run, row)
        print(f"{what}: {row['val_error_median_last5'] or 'diverged'} ({self.status()})", flush=True)


@contextmanager
def locked(work: Path) -> Iterator[int]:
    """Keeps a second call out, which would train the same runs; the lock's file."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{work}: another call, or a training that one has left, is at work there")
        yield lock.fileno()


def hours(seconds: float) -> str:
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def main() -> int:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--seeds", type=int, help="as many at most (default: 3, and 5 where a claim hangs on it)")
    parser.add_argument("--list", action="store_true", help="say what is done and what is not, and how long it takes")
    parser.add_argument("--jobs", type=int, default=cores, help=f"runs at a time (default: {cores}, one a core)")
    parser.add_argument("--quick", action="store_true", help="two runs of seconds, in a folder of their own")
    parser.add_argument("--csv", type=Path, help=f"rows of finished runs (default: {RESULTS.name} in results)")
    parser.add_argument("--work", type=Path, help=f"images and run folders (default: {WORK})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="mean and deviation of every point")
    arguments = parser.parse_args()
    if not 1 <= arguments.jobs <= cores:
        parser.error(f"--jobs must be from 1 to {cores}, this machine's cores")
    if arguments.seeds is not None and arguments.seeds < 1:
        parser.error("--seeds must be 1 or more")
    studies = quick() if arguments.quick else chosen(arguments.only, arguments.seeds)
    work = arguments.work or (Path(tempfile.mkdtemp(prefix="minibatch-study-")) if arguments.quick else WORK)
    path = arguments.csv or (work / RESULTS.name if arguments.quick else RESULTS)
    images = QUICK_IMAGES if arguments.quick else IMAGES
    study = Study(runs_of(studies), Results(path, data_name(images)), work, arguments.jobs)
    if arguments.list:
        print(study.status())
    else:
        signal.signal(signal.SIGTERM, leave)
        with locked(work) as lock:
            data = make_data(work, images)
            refuse(study.results.mixture(data_sha256(data)))
            study.run(data, lock)
    print(table(summary(studies, study.results)))
    if arguments.json:  # of all studies, whatever --only says: the file is one
        refuse(study.results.mixture())
        write_json(arguments.json, studies if arguments.quick else chosen(None), study.results)
    return 1 if study.failures else 0


def leave(number: int, frame: FrameType | None) -> None:
    """What SIGTERM does: the first one ends this call."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def refuse(mistake: str | None) -> None:
    if mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
