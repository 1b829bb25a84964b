"""What the figures of training steps and of starts are called in README."""

from hvd_imagenet.report.benchmark_forms import (
    SECONDS,
    share,
    three_digits,
    with_range,
)
from hvd_imagenet.report.benchmark_tables import Benchmark, Cell, Table, cell, ratios

Row = tuple[str, tuple[Cell | None, ...]]

_MODELS = ("resnet50", "resnet20")
_SIZES = ("ResNet-50, 224 px, 8 images a rank", "ResNet-20, 32 px, 64 images a rank")
_STEP = Table(
    ("Our training step on 2 ranks is so many times as fast as …", *_SIZES),
    (
        (
            "a bare Horovod loop, started as Horovod's documentation starts it",
            ratios("resnet50_vs_bare_horovod_as_started_upstream", None),
        ),
        *(
            (words, ratios(*(f"{model}_{name}" for model in _MODELS)))
            for name, words in {
                "vs_bare_horovod": "the same loop, started by `hvd-imagenet launch`",
                "vs_ddp": "DistributedDataParallel on gloo, the best of its settings",
                "channels_last_vs_ddp_kept_memory": "the same, channels last, with what `launch` sets of memory",
                "contiguous_vs_ddp_contiguous": "DistributedDataParallel on gloo, both contiguous (NCHW)",
                "vs_two_singles": "each of two processes at a time that nothing connects",
                "vs_single": "one process that has the machine for itself",
            }.items()
        ),
    ),
)
_STEP_RATES = Table(
    ("Images/s of a rank, median (quartiles)", *_SIZES),
    tuple(
        (
            words,
            tuple(
                cell(
                    with_range(three_digits),
                    f"images_per_s_of_a_rank/{model}/{name}/median",
                    f"images_per_s_of_a_rank/{model}/{name}/quartiles",
                )
                if name != "bare_horovod_as_started_upstream" or model == "resnet50"
                else None
                for model in _MODELS
            ),
        )
        for name, words in {
            "ours": "ours",
            "ours_channels_last": "ours, channels last",
            "bare_horovod": "bare Horovod, started by `launch`",
            "bare_horovod_as_started_upstream": "bare Horovod, started as documented",
            "ddp": "DistributedDataParallel",
            "ddp_tuned": "the same tuned: no buffers broadcast, gradients as views, static graph, bound to cores",
            "ddp_tuned_channels_last": "the same, channels last",
            "ddp_tuned_channels_last_kept_memory": "the same, with what `launch` sets of memory",
            "two_singles": "each of two processes that nothing connects, channels last",
            "single": "one process alone, channels last",
        }.items()
    ),
)
_KERAS = Table(
    (
        "Keras `fit` on 2 ranks is so many times as fast as …",
        "ResNet-20, 32 px, 32 images a rank",
        "ResNet-50, 224 px, 4 images a rank",
    ),
    tuple(
        (words, ratios(f"keras_{name}", f"keras_resnet50_{name}"))
        for name, words in {
            "vs_bare_allreduce": "Horovod's bare grouped allreduce in the same step",
            "vs_single": "the same step without any reduction",
            "vs_single_net_of_allreduce": "the same, what the bare allreduce adds left out of ours",
        }.items()
    ),
)


def _cycles(words: str, jobs: dict[str, str]) -> Table:
    rows = tuple(
        (f"{cycle_ms} ms", tuple(cell(share, f"of_fastest/{cycle_ms}/{name}") for name in jobs))
        for cycle_ms in (1, 2, 5, 10, 20)
    )
    launch = tuple(cell(share, f"ratios/{name}_vs_best_cycle") for name in jobs)
    return Table((words, *jobs.values()), (*rows, ("what `launch` sets, against the best within rounds", launch)))


_CYCLES = _cycles(
    "Speed of a whole step on 2 ranks over MPI, bound to cores, of that at the best of these cycle times",
    {
        "resnet20": "ResNet-20, 64 images a rank",
        "keras_resnet20": "Keras `fit`, ResNet-20, 32 images",
        "resnet50": "ResNet-50, 4 images",
    },
)
_CYCLES_UNBOUND = _cycles(
    "The same where nothing binds ranks",
    {
        "resnet20_gloo": "ResNet-20 on 2 ranks over Gloo, 64 images a rank",
        "resnet20_crowded": "ResNet-20 on 4 ranks over MPI, 2 for a core, 32 images",
    },
)

_FUSED = Table(
    (
        "Four virtual workers fused into one pass are so many times as fast as one after another",
        "n = 8 images",
        "n = 32 images",
    ),
    (
        ("ResNet-8, 32 px", ratios("resnet8_32px_n8_fused_vs_sequential", "resnet8_32px_n32_fused_vs_sequential")),
        ("ResNet-20, 32 px", ratios(None, "resnet20_32px_n32_fused_vs_sequential")),
        ("ResNet-50, 128 px", ratios("resnet50_128px_n8_fused_vs_sequential", None)),
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
                cell(SECONDS, f"seconds/{name}"),
                cell(SECONDS, f"seconds/launch_{name}"),
                cell(with_range(SECONDS), f"overhead_s/{name}/median", f"overhead_s/{name}/quartiles"),
            ),
        )
        for name in ("mpirun", "horovodrun")
    ),
)


def _start(words: str, name: str, *compared: str | None) -> Row:
    seconds = cell(with_range(SECONDS), f"seconds/{name}", f"seconds_quartiles/{name}")
    return words, (seconds, *ratios(*compared))


_STARTUP = Table(
    (
        "From the command to the end of the first iteration, 2 processes",
        "median (quartiles)",
        "`launch` is so many times as fast",
        "`launch` over Gloo is",
    ),
    (
        _start("`launch -- train` on the scanned digits", "launch_train", None, None),
        _start("a small loop on Horovod, by `launch`", "launch", None, None),
        _start("the same loop over Gloo, by `launch --launcher horovodrun`", "launch_horovodrun", None, None),
        _start("the same loop, by mpirun", "mpirun", "vs_mpirun", None),
        _start(
            "the same loop over Gloo, by horovodrun: ours is patched, so that it imports no framework to launch",
            "horovodrun",
            "vs_horovodrun",
            "gloo_vs_horovodrun",
        ),
        _start("a loop on DistributedDataParallel, by torchrun", "torchrun", "vs_torchrun", None),
    ),
)

STEPS = {
    "step_overhead": Benchmark((_STEP, _STEP_RATES, _KERAS)),
    "cycle_time": Benchmark((_CYCLES, _CYCLES_UNBOUND)),
    "virtual_workers": Benchmark((_FUSED,)),
}
"""Of training, first in README."""

STARTS = {
    "launch_overhead": Benchmark((_LAUNCH,), left_out=("vs_mpirun", "vs_horovodrun")),
    "startup": Benchmark((_STARTUP,)),
}
"""Of starting a job."""
