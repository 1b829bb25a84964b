"""Gradients of all ranks become one: in fused groups, after the ranks have agreed that they have the same ones."""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import keras

from hvd_imagenet.errors import AgreedError
from hvd_imagenet.keras.backend import BACKEND, collectives, horovod
from hvd_imagenet.keras.communication import HorovodCommunicator, describe, path, without_numbers
from hvd_imagenet.keras.gradient_groups import GROUP_BYTES, by_number, by_size, one_dtype_each

_agreements = 0


@dataclass
class Reduction:
    """How the gradients of one optimizer are reduced; the fields are arguments of DistributedOptimizer.

    Example:
        >>> horovod.init()
        >>> reduction = Reduction(op=horovod.Sum)
        >>> weight = keras.Variable([1.0])
        >>> gradients = reduction([keras.ops.ones(1)], [weight])
        >>> float(gradients[0][0]) == horovod.size()
        True
    """

    op: Any
    name: str = "hvd_imagenet"
    compression: Any = horovod.Compression.none
    sparse_as_dense: bool = False
    gradient_predivide_factor: float = 1.0
    groups: Any = None
    process_set: Any = horovod.global_process_set
    scale_local_gradients: bool = True
    device_dense: str = ""
    device_sparse: str = ""
    passes: int = 1
    """What the gradient is multiplied with: the number of accumulated passes where their sum is wanted."""
    local: list[Any] = field(default_factory=list)
    """Variables whose gradients stay each rank's own."""
    model: Any = None
    """A weak reference to the model that was compiled with the optimizer."""
    exists: ClassVar[bool] = False
    """Whether this process has made one over several processes: no step may be compiled by XLA then."""
    _agreed: dict[Any, str] = field(default_factory=dict)
    _prefix: str = "hvd_imagenet"

    def __post_init__(self) -> None:
        Reduction.exists = Reduction.exists or self.process_set.size() > 1

    def __call__(self, gradients: list[Any], variables: list[Any]) -> list[Any]:
        """The gradients of all ranks as one.

        Args:
            gradients: this rank's, None where there is none; the same ones on every rank.
            variables: whose they are.

        Returns:
            Gradients in the same order; None stays None.
        """
        reduced = [self._dense_if_wanted(gradient) for gradient in gradients]
        if self.process_set.size() > 1:
            local = [index for index in range(len(reduced)) if self._is_local(variables[index])]
            for index in local:
                if self.scale_local_gradients and reduced[index] is not None:
                    reduced[index] = collectives.divide(reduced[index], self.process_set.size())
            present = [index for index, each in enumerate(reduced) if each is not None and index not in local]
            self._reduce(reduced, present, variables)
        if self.passes > 1:
            reduced = [None if each is None else each * self.passes for each in reduced]
        return reduced

    def _dense_if_wanted(self, gradient: Any) -> Any:
        as_dense = self.sparse_as_dense or self.op == horovod.Adasum  # rows one after the other only add up
        if gradient is None or (collectives.is_sparse(gradient) and not as_dense):
            return gradient
        return collectives.dense(gradient)

    def _reduce(self, gradients: list[Any], present: list[int], variables: list[Any]) -> None:
        sparse = [index for index in present if collectives.is_sparse(gradients[index])]
        for index in sparse:
            gathered = collectives.gather_slices(gradients[index], f"{self._prefix}.sparse.{index}", self.process_set)
            average = self.op == horovod.Average
            gradients[index] = collectives.divide(gathered, self.process_set.size()) if average else gathered
        groups = self._groups([index for index in present if index not in sparse], gradients, variables)
        names = [f"{self._prefix}.{number}" for number in range(len(groups))]
        of_groups = [[gradients[index] for index in group] for group in groups]
        for group, of_group in zip(
            groups, collectives.allreduce_groups(of_groups, names, **self._options()), strict=True
        ):
            for index, gradient in zip(group, of_group, strict=True):
                gradients[index] = gradient

    def _options(self) -> dict[str, Any]:
        predivided = self.gradient_predivide_factor if self.op == horovod.Average else 1.0
        options = {
            "op": self.op,
            "compression": self.compression,
            "prescale_factor": 1.0 / predivided,
            "postscale_factor": predivided,
            "process_set": self.process_set,
        }
        if BACKEND == "tensorflow":
            options |= {"device_dense": self.device_dense, "device_sparse": self.device_sparse}
        return options

    def _groups(self, indices: list[int], gradients: list[Any], variables: list[Any]) -> list[list[int]]:
        dtypes = {index: keras.backend.standardize_dtype(gradients[index].dtype) for index in indices}
        if isinstance(self.groups, int):
            return one_dtype_each(by_number(indices, self.groups), dtypes)
        if self.groups is not None:
            owner = {id(_raw(each)): number for number, group in enumerate(self.groups) for each in group}
            groups: dict[Any, list[int]] = {}
            for index in indices:
                groups.setdefault(owner.get(id(_raw(variables[index])), ("alone", index)), []).append(index)
            return one_dtype_each(list(groups.values()), dtypes)
        # Backprop makes the last layer's gradients first.
        sizes = {index: _bytes(variables[index], dtypes[index]) for index in indices}
        backwards = by_size(indices[::-1], sizes, dtypes, GROUP_BYTES)
        # TensorFlow's steps take 3 % less time where a collective has its gradients in the order of the variables.
        return [sorted(group) for group in backwards]

    def _is_local(self, variable: Any) -> bool:
        return any(_raw(variable) is _raw(each) for each in self.local)

    def all_true(self, flag: Any) -> Any:
        """Whether a boolean tensor is true on every rank."""
        if self.process_set.size() == 1:
            return flag
        return collectives.all_true(flag, f"{self._prefix}.finite", self.process_set)

    def agree(self, optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        """Makes sure that all ranks are about to reduce the same gradients; asks them once for each set of these.

        In a graph every rank traces for itself and asks then. In an eager loop, a set that is new on one rank alone
        (another layer frozen, a gradient that is None from now on) leaves it asking while the others reduce: such a
        job stalls, and Horovod's stall warning after 60 s names the tensors. Asking at every step would find it, at
        the price of one collective more.

        Args:
            optimizer: its class is compared too.
            gradients: this rank's.
            variables: whose they are.

        Raises:
            AgreedError: on all ranks, if theirs differ.
        """
        if self.process_set.size() == 1:
            return
        kinds = tuple(_kind(gradient) for gradient in gradients)
        key = (kinds, tuple(id(variable) for variable in variables))
        if key not in self._agreed:
            mine = [type(optimizer).__name__, self._described(), len(variables)]
            mine += [[path(each), *describe(each), kind] for each, kind in zip(variables, kinds, strict=True)]
            number = collectives.outside_of_graph(lambda: _agree(HorovodCommunicator(self.process_set), mine))
            self._agreed[key] = f"{self.name}.{number}"
        self._prefix = self._agreed[key]

    def _described(self) -> str:
        groups = self.groups if isinstance(self.groups, int) or self.groups is None else "lists"
        return (
            f"op={self.op}, compression={self.compression.__name__}, sparse_as_dense={self.sparse_as_dense}, "
            f"groups={groups}, passes={self.passes}, name={self.name!r}"
        )


def _kind(gradient: Any) -> str:
    if gradient is None:
        return "no gradient"
    return "a sparse gradient" if collectives.is_sparse(gradient) else "a dense gradient"


def _bytes(variable: Any, dtype: str) -> int:
    return math.prod(int(length) for length in variable.shape) * int(re.sub(r"\D", "", dtype)) // 8


def _raw(variable: Any) -> Any:
    """What the framework holds within a variable of Keras."""
    return getattr(variable, "_value", variable)


def _agree(communicator: HorovodCommunicator, mine: list[Any]) -> int:
    """A number for the collectives' names, that the ranks have not used; those of other process sets differ."""
    global _agreements
    digest = hashlib.sha256(json.dumps(_comparable(mine)).encode()).hexdigest()
    digests, numbers = zip(*communicator.gather((digest, _agreements)), strict=True)
    if len(set(digests)) == 1:
        _agreements = max(numbers) + 1
        return _agreements
    of_ranks = communicator.gather(mine)
    rank = next(rank for rank, theirs in enumerate(of_ranks) if _comparable(theirs) != _comparable(of_ranks[0]))
    raise AgreedError(_difference(rank, of_ranks[rank], of_ranks[0]), spokesman=0)


def _comparable(mine: list[Any]) -> list[Any]:
    return mine[:3] + [[without_numbers(each[0]), list(each[1]), *each[2:]] for each in mine[3:]]


def _difference(rank: int, theirs: list[Any], of_root: list[Any]) -> str:
    rule = "every rank must train the same model with the same optimizer"
    for number, what in enumerate(("optimizer", "options of DistributedOptimizer", "number of trainable variables")):
        if theirs[number] != of_root[number]:
            return f"the {what} on rank {rank}: {theirs[number]}, on rank 0: {of_root[number]}; {rule}"
    for one, other in zip(theirs[3:], of_root[3:], strict=True):
        if _comparable([0, 0, 0, one]) != _comparable([0, 0, 0, other]):
            return (
                f"rank {rank} has {one[0]} {list(one[1])} {one[2]} with {one[3]}, where rank 0 has "
                f"{other[0]} {list(other[1])} {other[2]} with {other[3]}; {rule}"
            )
    raise AssertionError("the ranks' models do not differ")
