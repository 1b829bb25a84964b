"""What the study of minibatches is called in README: its tables, and its figures."""

from typing import NamedTuple


class Words(NamedTuple):
    """Of a table and the figures below it.

    Args:
        title: of the table's first column, says what is compared.
        paper: of the column with the paper's errors; empty where it has none.
        figures: names of files.
    """

    title: str
    paper: str = ""
    figures: tuple[str, ...] = ()


_BOTH_SIZES = "the paper's, at 256 and 8,192"
STUDIES = {
    "FIGURE1": Words(
        "Figure 1: minibatch kn; learning rate by linear scaling, gradual warmup",
        "the paper's, at as many times its 256",
        ("figure1", "figure3"),
    ),
    "TABLE1": Words("Table 1: minibatch and warmup", _BOTH_SIZES, ("figure2",)),
    "TABLE2A": Words("Table 2a: minibatch and learning rate", _BOTH_SIZES, ("figure5",)),
    "TABLE2B": Words(
        "Table 2b: minibatch, and γ at first in the last batch norm of every block", _BOTH_SIZES, ("last_gamma",)
    ),
    "WEIGHT_DECAY": Words("Section 5.1: minibatch, and weight decay off or on the γ and β of batch norm"),
    "BATCH_NORM": Words(
        "Section 2.3: minibatch, and the images n over which batch norm takes its statistics", figures=("per_worker",)
    ),
    "CANCELLED": Words("Section 3: minibatch, and the gradient divided by kn, or k cancelled into the learning rate"),
    "FRAMEWORKS": Words("One recipe in both frameworks on 1, 2 and 4 processes"),
    "LARS": Words("Beyond the paper: minibatch, SGD and LARS where SGD breaks", figures=("lars",)),
}
"""By the names that benchmarks/study_points.py gives to studies; in README's order."""

READING = (
    "Validation errors in percent, medians of the last 5 epochs: mean ± standard deviation over the seeds that did not "
    "diverge; how many did is said. In the figures, bands are one standard deviation, small dots single seeds, hollow "
    "marks points with fewer seeds than wanted, crosses seeds that diverged; grey is the reference. The two panels of "
    "Figure 1 have a vertical axis each, for the data are others, and the same multiples of the reference."
)
"""How to read tables and figures; above them."""
CAPTIONS = {
    "figure1": "Validation error against minibatch, beside the paper's Figure 1",
    "figure2": "Errors against epoch with no, constant and gradual warmup, as the paper's Figures 2 and 4",
    "figure3": "Training error against epoch of each minibatch, as the paper's Figure 3",
    "figure5": "Errors against epoch with several learning rates η, as the paper's Figure 5",
    "last_gamma": "Errors against epoch, with γ at first 1 or 0 in the last batch norm of every block",
    "per_worker": "Errors with several n, the images of a worker over which batch norm takes its statistics",
    "lars": "Errors of SGD and LARS where SGD breaks",
}
"""Of figures, by the names of their files."""
