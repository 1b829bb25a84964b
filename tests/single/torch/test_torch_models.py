import pytest
import torch
from torch import nn

from hvd_imagenet.torch.models import initialise, resnet8, resnet8_narrow, resnet20, resnet20x4, resnet50, resnet101


def norm_shapes(name, channels):
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def torchvision_shapes(depths):
    """The names and shapes of torchvision, for a bottleneck ResNet (V1.5), by rule."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm_shapes("bn1", 64)}
    inputs = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for block in range(depth):
            prefix = f"layer{stage + 1}.{block}"
            for index, (out, into, size) in enumerate([(width, inputs, 1), (width, width, 3), (4 * width, width, 1)]):
                shapes[f"{prefix}.conv{index + 1}.weight"] = (out, into, size, size)
                shapes |= norm_shapes(f"{prefix}.bn{index + 1}", out)
            if block == 0:
                shapes[f"{prefix}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes |= norm_shapes(f"{prefix}.downsample.1", 4 * width)
            inputs = 4 * width
    return {**shapes, "fc.weight": (1000, 2048), "fc.bias": (1000,)}


@pytest.mark.parametrize(
    ("make", "depths", "count"), [(resnet50, (3, 4, 6, 3), 25_557_032), (resnet101, (3, 4, 23, 3), 44_549_160)]
)
def test_parameters_have_torchvision_s_names_shapes_and_number(make, depths, count):
    with torch.device("meta"):
        model = make()
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert list(shapes.items()) == list(torchvision_shapes(depths).items())
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    buffers = {name.rpartition(".")[2] for name, _ in model.named_buffers()}
    assert buffers == {"running_mean", "running_var", "num_batches_tracked"}


def test_strides_are_on_the_3x3_convolutions():
    with torch.device("meta"):
        model = resnet50()
        for stage in range(1, 5):
            block = getattr(model, f"layer{stage}")[0]
            stride = 1 if stage == 1 else 2
            convolutions = (block.conv1, block.conv2, block.conv3, block.downsample[0])
            assert [each.stride[0] for each in convolutions] == [1, stride, 1, stride]
            assert all(each.bias is None for each in convolutions)
        assert {(each.eps, each.momentum) for each in model.modules() if isinstance(each, nn.BatchNorm2d)} == {
            (1e-5, 0.1)
        }
        assert model.layer4(model.layer3(model.layer2(torch.empty(1, 256, 56, 56)))).shape == (1, 2048, 7, 7)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)


@pytest.mark.parametrize(("make", "weighted"), [(resnet8, 8), (resnet20, 20), (resnet20x4, 20), (resnet8_narrow, 8)])
def test_small_networks_have_as_many_layers_as_their_names_say(make, weighted):
    model = make(num_classes=7)
    layers = [
        name for name, each in model.named_modules() if isinstance(each, nn.Conv2d | nn.Linear) and "down" not in name
    ]
    assert len(layers) == weighted
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_the_wide_network_is_four_times_as_wide():
    wide, narrow = (dict(make().named_parameters()) for make in (resnet20x4, resnet20))
    assert list(wide) == list(narrow)
    for name, parameter in wide.items():
        ends = {"conv1.weight": (4, 1, 1, 1), "fc.weight": (1, 4), "fc.bias": (1,)}
        factors = ends.get(name, (4, 4, 1, 1))
        expected = tuple(size * factor for size, factor in zip(narrow[name].shape, factors, strict=False))
        assert tuple(parameter.shape) == expected
    assert sum(parameter.numel() for parameter in wide.values()) == 4_327_754


def test_initial_weights_are_a_function_of_seed_and_name_alone():
    def weights(make, seed, torch_seed, zero_last_gamma=True):
        torch.manual_seed(torch_seed)
        model = make()
        initialise(model, seed, zero_last_gamma)
        return dict(model.named_parameters())

    first, again, other = weights(resnet8, 3, 0), weights(resnet8, 3, 1), weights(resnet8, 4, 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    larger = weights(resnet20, 3, 0)
    common = [name for name in first if name in larger]
    assert len(common) > 20
    assert all(torch.equal(first[name], larger[name]) for name in common)
    convolution = first["layer3.0.conv2.weight"]
    assert convolution.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert first["fc.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert not first["fc.bias"].any()
    gammas = {name: value for name, value in first.items() if name.endswith(".weight") and value.dim() == 1}
    assert {name for name, value in gammas.items() if not value.any()} == {f"layer{i}.0.bn2.weight" for i in (1, 2, 3)}
    assert all((value == 1).all() for name, value in gammas.items() if not name.endswith("0.bn2.weight"))
    assert (weights(resnet8, 3, 0, zero_last_gamma=False)["layer1.0.bn2.weight"] == 1).all()
