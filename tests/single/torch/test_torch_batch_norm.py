import re

import numpy as np
import pytest
import torch
from torch import nn

from hvd_imagenet.torch import PerWorkerBatchNorm, convert_batch_norm, parameter_groups, running_averages
from hvd_imagenet.torch.models import resnet8

KEPT = 0.9
N, WORKERS, CHANNELS = 3, 4, 5


def layer(kind=nn.BatchNorm2d, local_workers=WORKERS, **options):
    original = kind(CHANNELS, dtype=torch.float64, **options)
    with torch.no_grad():
        original.weight.copy_(torch.linspace(0.5, 1.5, CHANNELS))
        original.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return convert_batch_norm(original, N, local_workers)


def images(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).gamma(2.0, size=(WORKERS * N, CHANNELS, *shape)))


def expected(x, eps=1e-5):
    """Output, and mean and unbiased variance over each worker's images, by numpy."""
    of_workers = x.numpy().reshape(WORKERS, N, CHANNELS, -1)
    axes = (1, 3)
    mean, biased = of_workers.mean(axes, keepdims=True), of_workers.var(axes, keepdims=True)
    scale, shift = np.linspace(0.5, 1.5, CHANNELS), np.linspace(-1, 1, CHANNELS)
    normal = (of_workers - mean) / np.sqrt(biased + eps)
    output = normal * scale[:, None] + shift[:, None]
    return output.reshape(x.shape), of_workers.mean(axes), of_workers.var(axes, ddof=1)


@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm2d, (1, 2)), (nn.BatchNorm1d, ()), (nn.BatchNorm1d, (2,))])
@pytest.mark.parametrize("workers_per_pass", [1, 2, 3, 4])
def test_statistics_are_those_of_each_worker_however_they_come(kind, shape, workers_per_pass):
    norm = layer(kind)
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for iteration in range(3):
        x = images(*shape, seed=iteration)
        found = torch.cat([norm(part) for part in x.split(workers_per_pass * N)])
        output, means, variances = expected(x)
        np.testing.assert_allclose(found.detach().numpy(), output, rtol=1e-12, atol=1e-12)
        mean = KEPT * mean + 0.1 * means.mean(0)
        variance = KEPT * variance + 0.1 * variances.mean(0)
        np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-13)
        np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-13)


def test_the_variance_is_the_mean_of_the_workers_and_not_that_of_their_union():
    # Two workers of two images of one pixel: variances 2 and 8, that of the union 166/3.
    norm = convert_batch_norm(nn.BatchNorm2d(1, dtype=torch.float64), per_worker=2, local_workers=2)
    norm(torch.tensor([1.0, 3.0, 11.0, 15.0], dtype=torch.float64).reshape(4, 1, 1, 1))
    assert norm.running_mean.item() == pytest.approx(0.1 * (2.0 + 13.0) / 2, rel=1e-14)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * (2.0 + 8.0) / 2, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_worker_is_plain_batch_norm(dtype):
    plain, norm = nn.BatchNorm2d(CHANNELS, dtype=dtype), layer(local_workers=1).to(dtype)
    plain.load_state_dict({**plain.state_dict(), "weight": norm.weight, "bias": norm.bias})
    for seed in range(3):
        x = images(2, 2, seed=seed)[:N].to(dtype)
        assert torch.equal(plain(x), norm(x))
    assert torch.equal(plain.running_var, norm.running_var)
    plain.eval(), norm.eval()
    x = images(2, 2)[:2].to(dtype)
    assert torch.equal(plain(x), norm(x))


def test_evaluation_takes_any_number_of_images_and_changes_nothing():
    norm = layer().eval()
    before = {name: value.clone() for name, value in running_averages(norm).items()}
    assert norm(images(2, 2)[:7]).shape == (7, CHANNELS, 2, 2)
    assert all(torch.equal(before[name], value) for name, value in running_averages(norm).items())


def test_channels_last_is_the_same_and_stays_so():
    norm, other = layer(), layer()
    x = images(4, 4)
    found = norm(x.to(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, other(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm.running_var, other.running_var, rtol=1e-12, atol=0)


def test_gradients_of_fused_and_sequential_workers_are_equal():
    found = []
    for size in (N, 2 * N, 4 * N):
        norm, x = layer(), images(2, 2).requires_grad_()
        for part in x.split(size):
            (norm(part) ** 3).sum().backward()
        found.append((x.grad, norm.weight.grad, norm.bias.grad))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_a_network_keeps_its_parameters_and_names_and_downsample_is_found():
    model = resnet8()
    parameters, names = list(model.parameters()), list(model.state_dict())
    optimizer = torch.optim.SGD(parameter_groups(model, 1e-4), lr=0.1)
    assert convert_batch_norm(model, 4, 2) is model
    assert all(new is old for new, old in zip(model.parameters(), parameters, strict=True))
    assert list(model.state_dict()) == names
    norms = [name for name, module in model.named_modules() if isinstance(module, PerWorkerBatchNorm)]
    assert "layer2.0.downsample.1" in norms
    assert len(norms) == 9
    assert not [module for module in model.modules() if type(module) is nn.BatchNorm2d]
    assert (model.bn1.eps, model.bn1.momentum) == (1e-5, 0.1)
    decayed, rest = optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (1e-4, 0.0)
    assert {id(each) for each in rest["params"]} == {
        id(value) for name in norms for value in model.get_submodule(name).parameters()
    }


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.SyncBatchNorm(2)), "SyncBatchNorm"),
        (nn.BatchNorm2d(2, momentum=None), "not momentum=None, track_running_stats=True"),
        (nn.BatchNorm2d(2, track_running_stats=False), "track_running_stats=False"),
    ],
)
def test_what_cannot_be_converted_is_refused(model, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        convert_batch_norm(model, 2, 1)


@pytest.mark.parametrize(("per_worker", "local_workers"), [(0, 1), (2, 0), (2.0, 1)])
def test_numbers_must_be_positive_integers(per_worker, local_workers):
    with pytest.raises(ValueError, match="must be an integer of 1 or more"):
        convert_batch_norm(nn.BatchNorm2d(2), per_worker, local_workers)


def test_a_batch_that_is_no_multiple_is_refused():
    with pytest.raises(ValueError, match=re.escape("a multiple of per_worker (3) images in training, not 4")):
        layer()(images(2, 2)[:4])
