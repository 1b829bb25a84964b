"""Losses and gradients that are no finite numbers: found after the reduction, traced to the images afterwards."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


@torch.no_grad()
def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether all numbers are finite; waits for a GPU once.

    Args:
        tensors: dense, floating point, of one device.

    Returns:
        False with a NaN or an infinity in any of them.

    Example:
        >>> all_finite([torch.ones(2), torch.tensor([1e30])]), all_finite([torch.tensor([1.0, torch.nan])])
        (True, False)
    """
    if not tensors:
        return True
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    # The norm takes one pass for all tensors, but it may overflow where every number is finite.
    return bool(norm.isfinite()) or all(bool(tensor.isfinite().all()) for tensor in tensors)


def passes_concerned(losses: Sequence[Tensor], loss_of: Callable[[int], Tensor], parameters: list[Tensor]) -> list[int]:
    """Which passes of this process have made a loss or a gradient that is no finite number; before the update.

    A pass whose loss was finite is computed again: the reduction has replaced its gradient.

    Args:
        losses: of the passes, as they were met.
        loss_of: computes the loss of a pass again.
        parameters: of the model.

    Returns:
        The passes' numbers; none if all of it is finite on this process.

    Example:
        >>> weight = torch.ones(1, requires_grad=True)
        >>> passes_concerned([torch.ones(()), torch.tensor(torch.nan)], lambda number: weight.sum(), [weight])
        [1]
    """
    found = [number for number, loss in enumerate(losses) if not bool(loss.isfinite())]
    if found:
        return found
    for number in range(len(losses)):
        gradients = torch.autograd.grad(loss_of(number), parameters, allow_unused=True)
        if not all_finite([gradient for gradient in gradients if gradient is not None]):
            found.append(number)
    return found


class AveragesBefore:
    """Running averages of batch normalisation as they were before an iteration, to put them back.

    Args:
        averages: of running_averages; the tensors themselves.

    Example:
        >>> mean = torch.ones(2)
        >>> before = AveragesBefore({"bn.running_mean": mean})
        >>> before.note()
        >>> _ = mean.fill_(torch.nan)
        >>> before.restore()
        >>> mean
        tensor([1., 1.])
    """

    def __init__(self, averages: dict[str, Tensor]) -> None:
        self._averages = list(averages.values())
        self._noted = [tensor.clone() for tensor in self._averages]

    @torch.no_grad()
    def note(self) -> None:
        """Takes them as they are."""
        if self._averages:
            torch._foreach_copy_(self._noted, self._averages)

    @torch.no_grad()
    def restore(self) -> None:
        """Puts back what was noted."""
        if self._averages:
            torch._foreach_copy_(self._averages, self._noted)
