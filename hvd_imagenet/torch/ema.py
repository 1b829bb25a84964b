"""The running average of weights and batch normalisation averages."""

import torch
from torch import Tensor, nn

from hvd_imagenet.torch.batch_norm import running_averages


class ModelEma:
    """a ← d·a + (1 − d)·w after every iteration, over weights and batch normalisation averages.

    Args:
        model: whose weights to average; the average starts as a copy of them.
        decay: d.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = model.requires_grad_(False).weight.fill_(1.0)
        >>> ema = ModelEma(model, decay=0.75)
        >>> _ = model.weight.fill_(5.0)
        >>> ema.update()
        >>> float(ema.tensors["weight"])
        2.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._source = {**dict(model.named_parameters()), **running_averages(model)}
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._source.items()}

    @property
    def averages(self) -> dict[str, Tensor]:
        """The part that differs between processes until it is averaged over them."""
        return {
            name: tensor for name, tensor in self.tensors.items() if name.endswith((".running_mean", ".running_var"))
        }

    @torch.no_grad()
    def update(self) -> None:
        """Takes one step; call it after every iteration."""
        torch._foreach_lerp_(list(self.tensors.values()), list(self._source.values()), 1.0 - self._decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the average and the model's own weights; call it again to undo it."""
        for name, source in self._source.items():
            own = source.detach().clone()
            source.copy_(self.tensors[name])
            self.tensors[name].copy_(own)
