"""The layers that the planner computes are those of the networks that are trained."""

import pytest

from hvd_imagenet.planner.networks import NETWORKS, layers_of
from hvd_imagenet.planner.profile import load_profile


@pytest.mark.parametrize("model", NETWORKS)
def test_names_and_sizes_are_the_models(model):
    from hvd_imagenet.torch.models import MODELS

    parameters = {name: parameter.numel() for name, parameter in MODELS[model]().named_parameters()}
    ours = {}
    for layer in layers_of(model):
        for name, elements in zip(("weight", "bias"), layer.tensors, strict=False):
            ours[f"{layer.name}.{name}"] = elements
    assert ours == parameters
    assert list(ours) == list(parameters)


# He et al. 2016, table 1 (multiplications and additions as one operation): 3.8 and 7.6 billion with the stride on the
# first 1×1; on the 3×3 it is 4.1 and 7.8.
@pytest.mark.parametrize(("model", "billions"), [("resnet50", 4.09), ("resnet101", 7.80)])
def test_operations(model, billions):
    layers = layers_of(model)
    forward = sum(layer.forward_flops for layer in layers)
    assert forward / 2e9 == pytest.approx(billions, abs=0.01)
    first = layers[0]
    assert first.backward_flops == first.forward_flops == 2 * 3 * 64 * 49 * 112**2  # its input needs no gradient
    assert sum(layer.backward_flops for layer in layers) == 2 * forward - first.forward_flops


def test_deeper_networks_take_as_much_longer_as_they_have_to_do():
    shallow, deep = load_profile("p100", "resnet50"), load_profile("p100", "resnet101")
    assert 1.7 < deep.backward_s / shallow.backward_s < 1.95
    assert deep.layers[0] == shallow.layers[0]
