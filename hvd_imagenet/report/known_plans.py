"""What the figures of `plan` and of the scaling lab are called in README."""

from hvd_imagenet.report.benchmark_forms import (
    SECONDS,
    deviation,
    seconds_and_deviation,
    share,
    share_and_words,
    times_as_many,
    words,
)
from hvd_imagenet.report.benchmark_tables import Benchmark, Cell, Table, cell, worded

_PAPER_GPUS = ("8", "256", "352")
_PAPER_CASES = {
    "cited_alone": "`plan`, cited parameters alone",
    "baseline_fitted": "the same, the rest of a step fitted to the time at 8",
    "no_stragglers": "the same without stragglers",
    "fitted": "`plan`, stragglers fitted to the time at 256, too",
}
_PAPER = Table(
    ("An iteration of ResNet-50 on the paper's P100s", *(f"{gpus} GPUs" for gpus in _PAPER_GPUS)),
    (
        ("in the paper", tuple(cell(SECONDS, f"fitted/points/{gpus}/measured_s") for gpus in _PAPER_GPUS)),
        *(
            (
                of_case,
                tuple(
                    cell(seconds_and_deviation, f"{case}/points/{gpus}/predicted_s", f"{case}/points/{gpus}/deviation")
                    for gpus in _PAPER_GPUS
                ),
            )
            for case, of_case in _PAPER_CASES.items()
        ),
    ),
)


def _network(name: str) -> tuple[Cell, ...]:
    at = f"256_workers_by_network/{name}"
    return (
        cell(SECONDS, f"{at}/step_seconds"),
        cell(share, f"{at}/efficiency"),
        cell(times_as_many, f"{at}/vs_50gbit"),
        worded(words, f"{at}/lost_to"),
    )


_NETWORKS = Table(
    (
        "`plan`: 256 P100s with Horovod's exchange, servers of 8 on …",
        "an iteration",
        "efficiency",
        "images/s against 50 Gbit/s",
        "most is lost to",
    ),
    tuple((f"{rate} Gbit/s", _network(f"{rate}gbit")) for rate in (1, 10, 25, 50, 100, 400)),
)

_ALGORITHMS = {
    "halving-doubling": "halving/doubling between servers",
    "ring": "a ring of servers",
    "flat-ring": "a ring of all GPUs",
}


def _beyond(workers: int) -> tuple[Cell, ...]:
    at = [f"beyond_the_paper/{algorithm}/points/{workers}" for algorithm in _ALGORITHMS]
    return tuple(worded(share_and_words, f"{each}/efficiency", f"{each}/lost_to") for each in at)


_BEYOND = Table(
    ("`plan`: efficiency at 50 Gbit/s, and what most is lost to, with …", *_ALGORITHMS.values()),
    tuple((f"{workers:,} P100s", _beyond(workers)) for workers in (1024, 2048, 4096, 8192, 16_384)),
)

_LAB = Table(
    ("The scaling lab: 16 ranks over shaped links", ""),
    (
        ("efficiency at the paper's ratio of compute", (cell(share, "ratios/efficiency_at_the_papers_ratio"),)),
        ("`plan`: median deviation from what was measured", (cell(share, "median_deviation"),)),
        ("`plan`: the worst point", (cell(deviation, "worst/deviation"),)),
    ),
)

PLANS = {
    "plan_against_paper": Benchmark(
        (_PAPER, _NETWORKS, _BEYOND), left_out=("agreement_at_352_with_fit", "agreement_with_cited_alone")
    ),
    "scaling_lab": Benchmark((_LAB,)),
}
"""By the names of files, which are those of the scripts."""
