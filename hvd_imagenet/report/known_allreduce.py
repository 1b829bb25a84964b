"""What the figures of the allreduce are called in README."""

from hvd_imagenet.report.benchmark_forms import (
    NUMBER,
    milliseconds,
    share,
    three_digits,
    with_range,
)
from hvd_imagenet.report.benchmark_tables import Benchmark, Cell, Table, cell, ratios

Row = tuple[str, tuple[Cell | None, ...]]

_RANKS = (2, 4, 8)
_OVER_RANKS = tuple(f"{ranks} ranks" for ranks in _RANKS)


def _over_ranks(words: str, name: str) -> Row:
    return words, ratios(*(f"resnet50_{name}_{ranks}_ranks" for ranks in _RANKS))


_ALLREDUCE = Table(
    (
        "Allreduce of ResNet-50's gradients, 102 MB: Horovod as `launch` starts it is so many times as fast as …",
        *_OVER_RANKS,
    ),
    (
        _over_ranks("mpi4py's own Allreduce, started by `launch` too", "vs_mpi4py"),
        _over_ranks("the same, started by mpirun", "vs_mpi4py_by_mpirun"),
        _over_ranks("mpi4py's by `launch`, with Horovod's own cycle and fusion", "untuned_vs_mpi4py"),
        (
            "mpi4py's by `launch`, at the best cycle time of the sweep",
            ratios("resnet50_best_cycle_vs_mpi4py_2_ranks", None, None),
        ),
        _over_ranks("torch.distributed on gloo", "vs_torch_gloo"),
        _over_ranks("torch.distributed on gloo, Horovod over Gloo too", "gloo_vs_torch_gloo"),
        _over_ranks("itself without fusion", "fused_vs_unfused"),
        _over_ranks("itself without fusion, both over Gloo", "gloo_fused_vs_unfused"),
    ),
)
_LIBRARIES = {
    "horovod_mpi": "Horovod over MPI, as `launch` starts it",
    "horovod_mpi_untuned": "Horovod over MPI, its own settings",
    "horovod_mpi_unfused": "Horovod over MPI, no fusion",
    "horovod_gloo": "Horovod over Gloo, as `launch` starts it",
    "horovod_gloo_untuned": "Horovod over Gloo, its own settings",
    "horovod_gloo_unfused": "Horovod over Gloo, no fusion",
    "mpi4py": "mpi4py",
    "mpi4py_by_mpirun": "mpi4py, started by mpirun",
    "torch_gloo": "torch.distributed on gloo",
}
_LATENCY = Table(
    ("Latency: allreduce of 4 bytes, median (quartiles)", *_OVER_RANKS),
    tuple(
        (
            words,
            tuple(
                cell(with_range(milliseconds), f"seconds/{ranks}/{name}/4", f"seconds_quartiles/{ranks}/{name}/4")
                for ranks in _RANKS
            ),
        )
        for name, words in _LIBRARIES.items()
    ),
)
_BANDWIDTH = Table(
    ("Bus bandwidth in GB/s: ResNet-50's gradients, one after another or fused", *_OVER_RANKS),
    (
        *(
            (words, tuple(cell(three_digits, f"bus_bandwidth_gb_s/{ranks}/{name}/set") for ranks in _RANKS))
            for name, words in _LIBRARIES.items()
        ),
        (
            "mpi4py, all in one buffer",
            tuple(cell(three_digits, f"bus_bandwidth_gb_s/{ranks}/mpi4py/set_in_one_buffer") for ranks in _RANKS),
        ),
    ),
)
_SINGLE_LIBRARIES = ("horovod_mpi_untuned", "horovod_gloo_untuned", "mpi4py", "torch_gloo")
_TENSORS = Table(
    ("Bus bandwidth in GB/s: a single tensor on 2 ranks", *(_LIBRARIES[name] for name in _SINGLE_LIBRARIES)),
    tuple(
        (
            f"{1 << power} MiB",
            tuple(cell(three_digits, f"bus_bandwidth_gb_s/2/{name}/{1 << power + 20}") for name in _SINGLE_LIBRARIES),
        )
        for power in (0, 2, 4, 6, 8)
    ),
)


def _of_sweep(words: str, value: str) -> Row:
    at = f"cycle_time_ms/{value}"
    return words, (
        cell(milliseconds, f"{at}/4"),
        cell(milliseconds, f"{at}/set"),
        cell(share, f"{at}/idle_cores"),
        cell(NUMBER, f"{at}/products_per_second"),
    )


_CYCLE_SWEEP = Table(
    (
        "Horovod over MPI, 2 ranks, at a cycle time of …",
        "4 bytes",
        "ResNet-50's gradients",
        "of a core while nothing is reduced",
        "products of 256 × 256 matrices/s beside it",
    ),
    (
        *(_of_sweep(f"{cycle_ms} ms", cycle_ms) for cycle_ms in ("0.5", "1", "2.5", "5", "10", "20", "50")),
        _of_sweep("mpi4py, without such a thread", "mpi4py"),
    ),
)
_FUSION_SWEEP = Table(
    ("Horovod over MPI, 2 ranks, at a fusion threshold of …", "ResNet-50's gradients, median (quartiles)"),
    tuple(
        (
            f"{mb} MiB" if mb else "0 (no fusion)",
            (
                cell(
                    with_range(milliseconds),
                    f"fusion_threshold_mb/{mb}/set",
                    f"fusion_threshold_mb_quartiles/{mb}/set",
                ),
            ),
        )
        for mb in (0, 1, 4, 16, 64, 128)
    ),
)

ALLREDUCE = {
    "allreduce": Benchmark((_ALLREDUCE, _LATENCY, _BANDWIDTH, _TENSORS, _CYCLE_SWEEP, _FUSION_SWEEP)),
}
"""Of sums over all processes."""
