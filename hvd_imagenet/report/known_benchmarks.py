"""What the figures of benchmarks/results are called in README, in its order."""

from hvd_imagenet.report.benchmark_forms import (
    NUMBER,
    PERCENT,
    RATIO,
    signed_percent,
    with_range,
)
from hvd_imagenet.report.benchmark_tables import Benchmark, Cell, Table
from hvd_imagenet.report.benchmark_tables import cell as _cell
from hvd_imagenet.report.benchmark_tables import ratios as _ratios
from hvd_imagenet.report.known_allreduce import ALLREDUCE
from hvd_imagenet.report.known_plans import PLANS
from hvd_imagenet.report.known_steps import STARTS, STEPS


def _reader(words: str, lane: str, ratio: str | None) -> tuple[str, tuple[Cell | None, ...]]:
    speeds = tuple(_cell(NUMBER, f"images_per_s/{lane}_{threads}") for threads in (1, 2))
    return words, speeds + _ratios(ratio, None if ratio is None else f"{ratio}_2_threads")


_READERS = Table(
    (
        "JPEGs to random-resized crops of 224",
        "images/s, 1 core",
        "images/s, 2 cores",
        "ours is so many times as fast, 1 core",
        "as fast, 2 cores",
    ),
    (
        _reader("our reader", "ours", None),
        _reader("PIL in torch's DataLoader", "pil", "vs_pil"),
        _reader("NVIDIA DALI on the CPU", "dali", "vs_dali"),
        _reader("tf.data, `decode_and_crop_jpeg`", "tf_data", "vs_tf_data"),
        _reader("tf.data with crops of our sizes", "tf_data_same_crops", "vs_tf_data_same_crops"),
        _reader("OpenCV in a thread pool", "opencv_threads", "vs_opencv_threads"),
        _reader(
            "a limit: decoding alone, to 1/8 of the size, with the same libjpeg-turbo",
            "limit_pillow",
            "of_entropy_limit",
        ),
        _reader("the same limit with simplejpeg's libjpeg-turbo", "limit_simplejpeg", "of_entropy_limit_simplejpeg"),
    ),
)
_OUR_READER = Table(
    ("Our reader is so many times as fast …", "1 core", "2 cores"),
    (
        (
            "with images packed by `--max-side 400`, as with their folder",
            _ratios("packed_vs_folder", "packed_vs_folder_2_threads"),
        ),
        ("with two threads on two cores, as with one on one", _ratios(None, "second_thread")),
    ),
)

_DECODERS = Table(
    ("Validation error after training on …, mean (range of seeds)", "our partial decoder", "Pillow's decoder"),
    tuple(
        (
            words,
            tuple(
                _cell(with_range(PERCENT), f"means/{images}/{decoder}", f"errors_by_seed/{images}/{decoder}")
                for decoder in ("partial", "pillow")
            ),
        )
        for images, words in (("digits", "scanned digits"), ("shapes", "procedural shapes"))
    ),
)

_CHECKPOINTS = Table(
    (
        "A checkpoint of ResNet-50, 205 MB, every 40 s",
        "share of the time that steps wait for it",
        "training takes longer by (below 0: noise)",
    ),
    tuple(
        (words, (_cell(PERCENT, f"{kind}_wait_percent"), _cell(signed_percent, f"{kind}_slowdown_percent")))
        for kind, words in (
            ("background", "written beside the training, as by default"),
            ("synchronous", "written while the training waits"),
        )
    ),
)


def _safety(words: str, others: str, *names: str | None) -> tuple[str, tuple[Cell | None, ...]]:
    return words, tuple(
        None if name is None else _cell(with_range(RATIO), f"{name}/with_over_without", f"{name}/{others}")
        for name in names
    )


_CHECKED = ("torch_resnet20_check", "torch_resnet50_check", "keras_resnet20_check")
_DETERMINISTIC = ("torch_resnet20_deterministic", None, "keras_resnet20_deterministic")
_SAFETY = Table(
    (
        "A step with it takes so many times as long as one without",
        "PyTorch, ResNet-20",
        "PyTorch, ResNet-50",
        "Keras, ResNet-20",
    ),
    (
        _safety("the check for NaN and infinity (quartiles of its turns)", "quartiles", *_CHECKED),
        _safety("`--deterministic` (range of its pairs of jobs)", "jobs", *_DETERMINISTIC),
    ),
)

KNOWN = {
    **STEPS,
    "input_pipeline": Benchmark((_READERS, _OUR_READER)),
    "decoder_error": Benchmark((_DECODERS,)),
    "checkpoint_writing": Benchmark((_CHECKPOINTS,), left_out=("wait_background_vs_synchronous",)),
    **STARTS,
    "safety_overhead": Benchmark(
        (_SAFETY,),
        left_out=tuple(name for name in (*_CHECKED, *_DETERMINISTIC) if name is not None),
    ),
    **ALLREDUCE,
    "minibatch_study": Benchmark(()),
    **PLANS,
}
"""By the names of files, which are those of the scripts."""
