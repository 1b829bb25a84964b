"""What the figures of `plan` and of the scaling lab are called in README."""

from hvd_imagenet.report.benchmark_forms import (
    NUMBER,
    SECONDS,
    Form,
    deviation_and_words,
    seconds_and_deviation,
    share,
    share_and_words,
    times_as_many,
    two_numbers,
    two_shares,
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

_MATTERS = "where_communication_matters"
_VALIDATION = Table(
    ("Steps in the scaling lab differ so much from …", "`plan`", "computation alone"),
    (
        (
            "median of all points",
            (cell(share, "median_deviation"), cell(share, "median_deviation_of_computation_alone")),
        ),
        (
            "where more than 5 % of a step is communication that nothing hides",
            (
                cell(share, f"{_MATTERS}/median_deviation"),
                cell(share, f"{_MATTERS}/median_deviation_of_computation_alone"),
            ),
        ),
        ("the same, of that communication alone", (cell(share, f"{_MATTERS}/median_deviation_of_exposed"), None)),
        ("the worst point", (worded(deviation_and_words, "worst/deviation", "worst/setting"), None)),
    ),
)


def _timeline(form: Form, name: str) -> tuple[Cell, ...]:
    return (cell(form, f"timeline/measured/{name}", f"timeline/predicted/{name}"),)


_LAB = Table(
    ("The scaling lab", ""),
    (
        (
            "efficiency of 16 ranks at the paper's ratio of computation to communication, best settings measured again "
            "(goal: 95 %; the paper's 256 GPUs: 90 %)",
            (cell(share, "ratios/efficiency_at_the_papers_ratio"),),
        ),
        ("those settings", (worded(words, "best_settings"),)),
        (
            "the same with devices as uneven as the fit to the paper has them: of one worker, and of a server of 8",
            (
                cell(
                    two_shares,
                    "with_stragglers/efficiency_of_one_worker",
                    "with_stragglers/efficiency_of_a_server_of_8",
                ),
            ),
        ),
        ("Horovod's timeline shows so many allreduces a step / `plan`", _timeline(two_numbers, "allreduces")),
        ("share of a step in which ranks agree / `plan`", _timeline(two_shares, "negotiation")),
        ("share of communication that is over before backward / `plan`", _timeline(two_shares, "overlapped")),
        ("the busiest point's share of the cores", (worded(share_and_words, "busiest/cores_busy", "busiest/setting"),)),
        ("points that keep the cores busy for more than half of the time", (cell(NUMBER, "points_over_half_load"),)),
    ),
)

_LAB_POINTS = {
    "16_papers": "16 ranks at the paper's ratio",
    "16_10gbit": "16 ranks, 10 Gbit/s",
    "16_5gbit": "16 ranks, 5 Gbit/s",
    "8_10gbit": "8 ranks, 10 Gbit/s",
    "8_unfused": "8 ranks, 10 Gbit/s, nothing fused",
    "8_late": "8 ranks, 43 Gbit/s, 100 µs a message, nothing fused",
    "4_2.5gbit": "4 ranks, 2.5 Gbit/s",
    "4_ring": "4 ranks, 5 Gbit/s, MPI's ring",
    "4_rabenseifner": "4 ranks, 5 Gbit/s, MPI's halving/doubling",
    "2_5gbit": "2 ranks, 5 Gbit/s",
}


def _point(name: str) -> tuple[Cell, ...]:
    at = f"shown/{name}"
    return (
        cell(SECONDS, f"{at}/measured_s"),
        cell(seconds_and_deviation, f"{at}/predicted_s", f"{at}/deviation"),
        cell(seconds_and_deviation, f"{at}/compute_s", f"{at}/null_deviation"),
        cell(share, f"{at}/cores_busy"),
    )


_STEPS = Table(
    ("A step in the scaling lab, in a P100's time", "measured", "`plan`", "computation alone", "cores busy"),
    tuple((of_point, _point(name)) for name, of_point in _LAB_POINTS.items()),
)

PLANS = {
    "plan_against_paper": Benchmark(
        (_PAPER, _NETWORKS, _BEYOND), left_out=("agreement_at_352_with_fit", "agreement_with_cited_alone")
    ),
    "scaling_lab": Benchmark((_VALIDATION, _LAB, _STEPS)),
}
"""By the names of files, which are those of the scripts."""
