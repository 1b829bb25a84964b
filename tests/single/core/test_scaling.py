import pytest

from hvd_imagenet.core.scaling import linear_scaling


# Figure 1 and table 2a: 0.1 at 256 and k times as much at k times the minibatch.
@pytest.mark.parametrize(
    ("reference_lr", "minibatch", "reference_minibatch", "lr"),
    [
        (0.1, 256, 256, 0.1),
        (0.1, 128, 256, 0.05),
        (0.1, 8192, 256, 3.2),
        (0.05, 8192, 256, 1.6),
        (0.1, 65536, 256, 25.6),
        (0.05, 128, 32, 0.2),
    ],
)
def test_linear_scaling(reference_lr, minibatch, reference_minibatch, lr):
    assert linear_scaling(reference_lr, minibatch, reference_minibatch) == pytest.approx(lr, rel=1e-15)
