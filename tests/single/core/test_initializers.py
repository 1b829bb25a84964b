import re

import numpy as np
import pytest

from hvd_imagenet.core.initializers import he_normal, initial_parameters, last_batch_norms, named_normal

BOTTLENECK = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.weight": (64,),
    "bn1.bias": (64,),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.bn1.weight": (64,),
    "layer1.0.bn1.bias": (64,),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.bn2.weight": (64,),
    "layer1.0.bn2.bias": (64,),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    "layer1.0.bn3.weight": (256,),
    "layer1.0.bn3.bias": (256,),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.weight": (256,),
    "layer1.0.downsample.1.bias": (256,),
    "layer1.10.bn1.weight": (64,),
    "layer1.10.bn2.weight": (64,),
    "layer1.10.bn3.weight": (256,),
    "fc.weight": (100, 2048),
    "fc.bias": (100,),
}
BASIC = {
    "bn1.weight": (16,),
    "layer1.0.bn1.weight": (16,),
    "layer1.0.bn2.weight": (16,),
    "layer2.0.bn1.weight": (32,),
    "layer2.0.bn2.weight": (32,),
    "layer2.0.downsample.1.weight": (32,),
}


@pytest.mark.parametrize(
    ("shapes", "zero"),
    [
        (BOTTLENECK, {"layer1.0.bn3.weight", "layer1.10.bn3.weight"}),
        (BASIC, {"layer1.0.bn2.weight", "layer2.0.bn2.weight"}),
        ({"bn1.weight": (3,), "fc.bias": (2,)}, set()),
    ],
)
def test_gamma_is_zero_in_the_last_batch_norm_of_every_block_alone(shapes, zero):
    assert last_batch_norms(list(shapes)) == zero
    assert last_batch_norms(list(reversed(shapes))) == zero
    values = initial_parameters(shapes, seed=0)
    gammas = [name for name, shape in shapes.items() if len(shape) == 1 and name.endswith("weight")]
    for name in gammas:
        assert values[name].tolist() == [0.0 if name in zero else 1.0] * shapes[name][0]


def test_gamma_is_one_everywhere_if_asked():
    values = initial_parameters(BASIC, seed=0, zero_last_gamma=False)
    assert all((value == 1).all() for value in values.values())


def test_every_parameter_has_its_shape_and_its_distribution():
    values = initial_parameters(BOTTLENECK, seed=0)
    assert list(values) == list(BOTTLENECK)
    for name, shape in BOTTLENECK.items():
        assert values[name].shape == shape
        assert values[name].dtype == np.float64
        if name.endswith("bias"):
            assert not values[name].any()
    assert values["fc.weight"].std() == pytest.approx(0.01, rel=0.01)
    assert abs(values["fc.weight"].mean()) < 1e-4


# √(2 / (out · height · width)): He-normal by fan-out, not fan-in.
@pytest.mark.parametrize(
    ("shape", "deviation"),
    [
        ((64, 3, 7, 7), 0.0252538),
        ((256, 64, 1, 1), 0.0883883),
        ((64, 256, 1, 1), 0.1767767),
        ((128, 512, 3, 3), 0.0416667),
    ],
)
def test_fan_out(shape, deviation):
    weights = he_normal(3, "layer.conv.weight", shape)
    count = weights.size
    assert weights.std() == pytest.approx(deviation, rel=4 / (2 * count) ** 0.5)
    assert abs(weights.mean()) < 4 * deviation / count**0.5


# A change of these values changes the result of every run that was ever made.
def test_frozen_values():
    np.testing.assert_allclose(
        named_normal(0, "fc.weight", (3, 2), 0.01),
        [
            [0.024137830369656065, -0.01067178738605388],
            [-0.006101551403728506, 0.00199974028914682],
            [-0.0019271206050188638, 0.010368074187189364],
        ],
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        he_normal(0, "conv1.weight", (2, 1, 1, 2)).ravel(),
        [-0.5408242994815105, 0.08251563975470844, 0.3354473084844121, -0.4561233319009479],
        rtol=1e-13,
    )
    np.testing.assert_allclose(
        named_normal(1, "layer1.0.conv1.weight", (2,), 1.0), [1.2672721339127249, 0.4759752647612913], rtol=1e-13
    )


def test_a_parameter_does_not_depend_on_the_others():
    alone = initial_parameters({"fc.weight": (100, 2048)}, seed=5)["fc.weight"]
    assert np.array_equal(alone, initial_parameters(BOTTLENECK, seed=5)["fc.weight"])


def test_names_and_seeds_give_independent_weights():
    draws = [
        named_normal(seed, name, (10_000,), 1.0)
        for seed in (0, 1)
        for name in ("layer1.0.conv1.weight", "layer1.0.conv2.weight")
    ]
    correlations = np.corrcoef(draws)[~np.eye(4, dtype=bool)]
    assert np.abs(correlations).max() < 0.04


@pytest.mark.parametrize(
    ("name", "shape"), [("scale", (3,)), ("conv.weight", (3, 3, 3)), ("step", ()), ("alpha.weight", ())]
)
def test_other_parameters_are_refused(name, shape):
    message = f"parameter {name} of shape {shape} must be a convolution, linear or batch norm parameter"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        initial_parameters({name: shape}, seed=0)
