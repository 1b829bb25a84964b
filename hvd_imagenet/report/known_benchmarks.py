"""What the figures of benchmarks/results are called in README, in its order."""

from hvd_imagenet.report.benchmark_forms import (
    NUMBER,
    PERCENT,
    RATIO,
    SECONDS,
    signed_percent,
    with_range,
)
from hvd_imagenet.report.benchmark_tables import Benchmark, Cell, Table
from hvd_imagenet.report.benchmark_tables import cell as _cell
from hvd_imagenet.report.benchmark_tables import ratios as _ratios
from hvd_imagenet.report.known_plans import PLANS

_STEP = Table(
    (
        "Our training step on 2 ranks is so many times as fast as …",
        "ResNet-50, 224 px, 8 images a rank",
        "ResNet-20, 32 px, 64 images a rank",
        "Keras `fit`, ResNet-20, 32 px, 32 images a rank",
    ),
    (
        (
            "a bare Horovod loop, started as Horovod's documentation starts it",
            _ratios("resnet50_vs_bare_horovod_as_started_upstream", None, None),
        ),
        (
            "the same loop, started by `hvd-imagenet launch`",
            _ratios("resnet50_vs_bare_horovod", "resnet20_vs_bare_horovod", None),
        ),
        (
            "DistributedDataParallel on gloo, each in its better memory layout",
            _ratios("resnet50_vs_ddp", "resnet20_vs_ddp", None),
        ),
        (
            "DistributedDataParallel on gloo, both contiguous (NCHW)",
            _ratios("resnet50_contiguous_vs_ddp_contiguous", None, None),
        ),
        ("Horovod's bare grouped allreduce in the same step", _ratios(None, None, "keras_vs_bare_allreduce")),
        ("the same step without any reduction", _ratios(None, None, "keras_vs_single_with_allreduce")),
        ("the same, what the bare allreduce adds left out of ours", _ratios(None, None, "keras_vs_single")),
    ),
)

_FUSED = Table(
    (
        "Four virtual workers fused into one pass are so many times as fast as one after another",
        "n = 8 images",
        "n = 32 images",
    ),
    (
        ("ResNet-8, 32 px", _ratios("resnet8_32px_n8_fused_vs_sequential", "resnet8_32px_n32_fused_vs_sequential")),
        ("ResNet-20, 32 px", _ratios(None, "resnet20_32px_n32_fused_vs_sequential")),
        ("ResNet-50, 128 px", _ratios("resnet50_128px_n8_fused_vs_sequential", None)),
    ),
)


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

_LAUNCH = Table(
    (
        "Two processes that do nothing, from command to prompt",
        "by itself",
        "under `launch`",
        "`launch` adds (quartiles)",
    ),
    tuple(
        (
            name,
            (
                _cell(SECONDS, f"seconds/{name}"),
                _cell(SECONDS, f"seconds/launch_{name}"),
                _cell(with_range(SECONDS), f"overhead_s/{name}/median", f"overhead_s/{name}/quartiles"),
            ),
        )
        for name in ("mpirun", "horovodrun")
    ),
)

_STARTUP = Table(
    ("From the command to the end of the first iteration, 2 processes", "seconds", "`launch` is so many times as fast"),
    (
        ("`launch -- train` on the scanned digits", (_cell(SECONDS, "seconds/launch_train"), None)),
        ("a small loop on Horovod, by `launch`", (_cell(SECONDS, "seconds/launch"), None)),
        ("the same loop, by mpirun", (_cell(SECONDS, "seconds/mpirun"), *_ratios("vs_mpirun"))),
        ("the same loop, by horovodrun", (_cell(SECONDS, "seconds/horovodrun"), *_ratios("vs_horovodrun"))),
        (
            "a loop on DistributedDataParallel, by torchrun",
            (_cell(SECONDS, "seconds/torchrun"), *_ratios("vs_torchrun")),
        ),
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

_ALLREDUCE = Table(
    (
        "Allreduce of ResNet-50's gradients, 100 MB: Horovod as `launch` starts it is so many times as fast as …",
        "2 ranks",
        "4 ranks",
        "8 ranks",
    ),
    tuple(
        (words, _ratios(*(f"resnet50_{key}_{ranks}_ranks" for ranks in (2, 4, 8))))
        for key, words in {
            "vs_mpi4py": "mpi4py's own Allreduce",
            "vs_torch_gloo": "torch.distributed on gloo",
            "gloo_vs_torch_gloo": "torch.distributed on gloo, Horovod over Gloo too",
            "fused_vs_unfused": "itself without fusion",
        }.items()
    ),
)

KNOWN = {
    "step_overhead": Benchmark((_STEP,)),
    "virtual_workers": Benchmark((_FUSED,)),
    "input_pipeline": Benchmark((_READERS, _OUR_READER)),
    "decoder_error": Benchmark((_DECODERS,)),
    "checkpoint_writing": Benchmark((_CHECKPOINTS,), left_out=("wait_background_vs_synchronous",)),
    "launch_overhead": Benchmark((_LAUNCH,), left_out=("vs_mpirun", "vs_horovodrun")),
    "startup": Benchmark((_STARTUP,)),
    "safety_overhead": Benchmark(
        (_SAFETY,),
        left_out=tuple(name for name in (*_CHECKED, *_DETERMINISTIC) if name is not None),
    ),
    "allreduce": Benchmark((_ALLREDUCE,)),
    "minibatch_study": Benchmark(()),
    **PLANS,
}
"""By the names of files, which are those of the scripts."""
