"""A device's times of a network's layers, and where every figure comes from; read from JSON files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvd_imagenet.errors import UserError
from hvd_imagenet.planner.costs import Link
from hvd_imagenet.planner.networks import NETWORKS, layers_of, roofline_s
from hvd_imagenet.planner.stragglers import Stragglers

FLOAT_BYTES = 4
_FOLDER = Path(__file__).with_name("profiles")
DEVICES = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
KINDS = ("cited", "derived", "assumed", "fitted", "measured")


@dataclass(frozen=True)
class Parameter:
    """A figure and its source.

    Args:
        name: what it is, with its unit.
        value: a number, or the text of a distribution.
        kind: one of KINDS. Fitted ones were chosen so that predictions agree with what they are compared with.
        source: where it comes from.
        unfitted: of a fitted one, what it would be otherwise.
        unfitted_source: where that comes from.
    """

    name: str
    value: float | str
    kind: str
    source: str
    unfitted: float | str | None = None
    unfitted_source: str = ""


@dataclass(frozen=True)
class Layer:
    """One layer on this device, for a minibatch of the profile's n.

    Args:
        name: of the layer.
        tensors: elements of each of its parameters.
        forward_s: its time forward.
        backward_s: its time backward.
    """

    name: str
    tensors: tuple[int, ...]
    forward_s: float
    backward_s: float


@dataclass(frozen=True)
class Profile:
    """What one worker does in a step, and what its device's surroundings are like.

    Args:
        device: its name.
        model: the network.
        per_worker: n, that the times belong to.
        layers: in the order of the forward pass.
        other_s: of a step, beside forward and backward: input, weight update; whatever n is.
        inside: between two workers of a host.
        latency_s: between hosts.
        payload_share: of a network's nominal rate.
        reduce_s_per_byte: to add a byte of one buffer to another.
        stragglers: how the time of a worker's step is distributed.
        parameters: all figures of the file with their sources.
    """

    device: str
    model: str
    per_worker: int
    layers: tuple[Layer, ...]
    other_s: float
    inside: Link
    latency_s: float
    payload_share: float
    reduce_s_per_byte: float
    stragglers: Stragglers
    parameters: tuple[Parameter, ...]

    @property
    def forward_s(self) -> float:
        """Of all layers, for n images."""
        return sum(layer.forward_s for layer in self.layers)

    @property
    def backward_s(self) -> float:
        """Of all layers, for n images."""
        return sum(layer.backward_s for layer in self.layers)

    @property
    def unfitted(self) -> dict[str, float | str]:
        """What the fitted parameters would be without the fit."""
        return {each.name: each.unfitted for each in self.parameters if each.unfitted is not None}

    @property
    def gradient_bytes(self) -> int:
        """Of all parameters, in float32."""
        return FLOAT_BYTES * sum(sum(layer.tensors) for layer in self.layers)


def load_profile(device: str, model: str) -> Profile:
    """A profile of this package, or one from a file.

    Args:
        device: one of DEVICES, or the path of a JSON file.
        model: the network.

    Returns:
        The profile.

    Raises:
        UserError: there is no such file, it is no profile, or it does not have the network.

    Example:
        >>> profile = load_profile("p100", "resnet50")
        >>> profile.gradient_bytes, round(profile.backward_s, 3), round(profile.forward_s, 3)
        (102228128, 0.12, 0.068)
    """
    path = _FOLDER / f"{device}.json" if device in DEVICES else Path(device)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(
            f"--device {device}: no such profile; there are {', '.join(DEVICES)}, or name a JSON file of one"
        ) from error
    except ValueError as error:
        raise UserError(f"--device {device}: not a JSON file ({error})") from error
    try:
        return _profile_of(content, model)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--device {device}: not a profile: {type(error).__name__} at {error}; see p100's") from error
    except ValueError as error:
        raise UserError(f"--device {device}: {error}") from error


def _profile_of(content: Mapping[str, Any], model: str) -> Profile:
    parameters = tuple(
        Parameter(
            name,
            entry["value"],
            entry["kind"],
            entry["source"],
            entry.get("unfitted"),
            entry.get("unfitted_source", ""),
        )
        for name, entry in content["parameters"].items()
    )
    if unknown := sorted({parameter.kind for parameter in parameters} - set(KINDS)):
        raise ValueError(f"a parameter's kind must be one of {', '.join(KINDS)}; not {', '.join(unknown)}")
    value = {parameter.name: parameter.value for parameter in parameters}
    layers = (
        _recorded(content["layers"], model) if "layers" in content else _by_roofline(content["model"], model, value)
    )
    return Profile(
        device=content["device"],
        model=model,
        per_worker=int(content["per_worker"]),
        layers=layers,
        other_s=float(value["other_s"]),
        inside=Link(float(value["inside_latency_s"]), float(value["inside_bytes_per_s"])),
        latency_s=float(value["latency_s"]),
        payload_share=float(value["payload_share"]),
        reduce_s_per_byte=1 / float(value["reduce_bytes_per_s"]),
        stragglers=Stragglers.parse(str(value["stragglers"])),
        parameters=parameters,
    )


def _recorded(layers: Mapping[str, Any], model: str) -> tuple[Layer, ...]:
    """Times of layers that someone has measured."""
    if model not in layers:
        raise ValueError(f"the profile does not have --model {model}; it has {', '.join(sorted(layers))}")
    return tuple(
        Layer(name, tuple(int(each) for each in tensors), float(forward_s), float(backward_s))
        for name, tensors, forward_s, backward_s in layers[model]
    )


def _by_roofline(measured: str, model: str, value: Mapping[str, Any]) -> tuple[Layer, ...]:
    """Shares of the layers by the roofline, so that all of them take what was measured of one network."""
    if model not in NETWORKS:
        raise ValueError(f"the profile does not have --model {model}; it has {', '.join(NETWORKS)}")
    peaks = float(value["flops_per_s"]), float(value["memory_bytes_per_s"])
    scale = float(value["backward_s"]) / sum(roofline_s(work, *peaks)[1] for work in layers_of(measured))
    times = [(work, *roofline_s(work, *peaks)) for work in layers_of(model)]
    return tuple(Layer(work.name, work.tensors, scale * forward, scale * back) for work, forward, back in times)
