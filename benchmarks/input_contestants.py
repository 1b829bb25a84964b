"""The contestants of input_pipeline.py, each an endless stream of uint8 (n, 224, 224, 3) in a process of its own.

    python benchmarks/input_contestants.py NAME FOLDER THREADS

Every line on standard input is a number of batches to take; the answer is a line of JSON with the seconds that this
took, and the processor's. What was read ahead while the process waited is taken first and not counted.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import psutil

BATCH = 32
SIZE_PX = 224
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
# More than any of them reads ahead.
NOT_COUNTED = 8
IMAGES_PER_TASK = 16


def ours(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """Our reader, as the trainers use it."""
    from hvd_imagenet.data.listing import list_dataset
    from hvd_imagenet.data.reader import Reader
    from hvd_imagenet.data.transforms import Augmentation

    images, _ = list_dataset(folder)
    reader = Reader(images, Augmentation(), SIZE_PX, seed=1, threads=threads)

    def requests() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch, numbers in _epochs(len(images)):
            yield np.full(BATCH, epoch), numbers

    return (pixels for pixels, _ in reader.batches(requests()))


def pil(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """The recipe of torchvision with torch's DataLoader, its transforms written with PIL and torch."""
    import torch
    from PIL import Image

    paths = _paths(folder)
    torch.set_num_threads(1)

    class Dataset(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            with open(paths[index], "rb") as file:
                image = Image.open(file).convert("RGB")
            x, y, width, height = _torch_box(torch, *image.size)
            image = image.crop((x, y, x + width, y + height)).resize((SIZE_PX, SIZE_PX), Image.Resampling.BILINEAR)
            if torch.rand(1) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return torch.from_numpy(np.array(image))

    # With one core, workers only add the way between processes.
    loader = torch.utils.data.DataLoader(
        Dataset(), BATCH, shuffle=True, drop_last=True, num_workers=threads if threads > 1 else 0,
        persistent_workers=threads > 1,
    )  # fmt: skip
    return (batch.numpy() for _ in itertools.count() for batch in loader)


def _torch_box(torch: object, width: int, height: int) -> tuple[int, int, int, int]:
    """torchvision.transforms.RandomResizedCrop.get_params."""
    log_aspect = torch.log(torch.tensor(ASPECT))
    for _ in range(10):
        area = width * height * torch.empty(1).uniform_(*AREA).item()
        aspect = torch.exp(torch.empty(1).uniform_(log_aspect[0], log_aspect[1])).item()
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            x, y = torch.randint(0, width - w + 1, (1,)).item(), torch.randint(0, height - h + 1, (1,)).item()
            return x, y, w, h
    return 0, 0, width, height


def tf_data(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """decode_and_crop_jpeg in a parallel map, as TensorFlow's guides have it; its resize does not antialias.

    sample_distorted_bounding_box draws a crop's height uniformly, so its crops are smaller than the others'.
    """
    return _tf_data(folder, threads, _tf_guides_window)


def tf_data_same_crops(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """The same with crops distributed as everyone else's: the area is drawn uniformly."""
    return _tf_data(folder, threads, _tf_torch_window)


def _tf_guides_window(tf: ModuleType, shape: Any) -> Any:
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape, tf.zeros([1, 0, 4]), area_range=AREA, aspect_ratio_range=ASPECT, use_image_if_no_bounding_boxes=True
    )
    return tf.stack([begin[0], begin[1], size[0], size[1]])


def _tf_torch_window(tf: ModuleType, shape: Any) -> Any:
    """The first of ten drawn that fits."""
    height, width = shape[0], shape[1]
    area = tf.cast(height * width, tf.float32) * tf.random.uniform([10], *AREA)
    aspect = tf.exp(tf.random.uniform([10], *np.log(ASPECT).tolist()))
    widths, heights = (tf.cast(tf.round(tf.sqrt(side)), tf.int32) for side in (area * aspect, area / aspect))
    first = tf.argmax(tf.cast((widths <= width) & (heights <= height), tf.int32))
    w, h = tf.minimum(widths[first], width), tf.minimum(heights[first], height)
    y = tf.random.uniform([], 0, height - h + 1, tf.int32)
    x = tf.random.uniform([], 0, width - w + 1, tf.int32)
    return tf.stack([y, x, h, w])


def _tf_data(folder: Path, threads: int, window_of: Callable) -> Iterator[np.ndarray]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    def load(path: "tf.Tensor") -> "tf.Tensor":
        data = tf.io.read_file(path)
        window = window_of(tf, tf.io.extract_jpeg_shape(data))
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.random_flip_left_right(tf.image.resize(image, [SIZE_PX, SIZE_PX]))
        return tf.cast(image, tf.uint8)

    paths = _paths(folder)
    dataset = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat()
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    options.deterministic = False
    return dataset.with_options(options).as_numpy_iterator()


def dali(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """The pipeline of DALI's ImageNet examples, on the CPU."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None, seed=1)
    def pipeline() -> object:
        data, _ = fn.readers.file(files=_paths(folder), random_shuffle=True)
        image = fn.decoders.image_random_crop(
            data, device="cpu", output_type=types.RGB, random_aspect_ratio=ASPECT, random_area=AREA
        )
        image = fn.resize(image, size=[SIZE_PX, SIZE_PX], interp_type=types.INTERP_TRIANGULAR)
        return fn.flip(image, horizontal=fn.random.coin_flip())

    built = pipeline()
    built.build()
    return (built.run()[0].as_array() for _ in itertools.count())


def opencv(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """imread, crop, resize (bilinear, which does not antialias) and flip in a pool of threads."""
    import cv2

    cv2.setNumThreads(1)
    paths, rng = _paths(folder), np.random.default_rng(1)

    def load(path: str, box_of: Callable[[int, int], tuple[int, int, int, int]], flip: bool, out: np.ndarray) -> None:
        image = cv2.imread(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        x, y, width, height = box_of(image.shape[1], image.shape[0])
        image = cv2.resize(image[y : y + height, x : x + width], (SIZE_PX, SIZE_PX))
        out[...] = cv2.flip(image, 1) if flip else image

    return _from_threads(paths, threads, rng, load)


def _from_threads(paths: list[str], threads: int, rng: np.random.Generator, load: Callable) -> Iterator[np.ndarray]:
    """Batches in tasks of some images, one batch ahead."""
    from hvd_imagenet.data.transforms import Augmentation, box_of_draws

    def part(numbers: np.ndarray, draws: np.ndarray, flips: np.ndarray, pixels: np.ndarray) -> None:
        for index, number in enumerate(numbers.tolist()):
            box_of = lambda width, height, index=index: box_of_draws(width, height, Augmentation(), draws[index])  # noqa: E731
            load(paths[number], box_of, bool(flips[index]), pixels[index])

    def start(pool: ThreadPoolExecutor, numbers: np.ndarray) -> tuple[np.ndarray, list]:
        pixels = np.empty((BATCH, SIZE_PX, SIZE_PX, 3), np.uint8)
        draws, flips = rng.random((BATCH, 10, 4)), rng.random(BATCH) < 0.5
        parts = [slice(first, first + IMAGES_PER_TASK) for first in range(0, BATCH, IMAGES_PER_TASK)]
        return pixels, [pool.submit(part, numbers[p], draws[p], flips[p], pixels[p]) for p in parts]

    with ThreadPoolExecutor(threads) as pool:
        epochs = _epochs(len(paths))
        pending = [start(pool, next(epochs)[1]) for _ in range(2)]
        while True:
            pending.append(start(pool, next(epochs)[1]))
            pixels, futures = pending.pop(0)
            for future in futures:
                future.result()
            yield pixels


def limit_pillow(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """The limit: whole images at 1/8 by the library that ours uses, from memory, planes without conversion to RGB."""
    from hvd_imagenet.data.jpeg import partial_decoder

    data = {path: Path(path).read_bytes() for path in _paths(folder)}
    decoder = partial_decoder()

    def load(path: str, box_of: object, flip: bool, out: np.ndarray) -> None:
        # 500 x 375 at 1/8 is 63 x 47: what is left of it for the resize is next to nothing.
        assert decoder.crop(data[path], lambda *size: (0, 0, *size), 8) is not None

    return _from_threads(list(data), threads, np.random.default_rng(1), load)


def limit_simplejpeg(folder: Path, threads: int) -> Iterator[np.ndarray]:
    """The limit: whole images at 1/8 by the libjpeg-turbo within simplejpeg, from memory, to RGB."""
    import simplejpeg

    data = {path: Path(path).read_bytes() for path in _paths(folder)}

    def load(path: str, box_of: object, flip: bool, out: np.ndarray) -> None:
        simplejpeg.decode_jpeg(data[path], min_height=1, min_width=1)

    return _from_threads(list(data), threads, np.random.default_rng(1), load)


def _paths(folder: Path) -> list[str]:
    return [os.fspath(path) for path in sorted(folder.glob("train/*/*.JPEG"))]


def _epochs(images: int) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of images, a batch at a time, in a new order every epoch."""
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(images)
        for first in range(0, images - BATCH + 1, BATCH):
            yield epoch, order[first : first + BATCH]


CONTESTANTS: dict[str, Callable[[Path, int], Iterator[np.ndarray]]] = {
    "ours": ours, "ours_packed_400": ours, "pil": pil, "tf_data": tf_data, "tf_data_same_crops": tf_data_same_crops,
    "dali": dali, "opencv_threads": opencv, "limit_pillow": limit_pillow, "limit_simplejpeg": limit_simplejpeg,
}  # fmt: skip


def processor_s() -> float:
    """Of this process and of those that it has started."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    stream = CONTESTANTS[name](folder, threads)
    first = next(stream)
    assert first.shape == (BATCH, SIZE_PX, SIZE_PX, 3), first.shape
    assert first.dtype == np.uint8, first.dtype
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(NOT_COUNTED):
            next(stream)
        wall_s, cpu_s = time.perf_counter(), processor_s()
        for _ in range(int(line)):
            next(stream)
        taken = {"seconds": time.perf_counter() - wall_s, "processor_s": processor_s() - cpu_s}
        print(json.dumps(taken), flush=True)
    os._exit(0)  # without waiting for what was read ahead


if __name__ == "__main__":
    main()
