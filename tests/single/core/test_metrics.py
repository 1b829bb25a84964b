import math

import numpy as np
import pytest

from hvd_imagenet.core.metrics import Sums, classification_sums, mean_and_deviation, median_of_last, top_k_correct

NAN = float("nan")


@pytest.mark.parametrize(
    ("logits", "label", "ranks_up_to"),
    [
        ([0.1, 0.9, 0.0], 1, 1),
        ([0.1, 0.9, 0.0], 0, 2),
        ([0.1, 0.9, 0.0], 2, 3),
        ([0.5, 0.5, 0.0], 1, 1),  # a tie counts for the label
        ([0.5, 0.5, 0.0], 2, 3),
        ([NAN, NAN, NAN], 0, 4),
        ([0.0, NAN, 0.0], 1, 4),
        ([0.0, NAN, -1.0], 0, 2),  # a NaN elsewhere counts as higher
        ([math.inf, 1.0, 0.0], 0, 1),
        ([-math.inf, -math.inf, -math.inf], 2, 1),
    ],
)
def test_rank_of_the_label(logits, label, ranks_up_to):
    for k in range(1, 5):
        assert top_k_correct(np.array([logits]), np.array([label]), k) == int(k >= ranks_up_to)


def test_top_k_of_many_images_against_sorting():
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(500, 20)), random.integers(20, size=500)
    order = np.argsort(-logits, axis=1)
    for k in (1, 5):
        expected = sum(label in ranked[:k] for label, ranked in zip(labels, order, strict=True))
        assert top_k_correct(logits, labels, k) == expected


def test_with_fewer_classes_than_five_all_are_in_the_top_five():
    assert top_k_correct(np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 3, k=5) == 30
    assert top_k_correct(np.full((2, 3), NAN), np.array([0, 1]), k=5) == 2


def test_no_images():
    assert top_k_correct(np.zeros((0, 10)), np.zeros(0, np.int64), k=1) == 0


def test_sums_add_up_where_means_would_not():
    parts = [Sums(3, 6.0, 2, 3), Sums(1, 4.0, 0, 0), Sums()]
    total = sum(parts, Sums())
    assert total == Sums(4, 10.0, 2, 3)
    assert (total.mean_loss, total.error, total.error_top5) == (2.5, 50.0, 25.0)


def test_errors_are_percent():
    sums = Sums(images=50_000, loss=0.0, correct=38_200, correct_top5=46_450)
    assert sums.error == pytest.approx(23.6)
    assert sums.error_top5 == pytest.approx(7.1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([24.0], 24.0),
        ([24.0, 23.0], 23.5),
        ([90.0, 24.0, 23.8, 23.6, 23.9, 23.7], 23.8),
        ([23.5, 23.5, 23.5, 99.0, 98.0], 23.5),
        ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), 5.0),
    ],
)
def test_median_of_the_last_five(values, expected):
    assert median_of_last(values) == expected


def test_median_of_another_number():
    assert median_of_last([9.0, 1.0, 3.0, 2.0], count=3) == 2.0


def test_mean_and_sample_deviation():
    assert mean_and_deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx((5.0, math.sqrt(32 / 7)))
    mean, deviation = mean_and_deviation([23.6])
    assert mean == 23.6
    assert math.isnan(deviation)


def test_nothing_to_report():
    with pytest.raises(ValueError, match=r"^values must hold at least one epoch, not none$"):
        median_of_last([])
    with pytest.raises(ValueError, match=r"^values must hold at least one run, not none$"):
        mean_and_deviation([])


def test_the_loss_of_logits_and_of_probabilities_against_the_plain_formula():
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(50, 7)) * 3, random.integers(7, size=50)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -sum(math.log(row[label]) for row, label in zip(probabilities, labels, strict=True))
    for outputs, from_logits in ((logits, True), (logits + 1000, True), (probabilities, False)):
        sums = classification_sums(outputs, labels, from_logits)
        assert sums.loss == pytest.approx(expected, rel=1e-10)
        assert (sums.images, sums.correct) == (50, top_k_correct(logits, labels, 1))
    assert classification_sums(np.array([[0.0, 1.0]]), np.array([0]), from_logits=False).loss == -math.log(1e-7)
    assert math.isnan(classification_sums(np.array([[NAN, 1.0]]), np.array([0])).loss)
