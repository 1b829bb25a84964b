"""What the figures of benchmarks/results are called in README, in its order."""

from collections.abc import Callable
from typing import NamedTuple

Form = Callable[[float], str]
RATIO: Form = "{:.2f} ×".format
PERCENT: Form = "{:.2f} %".format
SECONDS: Form = "{:.3f} s".format
SPEED: Form = "{:,.0f} images/s".format


def share(value: float) -> str:
    """A fraction in percent.

    Args:
        value: of 1.

    Example:
        >>> share(0.9063)
        '90.6 %'
    """
    return f"{100 * value:.1f} %"


def deviation(value: float) -> str:
    """A fraction in percent, with its sign.

    Args:
        value: of 1.

    Example:
        >>> deviation(-0.0745), deviation(0.0002)
        ('-7.4 %', '+0.0 %')
    """
    return f"{100 * value:+.1f} %"


class Figure(NamedTuple):
    """One number of a result file: where it is, what it is called, how it is written."""

    path: tuple[str, ...]
    words: str
    form: Form = RATIO


class Benchmark(NamedTuple):
    """One result file: the question that it answers, its figures, and ratios that would say the same again."""

    question: str
    figures: tuple[Figure, ...]
    left_out: tuple[str, ...] = ()


def _ratios(**words: str) -> tuple[Figure, ...]:
    return tuple(Figure(("ratios", key), each) for key, each in words.items())


KNOWN = {
    "step_overhead": Benchmark(
        "Our training step on 2 ranks, against others (above 1: ours is faster)",
        _ratios(
            resnet50_vs_bare_horovod_as_started_upstream="ResNet-50, 224 px: bare Horovod, started as documented",
            resnet50_vs_bare_horovod="ResNet-50: bare Horovod, started by `hvd-imagenet launch`",
            resnet50_vs_ddp="ResNet-50: DistributedDataParallel on gloo, each in its better layout",
            resnet50_contiguous_vs_ddp_contiguous="ResNet-50: DistributedDataParallel on gloo, both contiguous",
            resnet20_vs_bare_horovod="ResNet-20, 32 px: bare Horovod, started by `hvd-imagenet launch`",
            resnet20_vs_ddp="ResNet-20: DistributedDataParallel on gloo, each in its better layout",
            keras_vs_bare_allreduce="Keras `fit`, ResNet-20: Horovod's bare grouped allreduce in the same step",
            keras_vs_single="Keras `fit`: the step without any reduction, what the bare allreduce adds left out",
            keras_vs_single_with_allreduce="Keras `fit`: the step without any reduction",
        ),
    ),
    "virtual_workers": Benchmark(
        "Four virtual workers fused into one pass, against one after another",
        _ratios(
            resnet8_32px_n8_fused_vs_sequential="n = 8: ResNet-8 at 32 px",
            resnet50_128px_n8_fused_vs_sequential="n = 8: ResNet-50 at 128 px",
            resnet8_32px_n32_fused_vs_sequential="n = 32: ResNet-8 at 32 px",
            resnet20_32px_n32_fused_vs_sequential="n = 32: ResNet-20 at 32 px",
        ),
    ),
    "input_pipeline": Benchmark(
        "Our reader against others: JPEGs to random-resized crops of 224",
        (
            Figure(("images_per_s", "ours_1"), "ours, 1 core", SPEED),
            Figure(("images_per_s", "ours_2"), "ours, 2 cores", SPEED),
            *(
                Figure(("ratios", f"{key}{suffix}"), f"{words}, {cores}")
                for key, words in {
                    "vs_pil": "PIL in torch's DataLoader",
                    "vs_dali": "NVIDIA DALI on the CPU",
                    "vs_tf_data": "tf.data, `decode_and_crop_jpeg`",
                    "vs_tf_data_same_crops": "tf.data with crops of our sizes",
                    "vs_opencv_threads": "OpenCV in a thread pool",
                    "of_entropy_limit": "the limit: decoding at 1/8 with the same libjpeg-turbo",
                    "of_entropy_limit_simplejpeg": "the limit: decoding at 1/8 with simplejpeg's",
                    "packed_vs_folder": "packed with `--max-side 400`, against the folder",
                }.items()
                for suffix, cores in (("", "1 core"), ("_2_threads", "2 cores"))
            ),
            Figure(("ratios", "second_thread"), "ours: two threads against one"),
        ),
    ),
    "decoder_error": Benchmark(
        "Validation error with the partial decoder and with Pillow's (median of the last 5 epochs, mean of seeds)",
        tuple(
            Figure(("means", images, decoder), f"{images}, {words}", PERCENT)
            for images in ("digits", "shapes")
            for decoder, words in (("partial", "partial"), ("pillow", "Pillow"))
        ),
    ),
    "checkpoint_writing": Benchmark(
        "What checkpoints cost",
        (
            Figure(
                ("ratios", "wait_background_vs_synchronous"), "waiting in the training loop, synchronous / background"
            ),
            Figure(("background_wait_percent",), "waiting of the loop, written in the background", PERCENT),
            Figure(("synchronous_wait_percent",), "waiting of the loop, written in it", PERCENT),
            Figure(("background_slowdown_percent",), "slower than without, written in the background", PERCENT),
            Figure(("synchronous_slowdown_percent",), "slower than without, written in the loop", PERCENT),
        ),
    ),
    "launch_overhead": Benchmark(
        "What `launch` adds to a job of 2 processes that do nothing, from command to prompt",
        (
            Figure(("overhead_s", "mpirun", "median"), "over mpirun", SECONDS),
            Figure(("overhead_s", "horovodrun", "median"), "over horovodrun", SECONDS),
            *_ratios(vs_mpirun="mpirun / launch with mpirun", vs_horovodrun="horovodrun / launch with horovodrun"),
        ),
    ),
    "startup": Benchmark(
        "From the command to the end of the first iteration, on 2 processes",
        (
            Figure(("seconds", "launch"), "`launch` over MPI, a small loop on Horovod", SECONDS),
            Figure(("seconds", "launch_train"), "`launch -- train` on the scanned digits", SECONDS),
            *_ratios(
                vs_mpirun="mpirun / launch, the same loop",
                vs_horovodrun="horovodrun / launch, the same loop",
                vs_torchrun="torchrun with DistributedDataParallel / launch, the same loop",
            ),
        ),
    ),
    "safety_overhead": Benchmark(
        "What safety costs: a step without it, over one with it",
        _ratios(
            torch_resnet20_check="check for NaN and infinity, PyTorch, ResNet-20",
            torch_resnet50_check="check for NaN and infinity, PyTorch, ResNet-50",
            keras_resnet20_check="check for NaN and infinity, Keras, ResNet-20",
            torch_resnet20_deterministic="`--deterministic`, PyTorch, ResNet-20",
            keras_resnet20_deterministic="`--deterministic`, Keras, ResNet-20",
        ),
    ),
    "allreduce": Benchmark(
        "Allreduce of ResNet-50's gradients, 100 MB, by Horovod as `launch` starts it",
        tuple(
            Figure(("ratios", f"resnet50_{key}_{ranks}_ranks"), f"{words}, {ranks} ranks")
            for key, words in {
                "vs_mpi4py": "mpi4py's own",
                "vs_torch_gloo": "torch.distributed on gloo",
                "gloo_vs_torch_gloo": "torch.distributed on gloo, against Horovod over Gloo",
                "fused_vs_unfused": "without fusion",
            }.items()
            for ranks in (2, 4, 8)
        ),
    ),
    "minibatch_study": Benchmark("Does large-minibatch training keep its accuracy?", ()),
    "plan_against_paper": Benchmark(
        "`plan` against the paper's times of an iteration (deviation from the paper)",
        tuple(
            Figure((case, "points", workers, "deviation"), f"{workers} GPUs, {words}", deviation)
            for case, words in {
                "fitted": "stragglers fitted to the time at 256",
                "cited_alone": "cited parameters alone",
                "no_stragglers": "no stragglers",
            }.items()
            for workers in ("256", "352")
        ),
        left_out=("agreement_with_fit",),
    ),
    "scaling_lab": Benchmark(
        "The scaling lab: 16 ranks over shaped links, against `plan`",
        (
            Figure(("ratios", "efficiency_at_the_papers_ratio"), "efficiency at the paper's ratio of compute", share),
            Figure(("median_deviation",), "`plan`: median deviation from what was measured", share),
            Figure(("worst", "deviation"), "`plan`: the worst point", deviation),
        ),
    ),
}
"""By the names of files."""
