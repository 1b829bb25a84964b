"""The points of minibatch_study.py: which runs belong to which figure and table of the paper, and to what it says.

The recipe is `cluttered_digits`; how the regime was chosen is written in results/minibatch_study.md.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hvd_imagenet.recipes import Recipe, named

# Eight doublings, from two below the reference minibatch, which stands where the paper has 256.
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
# Where the paper has 8k: the last before the break, at the paper's 3.2; and half of it.
LARGE, SMALLER = 512, 256
FEW_SEEDS, SEEDS = 3, 5
# η·c, by which a layer moves in an iteration in units of its norm, is 0.02 to 0.05 then, as at 32k in LARS' paper.
LARS_TRUST, LARS_REFERENCE_LR = 0.01, 0.4


@dataclass(frozen=True)
class Run:
    """One training: of a recipe, in a framework, on so many processes."""

    recipe: Recipe
    framework: str = "torch"
    processes: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        """What a row of the results is known by, beside the data."""
        return self.recipe.hash, self.framework, str(self.processes)


@dataclass(frozen=True)
class Point:
    """A mark in a figure or a row of a table: runs that differ in their seed alone.

    Attributes:
        label: what it is called there.
        recipe: with any seed.
        seeds: how many, from 0.
        paper: the paper's top-1 error where it has the same point, in percent.
        framework: torch or keras.
        processes: of the job.
    """

    label: str
    recipe: Recipe
    seeds: int = FEW_SEEDS
    paper: str = ""
    framework: str = "torch"
    processes: int = 1

    @property
    def runs(self) -> list[Run]:
        return [
            Run(dataclasses.replace(self.recipe, seed=seed), self.framework, self.processes)
            for seed in range(self.seeds)
        ]


def base() -> Recipe:
    return named("cluttered_digits")


def at(minibatch: int, **changes: object) -> Recipe:
    return dataclasses.replace(base(), minibatch=minibatch, **changes)  # type: ignore[arg-type]


def by_square_root(minibatch: int, **changes: object) -> Recipe:
    """η times √k in the place of k: a reference minibatch of kn/√k does it, and warmup begins where it always does."""
    k = minibatch / base().reference_minibatch
    return at(minibatch, reference_minibatch=round(minibatch / math.sqrt(k)), **changes)


def figure1() -> Iterator[Point]:
    """Error against minibatch."""
    errors = (
        "23.49",
        "23.60 ± 0.12",
        "23.48",
        "23.53",
        "23.49",
        "23.56",
        "23.74 ± 0.09",
        "24.79 ± 0.27",
    )
    of_paper = dict(zip(SIZES[1:], errors, strict=True))
    claimed = (base().reference_minibatch, SMALLER, LARGE)
    for size in SIZES:
        yield Point(f"kn {size}", at(size), SEEDS if size in claimed else FEW_SEEDS, of_paper.get(size, ""))


def table1() -> Iterator[Point]:
    """Warmup."""
    of_paper = {"none": "24.84 ± 0.37", "constant": "25.88 ± 0.56", "gradual": "23.74 ± 0.09"}
    yield Point(f"{base().reference_minibatch}, the reference", at(base().reference_minibatch), SEEDS, "23.60 ± 0.12")
    for size in (SMALLER, LARGE):
        for warmup, error in of_paper.items():
            label = f"{size}, {'no' if warmup == 'none' else warmup} warmup"
            yield Point(label, at(size, warmup=warmup), SEEDS, error if size == LARGE else "")


def table2a() -> Iterator[Point]:
    """Learning rates."""
    recipe = base()
    small = recipe.reference_minibatch
    of_paper = {0.5: ("23.92 ± 0.10", "24.27 ± 0.08"), 1.0: ("23.60 ± 0.12", "23.74 ± 0.09"),
                2.0: ("23.68 ± 0.09", "24.05 ± 0.18")}  # fmt: skip
    for column, size in enumerate((small, LARGE)):
        for factor, errors in of_paper.items():
            lr = recipe.reference_lr * factor
            seeds = SEEDS if factor == 1 else FEW_SEEDS
            yield Point(f"{size}, lr {lr * size / small:g}", at(size, reference_lr=lr), seeds, errors[column])
    # A reference minibatch of kn leaves η as it is.
    yield Point(f"{LARGE}, lr unscaled", at(LARGE, reference_minibatch=LARGE), paper="41.67 ± 0.10")
    yield Point(f"{LARGE}, lr by the square root", by_square_root(LARGE), paper="26.22 ± 0.03")


def table2b() -> Iterator[Point]:
    """γ of the last batch normalisation of a block at first."""
    of_paper = {(1, 0): "23.84 ± 0.18", (1, 1): "24.11 ± 0.07", (0, 0): "23.60 ± 0.12", (0, 1): "23.74 ± 0.09"}
    for gamma in (1, 0):
        for column, size in enumerate((base().reference_minibatch, LARGE)):
            recipe = at(size, zero_last_gamma=gamma == 0)
            yield Point(f"{size}, last gamma {gamma}", recipe, FEW_SEEDS if gamma else SEEDS, of_paper[gamma, column])


def weight_decay() -> Iterator[Point]:
    """Weight decay off and on γ and β (section 5.1 says off)."""
    for size in (base().reference_minibatch, LARGE):
        yield Point(f"{size}, off batch norm", at(size), SEEDS)
        yield Point(f"{size}, on batch norm too", at(size, decay_batch_norm=True))


def batch_norm() -> Iterator[Point]:
    """Statistics over n images, up to all of the process's, which here is the whole minibatch (section 2.3)."""
    yield Point(f"{LARGE}, n = {base().per_worker}", at(LARGE), SEEDS)
    for per_worker in (64, 256, LARGE):
        yield Point(f"{LARGE}, n = {per_worker}", at(LARGE, per_worker=per_worker))


def cancelled() -> Iterator[Point]:
    """Division by the reference minibatch in the place of kn, so that k need not be in η (section 3, remark 3).

    Then w moves by η(k·g + λw), not by kη(g + λw): the same run with λ/k in the place of λ. No code of ours can do it
    wrong, so that is how it is run.
    """
    recipe = base()
    for size in (SMALLER, LARGE):
        yield Point(f"{size}, divided by kn", at(size), SEEDS)
        wrong = recipe.weight_decay * recipe.reference_minibatch / size
        yield Point(f"{size}, k cancelled into the rate", at(size, weight_decay=wrong))


def frameworks() -> Iterator[Point]:
    """One recipe in both frameworks on 1, 2 and 4 processes: of several one seed, which one process has, too."""
    for framework in ("torch", "keras"):
        for processes in (1, 2, 4):
            label = f"{framework}, {processes} process{'es' if processes > 1 else ''}"
            seeds = FEW_SEEDS if processes == 1 else 1
            yield Point(label, at(SMALLER), seeds, framework=framework, processes=processes)


def lars() -> Iterator[Point]:
    """LARS where SGD breaks; after You, Gitman & Ginsburg 2017, whose η grows more slowly than kn."""
    for size in SIZES[-3:]:
        recipe = by_square_root(size, opt="lars", trust_coefficient=LARS_TRUST, reference_lr=LARS_REFERENCE_LR)
        yield Point(f"{size}, SGD", at(size))
        yield Point(f"{size}, LARS", recipe)


STUDIES: dict[str, Callable[[], Iterator[Point]]] = {
    "FIGURE1": figure1,
    "TABLE1": table1,
    "TABLE2A": table2a,
    "TABLE2B": table2b,
    "WEIGHT_DECAY": weight_decay,
    "BATCH_NORM": batch_norm,
    "CANCELLED": cancelled,
    "FRAMEWORKS": frameworks,
    "LARS": lars,
}


def quick() -> dict[str, list[Point]]:
    """Two points of two seeds, for a test: seconds."""
    small = dataclasses.replace(base(), epochs=2, decay_epochs=(1.0,), warmup_epochs=0.5)
    return {"QUICK": [Point(f"kn {kn}", dataclasses.replace(small, minibatch=kn), seeds=1) for kn in (64, 128)]}


def chosen(only: list[str] | None, seeds: int | None = None) -> dict[str, list[Point]]:
    """The points of some studies, of all if None, with so many seeds at most."""
    studies = {name: list(make()) for name, make in STUDIES.items() if only is None or name in only}
    return {
        name: [dataclasses.replace(point, seeds=min(point.seeds, seeds or SEEDS)) for point in points]
        for name, points in studies.items()
    }


def runs_of(studies: dict[str, list[Point]]) -> list[Run]:
    """Each run once; the first seed of every point before the second of any, so that all can be seen early."""
    runs = {run.key: run for points in studies.values() for point in points for run in point.runs}
    return sorted(runs.values(), key=lambda run: (run.recipe.seed, run.processes))
