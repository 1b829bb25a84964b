"""Metrics of the whole job from those of its ranks."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from hvd_imagenet.communicator import Communicator
from hvd_imagenet.errors import AgreedError
from hvd_imagenet.keras.communication import HorovodCommunicator

VALIDATION = "val_"


@dataclass(frozen=True)
class _Pass:
    """What a model's metrics hold after a pass over this rank's data."""

    had_data: bool
    samples: float
    """As far as Keras has counted them."""
    metrics: dict[str, Any]
    states: dict[str, list[np.ndarray]]
    results: dict[str, Any]


@dataclass(frozen=True)
class _Entry:
    """What a rank tells the others of a name in its logs; plain data."""

    value: Any
    samples: float
    shapes: list[list[int]] | None
    """Those of the metric's state, if it adds up."""


@dataclass(frozen=True)
class _Report:
    """What a rank tells the others of its epoch."""

    entries: dict[str, _Entry]
    validated_nothing: bool

    def of_ranks(self, communicator: Communicator) -> "list[_Report]":
        """Those of all ranks."""
        told = communicator.gather(
            [{name: vars(entry) for name, entry in self.entries.items()}, self.validated_nothing]
        )
        return [
            _Report({name: _Entry(**entry) for name, entry in entries.items()}, nothing) for entries, nothing in told
        ]


class MetricAverage(keras.callbacks.Callback):
    """Puts the metrics of all ranks together at the end of each epoch, as if one process had seen all the data.

    Keras' metrics that add up, which are keras.metrics.Mean with all that derives from it (the loss and the
    accuracies among them), Sum, Precision, Recall, AUC and the like, are exact: what they have summed is added over the
    ranks, and the result is taken of that. Everything else in the logs (metrics of other classes, what a train_step of
    one's own returns) becomes the mean over the ranks weighted by their number of samples, or the plain one where Keras
    has not counted samples; what is the same on all ranks, like the learning rate, stays as it is. So uneven shards
    are right in training and in validation, and a rank without validation samples gets the numbers of the others.

    It belongs before the callbacks that read the logs: ReduceLROnPlateau, EarlyStopping, ModelCheckpoint, TensorBoard.
    During an epoch the progress bar shows the rank's own numbers. model.evaluate() alone returns each rank's own.

    Raises:
        AgreedError: at the end of an epoch, on all ranks, if they do not log the same names.

    Example:
        >>> callback = MetricAverage()
    """

    def __init__(self) -> None:
        super().__init__()
        self._in_epoch = False
        self._training: _Pass | None = None
        self._validation: _Pass | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forgets the epoch before."""
        self._in_epoch, self._training, self._validation = True, None, None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes training's metrics: evaluation takes the same objects, and resets them after this call."""
        if self._in_epoch and self._training is None:
            self._training = _pass_of(self.model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Notes validation's; there are no logs where there was no data."""
        if self._in_epoch:
            self._validation = _pass_of(self.model, had_data=bool(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Replaces the numbers in the logs, for the callbacks that follow."""
        self._in_epoch = False
        communicator = HorovodCommunicator()
        if communicator.size == 1 or logs is None:
            return
        passes = {"": self._training or _pass_of(self.model)}
        if self._validation is not None:
            passes[VALIDATION] = self._validation
        logs.update(_averaged(communicator, passes, logs))


def _averaged(communicator: Communicator, passes: Mapping[str, _Pass], logs: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the whole job; every rank makes the same collective calls, whatever it logs."""
    entries = {name: entry for name in logs if (entry := _entry(passes, name, logs[name])) is not None}
    validation = passes.get(VALIDATION)
    reports = _Report(entries, validation is not None and not validation.had_data).of_ranks(communicator)
    names = _agreed_names(reports)
    shapes = {name: _common_shapes(reports, name) for name in names}
    adding = [name for name in names if shapes[name] is not None]
    averaged = {name: _weighted_mean(reports, name) for name in names if shapes[name] is None}
    if adding:
        sums = communicator.sum(np.concatenate([_state(passes, name, shapes[name]) for name in adding]))
        averaged |= _results(passes, {name: shapes[name] for name in adding}, sums)
    if any(len(report.entries) < len(names) for report in reports):  # a rank without samples may lack the metric
        told = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in averaged.items()}
        for of_rank in reversed(communicator.gather(told)):
            averaged |= {name: np.array(value) if isinstance(value, list) else value for name, value in of_rank.items()}
    return averaged


def _pass_of(model: Any, had_data: bool = True) -> _Pass:
    """What the metrics hold now. A compiled step that gets no data can count a batch nevertheless."""
    metrics = _metrics_by_name(model)
    counts = {name: float(_numpy(each.count)) for name, each in metrics.items() if isinstance(each, keras.metrics.Mean)}
    samples = counts.get("loss") or max(counts.values(), default=0.0)  # Keras counts samples with the loss
    return _Pass(
        had_data=had_data,
        samples=samples if had_data else 0.0,
        metrics=metrics,
        states={name: [_numpy(variable) for variable in each.variables] for name, each in metrics.items()},
        results={name: _plain(each.result()) for name, each in metrics.items()},
    )


def _metrics_by_name(model: Any) -> dict[str, Any]:
    """The metrics under the names that they have in the logs."""
    named: dict[str, Any] = {}
    for metric in model.metrics:
        if hasattr(metric, "_flat_weighted_metrics"):
            named.update(_compiled_metrics_by_name(metric))
        elif not hasattr(metric, "_user_metrics"):
            named[metric.name] = metric
    return named


def _compiled_metrics_by_name(compiled: Any) -> dict[str, Any]:
    """Those given to compile(): Keras' own naming, on stand-ins whose result is the metric itself."""

    def stand_in(group: Any) -> Any:
        metrics = [SimpleNamespace(name=each.name, result=lambda each=each: each) for each in group.metrics]
        return SimpleNamespace(metrics=metrics, output_name=group.output_name)

    groups = {
        name: [group and stand_in(group) for group in getattr(compiled, name)]
        for name in ("_flat_metrics", "_flat_weighted_metrics")
    }
    named: dict[str, Any] = type(compiled).result(SimpleNamespace(built=True, **groups))
    return named


def _adds_up(metric: Any) -> bool:
    """Whether the states of the ranks, added, are the state over the data of all ranks."""
    additive = isinstance(metric, (keras.metrics.Mean, keras.metrics.Sum))
    return additive or type(metric).__module__.startswith("keras.")


def _entry(passes: Mapping[str, _Pass], name: str, value: Any) -> _Entry | None:
    """This rank's entry for a name in its logs; None if the value is no number."""
    if not np.issubdtype(np.asarray(value).dtype, np.number):
        return None
    of_pass, own_name = _owner(passes, name)
    metric = of_pass.metrics.get(own_name)
    # Another callback may have reset the metric, or put another number in its place.
    is_result = metric is not None and _equal(of_pass.results[own_name], value)
    shapes = [[*state.shape] for state in of_pass.states[own_name]] if is_result and _adds_up(metric) else None
    return _Entry(np.asarray(value, np.float64).tolist(), of_pass.samples, shapes)


def _owner(passes: Mapping[str, _Pass], name: str) -> tuple[_Pass, str]:
    """The pass over the data that a name is of, and the metric's own name."""
    if name.startswith(VALIDATION) and VALIDATION in passes:
        return passes[VALIDATION], name.removeprefix(VALIDATION)
    return passes[""], name


def _agreed_names(reports: list[_Report]) -> list[str]:
    """All names in order; a rank that validated nothing may lack those of validation."""
    names = sorted({name for report in reports for name in report.entries})
    for rank, report in enumerate(reports):
        for name in names:
            if name not in report.entries and not (report.validated_nothing and name.startswith(VALIDATION)):
                others = [other for other, has in enumerate(reports) if name in has.entries]
                raise AgreedError(
                    f"the logs must have the same names on all ranks, but {name!r} is missing on rank {rank} and is "
                    f"there on rank {others[0]}; compile the same metrics on every rank, and give every rank "
                    "validation data (perhaps an empty data set) or none",
                    spokesman=rank,
                )
    return names


def _common_shapes(reports: list[_Report], name: str) -> list[list[int]] | None:
    """The shapes of a metric's state if it adds up on all ranks that have it."""
    of_ranks = [report.entries[name].shapes for report in reports if name in report.entries]
    return of_ranks[0] if all(shapes == of_ranks[0] for shapes in of_ranks) else None


def _weighted_mean(reports: list[_Report], name: str) -> Any:
    entries = [report.entries[name] for report in reports if name in report.entries]
    if all(_equal(entry.value, entries[0].value) for entry in entries):
        return _plain(entries[0].value)
    if any(entry.samples for entry in entries):
        entries = [entry for entry in entries if entry.samples]
    weights = [entry.samples or 1.0 for entry in entries]
    return _plain(np.average([entry.value for entry in entries], axis=0, weights=weights))


def _state(passes: Mapping[str, _Pass], name: str, shapes: list[list[int]] | None) -> np.ndarray:
    """A metric's state as one row; zeros on a rank that does not have it."""
    of_pass, own_name = _owner(passes, name)
    states = of_pass.states.get(own_name) if of_pass.had_data else None
    rows = states or [np.zeros(shape) for shape in shapes or ()]
    return np.concatenate([np.asarray(state, np.float64).reshape(-1) for state in rows])


def _results(passes: Mapping[str, _Pass], shapes: Mapping[str, Any], sums: np.ndarray) -> dict[str, Any]:
    """The metrics' results of summed states, where this rank has the metric."""
    results, start = {}, 0
    for name, of_metric in shapes.items():
        states = []
        for shape in of_metric:
            length = int(np.prod(shape))
            states.append(sums[start : start + length].reshape(shape))
            start += length
        of_pass, own_name = _owner(passes, name)
        metric = of_pass.metrics.get(own_name)
        if metric is not None and [[*each.shape] for each in metric.variables] == of_metric:
            results[name] = _result(metric, states)
    return results


def _result(metric: Any, states: list[np.ndarray]) -> Any:
    """A metric's result of a state; the one that it has is put back."""
    if type(metric).result is keras.metrics.Mean.result and len(states) == 2:
        total, count = (float(state) for state in states)
        return total / count if count else 0.0
    kept = [_numpy(variable) for variable in metric.variables]
    try:
        for variable, state in zip(metric.variables, states, strict=True):
            variable.assign(state)
        return _plain(metric.result())
    finally:
        for variable, value in zip(metric.variables, kept, strict=True):
            variable.assign(value)


def _numpy(value: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(value))


def _plain(value: Any) -> Any:
    """A number as a float, as Keras has it in the logs; anything longer as an array."""
    if isinstance(value, dict):
        return None
    array = _numpy(value)
    return float(array) if array.size == 1 else array


def _equal(one: Any, other: Any) -> bool:
    if one is None:
        return False
    return np.array_equal(np.asarray(one, np.float64), np.asarray(other, np.float64), equal_nan=True)
