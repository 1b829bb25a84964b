"""Where a run's images come from: the reader in other loops, a reader that is too slow, and images from memory."""

import dataclasses
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import yaml
from ranks import program, run, run_ranks
from training import RECIPE, rows

from hvd_imagenet import checkpoint, course, epoch_clock
from hvd_imagenet.core.minibatch import Minibatch
from hvd_imagenet.core.sharding import Stream
from hvd_imagenet.data.listing import list_dataset
from hvd_imagenet.data.reader import THREAD_NAME, Batch, Reader
from hvd_imagenet.data.transforms import Augmentation
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import prepare

sys.path.insert(0, str(Path(__file__).with_name("keras")))
from keras_ranks import run_keras_ranks

MINIBATCH = Minibatch(size=12, per_worker=4)
SIX = {**RECIPE, "minibatch": 24, "per_worker": 4}
READ_S = 0.03  # an image on a slow disk


def a_reader_and_its_stream(data: str) -> tuple[Reader, Stream]:
    train = list_dataset(Path(data))[0]
    return Reader(train, Augmentation(), 16, seed=5, threads=2), Stream(len(train), MINIBATCH, seed=5)


def expected_batches(data: str, workers: range, iterations: range) -> list[Batch]:
    """An iteration's images of some workers, read by themselves."""
    reader, stream = a_reader_and_its_stream(data)
    return list(reader.batches(stream.block(t, workers) for t in iterations))


def are_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for (pixels, labels), (of_other, labels_of_other) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels, of_other)
        np.testing.assert_array_equal(labels, labels_of_other)


def no_reader_thread_is_left() -> None:
    deadline_s = time.monotonic() + 30
    while left := [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]:
        assert time.monotonic() < deadline_s, left  # TensorFlow drops its generators a little later
        time.sleep(0.01)


def torch_dataset(data: str) -> None:
    import horovod.torch as hvd
    from torch.utils.data import DataLoader

    from hvd_imagenet.torch import ReaderDataset

    workers, span = MINIBATCH.placement(hvd.size())[hvd.rank()], range(2, 9)
    reader, stream = a_reader_and_its_stream(data)
    dataset = ReaderDataset(reader, stream, workers, span)
    loader = DataLoader(dataset, batch_size=None)
    expected = [
        (pixels[start : start + 4], labels[start : start + 4])
        for pixels, labels in expected_batches(data, workers, span)
        for start in range(0, len(labels), 4)
    ]
    assert len(loader) == len(expected) == 7 * len(workers)
    for _ in range(2):  # each pass begins anew
        are_equal([(pixels.numpy(), labels.numpy()) for pixels, labels in loader], expected)
        no_reader_thread_is_left()
    for _ in loader:
        break
    no_reader_thread_is_left()
    with pytest.raises(RuntimeError, match="num_workers must be 0 with ReaderDataset"):
        next(iter(DataLoader(dataset, batch_size=None, num_workers=1)))


def keras_datasets(data: str) -> None:
    import keras

    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.data import ReaderSequence, as_tf_data

    taken: list[Batch] = []

    class Model(keras.Model):
        def train_step(self, batch: Any) -> dict[str, Any]:
            taken.append((np.array(batch[0]), np.array(batch[1])))
            return {"loss": 0.0}

    workers, span = MINIBATCH.placement(hvd.size())[hvd.rank()], range(2, 10)
    expected = expected_batches(data, workers, span)
    model = Model()
    model.compile(optimizer=keras.optimizers.SGD(), run_eagerly=True)
    sources = [
        lambda: ReaderSequence(*a_reader_and_its_stream(data), workers, span),
        lambda: as_tf_data(*a_reader_and_its_stream(data), workers, span),
    ]
    for make in sources:
        for options in ({}, {"epochs": 4, "steps_per_epoch": 2}):
            taken.clear()
            model.fit(make(), shuffle=False, verbose=0, **options)
            are_equal(taken, expected)
            no_reader_thread_is_left()
    sequence = sources[0]()
    order = [3, 0, 1, 7, 2]
    are_equal([sequence[index] for index in order], [expected[index] for index in order])
    with pytest.raises(IndexError, match="index must be from 0 to 7, not 8"):
        sequence[8]
    sequence.close()
    no_reader_thread_is_left()


@pytest.mark.parametrize("processes", [1, 2])
def test_each_rank_gets_its_images_in_pytorch(few_digits: Path, processes: int) -> None:
    run_ranks(processes, torch_dataset, few_digits)


def test_each_rank_gets_its_images_in_keras(few_digits: Path) -> None:
    run_keras_ranks(2, keras_datasets, few_digits)


class SlowImages:
    """Images on a disk that begins with those of an iteration when they are waited for, and takes READ_S for each.

    However slow or fast a machine is, a process waits that long for them; it reads with one thread.
    """

    def __init__(self, images: Any, of_an_iteration: int) -> None:
        self._images, self._of_an_iteration = images, of_an_iteration
        self._read, self._waited_for, self._changed = 0, -1, threading.Condition()
        self.classes, self.labels, self.name = images.classes, images.labels, images.name

    def __len__(self) -> int:
        return len(self._images)

    def beat(self, action: str, iteration: int | None = None) -> None:
        """Takes the place of the heartbeat, which says that an iteration's images are waited for."""
        with self._changed:
            if action == "reading images" and iteration is not None:
                self._waited_for = iteration
                self._changed.notify_all()

    def read(self, image: int) -> bytes:
        iteration, self._read = self._read // self._of_an_iteration, self._read + 1
        with self._changed:
            assert self._changed.wait_for(lambda: self._waited_for >= iteration, timeout=60)
        time.sleep(READ_S)
        return bytes(self._images.read(image))


def train_slowly(data: str, out: str, slow: list[int], trainer: Any, communicator: Any) -> None:
    """Two epochs of four iterations, in which some ranks have slow images."""
    recipe, config = Recipe(**{**SIX, "epochs": 2, "warmup_epochs": 1}), RunConfig(Path(data), out=Path(out), threads=1)
    session = prepare(recipe, config, communicator)
    if communicator.rank in slow:
        images: Any = SlowImages(session.train, len(session.workers) * recipe.per_worker)
        with mock.patch.object(course, "beat", images.beat):
            trainer(recipe, config, dataclasses.replace(session, train=images)).run()
    else:
        trainer(recipe, config, session).run()
    no_reader_thread_is_left()


def in_torch(train: str, *arguments: Any) -> None:
    """Calls a function of this file with a trainer and a communicator besides."""
    from hvd_imagenet.torch.communication import HorovodCommunicator
    from hvd_imagenet.torch.session import choose_device
    from hvd_imagenet.torch.trainer import Trainer

    globals()[train](*arguments, lambda *run: Trainer(*run, choose_device(0)), HorovodCommunicator())


def in_keras(train: str, *arguments: Any) -> None:
    import hvd_imagenet.keras as hvd
    from hvd_imagenet.keras.trainer import Trainer

    globals()[train](*arguments, lambda *run: Trainer(*run, "cpu"), hvd.HorovodCommunicator())


BOTH = pytest.mark.parametrize(("start", "function"), [(run_ranks, in_torch), (run_keras_ranks, in_keras)])
ADVICE = "waiting for images takes "
# 12 images a rank and iteration, four iterations.
WAITED_S = 4 * 12 * READ_S


def second_epoch(run: Path) -> tuple[float, float]:
    """Its seconds, and the share of them, the mean over the ranks, that was spent waiting for images."""
    table = rows(run, "metrics.csv")
    assert len(table) == 2
    return 96 / float(table[1]["images_per_second"]), float(table[1]["data_wait_percent"]) / 100


@BOTH
def test_waiting_for_images_is_measured_and_advised_upon_once(
    few_digits: Path, tmp_path: Path, start: Any, function: Any
) -> None:
    output = start(2, function, "train_slowly", few_digits, tmp_path / "both", [0, 1])
    epoch_s, share = second_epoch(tmp_path / "both")
    assert 0.9 * WAITED_S < share * epoch_s < epoch_s, (epoch_s, share)
    assert output.count(ADVICE) == 1
    line = next(line for line in output.splitlines() if ADVICE in line)
    assert "hvd-imagenet pack SRC DST --max-side 400" in line


def test_waiting_is_the_mean_over_the_ranks(few_digits: Path, tmp_path: Path) -> None:
    # Rank 0 waits for the other in the reduction, not for images.
    run_ranks(2, in_torch, "train_slowly", few_digits, tmp_path / "one", [1])
    epoch_s, share = second_epoch(tmp_path / "one")
    assert share * epoch_s > 0.9 * WAITED_S / 2, (epoch_s, share)
    assert share < 0.6, share


SYNTHETIC = [
    "train", "--synthetic", "--recipe", "digits", "--minibatch", "64", "--per-worker", "16", "--image-size", "16",
    "--validation-resize", "16", "--max-iterations", "4",
]  # fmt: skip


def train_on_synthetic_images(out: str, busy_s: float, trainer: Any, communicator: Any) -> None:
    """One epoch of four iterations, whose images take busy_s longer to number; a busy machine does not count."""
    recipe, config = Recipe(**SIX), RunConfig(None, out=Path(out), synthetic=True, max_iterations=4)
    block = Stream.block

    def late(*arguments: Any) -> Any:
        until_s = time.process_time() + busy_s
        while time.process_time() < until_s:
            pass
        return block(*arguments)

    processors = SimpleNamespace(monotonic=time.process_time)
    with mock.patch.object(Stream, "block", late), mock.patch.object(epoch_clock, "time", processors):
        trainer(recipe, config, prepare(recipe, config, communicator)).run()


@BOTH
def test_synthetic_images_take_no_time(tmp_path: Path, start: Any, function: Any) -> None:
    start(2, function, "train_on_synthetic_images", tmp_path / "run", 0.0)
    [row] = rows(tmp_path / "run", "metrics.csv")
    assert float(row["data_wait_percent"]) < 5


@BOTH
def test_waiting_for_synthetic_images_gives_no_advice(tmp_path: Path, start: Any, function: Any) -> None:
    # There is no file to make smaller, no disk to copy it to, and no thread that decodes.
    output = start(1, function, "train_on_synthetic_images", tmp_path / "run", READ_S)
    [row] = rows(tmp_path / "run", "metrics.csv")
    assert float(row["data_wait_percent"]) > 5
    assert ADVICE not in output


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_synthetic_images_need_no_data(tmp_path: Path, framework: str) -> None:
    out = tmp_path / "run"
    done = run(
        program("launch", "-np", "2", "--", *SYNTHETIC, "--framework", framework, "--out", str(out)), timeout_s=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1,281,167 training and 1,000 validation images" in done.stdout
    assert ADVICE not in done.stdout
    assert "evaluate" not in done.stdout
    assert len(rows(out)) == 4
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["synthetic"], config["data"]) == (True, None)
    path = checkpoint.latest(out)
    assert path is not None
    assert checkpoint.read_manifest(path)["data_fingerprint"] == "synthetic"


def test_a_run_s_options_with_synthetic_images_and_back(few_digits: Path, tmp_path: Path) -> None:
    real, ceiling = tmp_path / "real", tmp_path / "ceiling"
    words = [word for word in SYNTHETIC if word != "--synthetic"]
    done = run(program(*words, "--data", str(few_digits), "--out", str(real)), timeout_s=60)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["train", "-c", str(real / "config.yaml"), "--synthetic", "--out", str(ceiling)]
    done = run(program(*command), timeout_s=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load((ceiling / "config.yaml").read_text())["data"] is None
    done = run(program("train", "-c", str(ceiling / "config.yaml"), "--no-synthetic"), timeout_s=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --data is missing")
    done = run(program(*words, "--data", str(few_digits), "--out", str(ceiling)), timeout_s=60)
    assert done.returncode == 2
    assert "of other data" in done.stderr
