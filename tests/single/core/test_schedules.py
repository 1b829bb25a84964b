import itertools
import math
import re

import pytest

from hvd_imagenet.core.schedules import constant, cosine, gradual_warmup, join, step_decay


def test_constant():
    assert [constant(0.1)(epochs) for epochs in (0, 1e-9, 89.99, 1e9)] == [0.1] * 4


# The paper: from 0.1 to 3.2 in 5 epochs, 0.62 more each.
@pytest.mark.parametrize(
    ("epochs", "lr"), [(0, 0.1), (1, 0.72), (2, 1.34), (2.5, 1.65), (4, 2.58), (5, 3.2), (5.001, 3.2), (90, 3.2)]
)
def test_gradual_warmup(epochs, lr):
    assert gradual_warmup(0.1, 3.2, 5)(epochs) == pytest.approx(lr, rel=1e-14)


def test_gradual_warmup_adds_the_same_amount_at_every_iteration():
    warmup = gradual_warmup(0.1, 3.2, 5)
    values = [warmup(5 * iteration / 782) for iteration in range(783)]
    steps = [later - earlier for earlier, later in itertools.pairwise(values)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-9)
    assert values[0] == 0.1
    assert values[-1] == 3.2


@pytest.mark.parametrize("warmup_epochs", [0, 0.0, 0.1, 0.5, 2.5, 1 / 3, 5])
def test_warmup_of_any_length_reaches_the_target_exactly_and_never_passes_it(warmup_epochs):
    warmup = gradual_warmup(0.1, 3.2, warmup_epochs)
    assert warmup(warmup_epochs) == 3.2
    values = [warmup(iteration / 64) for iteration in range(400)]
    assert values == sorted(values)
    assert max(values) == 3.2
    assert values[0] == (3.2 if warmup_epochs == 0 else 0.1)


def test_half_an_epoch_of_warmup():
    assert gradual_warmup(0.1, 3.1, 0.5)(0.25) == pytest.approx(1.6, rel=1e-15)


@pytest.mark.parametrize(
    ("epochs", "lr"),
    [(0, 3.2), (29.999, 3.2), (30, 0.32), (59.999, 0.32), (60, 0.032), (79.9, 0.032), (80, 0.0032), (89.99, 0.0032)],
)
def test_step_decay_of_the_paper(epochs, lr):
    assert step_decay(3.2, (30, 60, 80))(epochs) == pytest.approx(lr, rel=1e-12)


def test_step_decay_with_another_factor_and_without_steps():
    assert [step_decay(8.0, (1, 2.5), factor=0.5)(epochs) for epochs in (0.5, 1, 2.5)] == [8.0, 4.0, 2.0]
    assert step_decay(8.0, ())(1000) == 8.0


# value · (1 + cos(π·fraction)) / 2 at fractions 0, 1/3, 1/2, 2/3, 1.
@pytest.mark.parametrize(("epochs", "lr"), [(0, 3.2), (5, 3.2), (33, 2.4), (47, 1.6), (61, 0.8), (89, 0.0), (95, 0.0)])
def test_cosine(epochs, lr):
    assert cosine(3.2, end_epochs=89, start_epochs=5)(epochs) == pytest.approx(lr, abs=1e-14)


def test_cosine_ends_are_exact():
    schedule = cosine(3.2, end_epochs=90)
    assert schedule(0) == 3.2
    assert schedule(90) == 0.0
    assert 0 < schedule(89.99) < 1e-6


def test_join_gives_every_schedule_the_progress_of_the_whole_run():
    joined = join([lambda e: ("a", e), lambda e: ("b", e), lambda e: ("c", e)], [2, 5])
    assert [joined(epochs) for epochs in (0, 1.9, 2, 4.9, 5, 9)] == [
        ("a", 0),
        ("a", 1.9),
        ("b", 2),
        ("b", 4.9),
        ("c", 5),
        ("c", 9),
    ]


def test_constant_warmup_of_the_paper_jumps():
    schedule = join([constant(0.1), step_decay(3.2, (30, 60, 80))], [5])
    assert [schedule(epochs) for epochs in (0, 4.999, 5, 29)] == [0.1, 0.1, 3.2, 3.2]


def test_gradual_warmup_and_cosine_join_without_a_jump():
    schedule = join([gradual_warmup(0.1, 3.2, 5), cosine(3.2, 90, 5)], [5])
    assert math.isclose(schedule(5 - 1e-9), schedule(5), rel_tol=1e-8)
    assert schedule(5) == 3.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gradual_warmup(0.1, 3.2, -1), "warmup_epochs must be 0 or more, not -1"),
        (lambda: gradual_warmup(0.1, 3.2, math.nan), "warmup_epochs must be 0 or more, not nan"),
        (lambda: step_decay(1, (30, 30)), "decay_epochs must ascend, not (30, 30)"),
        (lambda: step_decay(1, [60, 30]), "decay_epochs must ascend, not (60, 30)"),
        (lambda: step_decay(1, [math.nan, 30]), "decay_epochs must ascend, not (nan, 30)"),
        (lambda: cosine(1, 5, 5), "end_epochs must be after start_epochs, but 5 is not after 5"),
        (lambda: cosine(1, 4, 5), "end_epochs must be after start_epochs, but 4 is not after 5"),
        (
            lambda: join([constant(1)], [5]),
            "schedules must be one more than boundaries_epochs, but there are 1 schedules and 1 boundaries",
        ),
        (lambda: join([constant(1)] * 3, [5, 4]), "boundaries_epochs must ascend, not (5, 4)"),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
