import numpy as np
import pytest

from hvd_imagenet.weights import from_keras, to_keras, torchvision_name

SHAPES = {
    "conv1.weight": (8, 3, 5, 7),
    "layer1.0.downsample.1.weight": (8,),
    "layer1.0.downsample.1.bias": (8,),
    "layer1.0.downsample.1.running_mean": (8,),
    "layer1.0.downsample.1.running_var": (8,),
    "fc.weight": (10, 8),
    "fc.bias": (10,),
}


def test_there_and_back_is_the_same_bit_for_bit() -> None:
    generator = np.random.default_rng(0)
    arrays = {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    back = from_keras(to_keras(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].flags.c_contiguous
        assert back[name].dtype == np.float32


def test_kernels_are_transposed() -> None:
    kernel = np.arange(5 * 7 * 3 * 8).reshape(5, 7, 3, 8)
    found = from_keras({"conv1/kernel": kernel})["conv1.weight"]
    assert found.shape == SHAPES["conv1.weight"]
    assert found[6, 2, 3, 4] == kernel[3, 4, 2, 6]
    assert from_keras({"fc/kernel": kernel[0, 0]})["fc.weight"][6, 2] == kernel[0, 0, 2, 6]


@pytest.mark.parametrize("path", ["dropout/seed_generator_state", "embedding/embeddings"])
def test_other_variables_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=rf"path must end in one of /kernel, .*/moving_variance, not '{path}'"):
        torchvision_name(path)
