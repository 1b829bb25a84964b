from pathlib import Path

import numpy as np
import pytest
import torch

from hvd_imagenet.communicator import SingleProcess
from hvd_imagenet.core.metrics import top_k_correct
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.torch.evaluation import evaluate, share, sums_of_batch
from hvd_imagenet.torch.network import build_network

RECIPE = Recipe(
    model="resnet8", minibatch=8, per_worker=4, image_size_px=16, validation_resize_px=16,
    pixel_mean=(10.0, 20.0, 30.0), pixel_std=(2.0, 4.0, 5.0),
)  # fmt: skip
CPU = torch.device("cpu")


def network(**options):
    return build_network(RECIPE, RunConfig(Path("d"), **options), 6, 1, CPU)


def pixels(images):
    values = np.random.default_rng(0).integers(0, 256, (images, 16, 16, 3))
    return torch.from_numpy(values.astype(np.uint8))


@pytest.mark.parametrize("channels_last", [False, True])
def test_pixels_are_normalised_by_colour(channels_last):
    net = network(dtype="float64", channels_last=channels_last)
    seen = []
    net.model = torch.nn.Identity()
    net.model.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    x = pixels(2)
    net(x)
    expected = (x.numpy() - np.array([10.0, 20.0, 30.0])) / np.array([2.0, 4.0, 5.0])
    np.testing.assert_allclose(seen[0].permute(0, 2, 3, 1).numpy(), expected, rtol=1e-15)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert seen[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    ("options", "dtype", "tolerance"),
    [
        ({"dtype": "float64"}, torch.float64, 1e-4),
        ({"channels_last": True}, torch.float32, 1e-4),
        ({"amp_dtype": "bfloat16"}, torch.float32, 0.1),
    ],
)
def test_dtypes_and_layouts_give_the_same_logits(options, dtype, tolerance):
    plain, other = network().eval(), network(**options).eval()
    logits = other(pixels(4))
    assert logits.dtype == dtype
    assert torch.nn.functional.cosine_similarity(logits.double(), plain(pixels(4)).double()).min() > 1 - tolerance
    assert next(other.model.parameters()).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_sums_of_a_batch():
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 12)))
    logits[3] = torch.nan
    labels = torch.arange(50) % 12
    loss, sums = sums_of_batch(logits[4:], labels[4:])
    log_p = logits - logits.logsumexp(1, keepdim=True)
    assert loss.item() == pytest.approx(-log_p[4:].gather(1, labels[4:, None]).sum().item())
    counts = [top_k_correct(logits.numpy(), labels.numpy(), k) for k in (1, 5)]
    assert sums_of_batch(logits, labels)[1][2:].tolist() == counts
    assert sums.tolist()[:2] == [46.0, pytest.approx(loss.item())]
    smoothed = sums_of_batch(logits[4:], labels[4:], label_smoothing=0.1)[0]
    assert smoothed.item() == pytest.approx(0.9 * loss.item() - 0.1 * log_p[4:].mean(1).sum().item())


class OneOf:
    local_rank = 0

    def __init__(self, rank, size):
        self.rank, self.size = rank, size


@pytest.mark.parametrize(("images", "processes"), [(23, 1), (23, 2), (23, 3), (2, 5), (0, 2)])
def test_shares_are_disjoint_and_whole(images, processes):
    shares = [share(images, OneOf(rank, processes)).tolist() for rank in range(processes)]
    assert [image for part in shares for image in part] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


class FixedReader:
    """70 images, more than one batch holds."""

    def batches(self, requests):
        everything, labels = pixels(70), np.arange(70) % 6
        for epochs, ids in requests:
            assert not epochs.any()
            yield everything[ids].numpy(), labels[ids]


def test_evaluation_is_that_of_all_images_at_once():
    net = network(dtype="float64")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sums = evaluate(net, FixedReader(), 70, SingleProcess())
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    logits = net.eval()(pixels(70))
    expected = sums_of_batch(logits, torch.arange(70) % 6)[1]
    assert (sums.images, sums.correct, sums.correct_top5) == (70, expected[2], expected[3])
    assert sums.loss == pytest.approx(expected[1].item(), rel=1e-12)
