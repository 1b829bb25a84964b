"""What the figures of `plan` and of the scaling lab are called in README."""

from hvd_imagenet.report.benchmark_forms import SECONDS, deviation, seconds_and_deviation, share
from hvd_imagenet.report.benchmark_tables import Benchmark, Table, cell

_PAPER_GPUS = ("256", "352")
_PAPER = Table(
    ("An iteration of ResNet-50 on the paper's P100s", *(f"{gpus} GPUs" for gpus in _PAPER_GPUS)),
    (
        (
            "in the paper",
            tuple(cell(SECONDS, f"fitted/points/{gpus}/measured_s") for gpus in _PAPER_GPUS),
        ),
        *(
            (
                words,
                tuple(
                    cell(seconds_and_deviation, f"{case}/points/{gpus}/predicted_s", f"{case}/points/{gpus}/deviation")
                    for gpus in _PAPER_GPUS
                ),
            )
            for case, words in {
                "cited_alone": "`plan`, cited parameters alone (against the paper)",
                "no_stragglers": "`plan`, the same without stragglers",
                "fitted": "`plan`, stragglers fitted to the time at 256",
            }.items()
        ),
    ),
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
    "plan_against_paper": Benchmark((_PAPER,), left_out=("agreement_with_fit",)),
    "scaling_lab": Benchmark((_LAB,)),
}
"""By the names of files, which are those of the scripts."""
