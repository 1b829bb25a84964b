"""The optimizers of a recipe, before the adapter is put around them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hvd_imagenet.core.lars import TRUST_COEFFICIENT, is_scaled
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.torch.optimizer import parameter_groups


class LARS(torch.optim.Optimizer):
    """Momentum SGD in which every weight tensor's gradient is scaled by its trust ratio: see hvd_imagenet.core.lars.

    u ← m·u + ratio·(g + λw);  w ← w − η·u, or w ← w − η·(m·u + ratio·(g + λw)) with Nesterov; biases and the γ and β of
    normalisations have a ratio of 1. Its state is torch.optim.SGD's.

    Args:
        params: parameters, or groups of them with options of their own: see parameter_groups.
        lr: η.
        momentum: m, in [0, 1).
        nesterov: look ahead.
        weight_decay: λ.
        trust_coefficient: c.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> weight = nn.Parameter(torch.tensor([[0.0, 2.0]]))
        >>> optimizer = LARS([weight], lr=1.0, weight_decay=0.5, trust_coefficient=0.3)
        >>> weight.grad = torch.tensor([[3.0, 4.0]])
        >>> optimizer.step()
        >>> weight.data
        tensor([[-0.3000,  1.5000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        trust_coefficient: float = TRUST_COEFFICIENT,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {momentum}")
        if nesterov and momentum == 0:
            raise ValueError("nesterov must be False without momentum")
        if not trust_coefficient > 0:
            raise ValueError(f"trust_coefficient must be above 0, not {trust_coefficient}")
        options = {
            "lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
        }  # fmt: skip
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps all parameters that have a gradient; gradients stay as they are.

        Args:
            closure: computes the loss again, if given.

        Returns:
            The closure's loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            if parameters:
                self._step(parameters, group)
        return loss

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        steps = _scaled_gradients(parameters, group["weight_decay"], group["trust_coefficient"])
        if momentum:
            for parameter in parameters:
                self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
            buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, steps)
            steps = torch._foreach_add(steps, buffers, alpha=momentum) if group["nesterov"] else buffers
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])


def _scaled_gradients(parameters: list[Tensor], weight_decay: float, trust_coefficient: float) -> list[Tensor]:
    """lars_gradient of the core, without a wait for the device."""
    gradients = [parameter.grad for parameter in parameters]
    decayed = list(torch._foreach_add(gradients, parameters, alpha=weight_decay))
    scaled = [number for number, parameter in enumerate(parameters) if is_scaled(parameter.shape)]
    if scaled:
        norms = torch.stack(torch._foreach_norm([parameters[number] for number in scaled]))
        denominators = torch.stack(torch._foreach_norm([gradients[number] for number in scaled])) + weight_decay * norms
        ratios = torch.where((norms > 0) & (denominators > 0), trust_coefficient * norms / denominators, 1.0)
        for number, ratio in zip(scaled, ratios, strict=True):
            decayed[number].mul_(ratio)
    return decayed


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a recipe, with the first learning rate.

    Args:
        recipe: opt and all that it says of it.
        model: whose parameters to step.

    Returns:
        torch.optim.SGD or LARS.

    Example:
        >>> type(optimizer_of(Recipe(opt="lars"), nn.Linear(2, 1))).__name__
        'LARS'
    """
    batch_norm_weight_decay = recipe.weight_decay if recipe.decay_batch_norm else 0.0
    groups = parameter_groups(model, recipe.weight_decay, batch_norm_weight_decay)
    options = {"lr": recipe.reference_lr, "momentum": recipe.momentum, "nesterov": recipe.nesterov}
    if recipe.opt == "lars":
        return LARS(groups, trust_coefficient=recipe.trust_coefficient, **options)
    return torch.optim.SGD(groups, **options)
