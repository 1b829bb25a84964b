"""What all processes agree on before the first iteration."""

import os
from pathlib import Path

import pytest

from hvd_imagenet.data.jpeg import decoder_name
from hvd_imagenet.errors import AgreedError, UserError
from hvd_imagenet.recipes import Recipe
from hvd_imagenet.run_config import RunConfig
from hvd_imagenet.session import agree_on_decoder, agree_on_options, config_of, first_on_each_host


class _Rank:
    """One of two processes; the other one says `others`, one after another, where it is asked."""

    rank, size = 0, 2

    def __init__(self, local_rank, others=(None, None)):
        self.local_rank, self.others, self.events = local_rank, list(others), []

    def gather(self, value):
        self.events.append("gather")
        return [value, self.others.pop(0)]

    def action(self):
        self.events.append("action")
        return "listing"


@pytest.mark.parametrize(
    ("local_rank", "events"), [(0, ["action", "gather", "gather"]), (1, ["gather", "action", "gather"])]
)
def test_the_first_process_of_a_host_goes_first(local_rank, events):
    rank = _Rank(local_rank)
    assert first_on_each_host(rank, rank.action) == "listing"
    assert rank.events == events


@pytest.mark.parametrize(
    ("local_rank", "others", "events"),
    [
        (1, ("no such folder", None), ["gather"]),
        (0, ("no such folder", None), ["action", "gather"]),
        (0, (None, "no such folder"), ["action", "gather", "gather"]),
    ],
)
def test_a_mistake_that_another_process_meets_is_everyone_s(local_rank, others, events):
    rank = _Rank(local_rank, others)
    with pytest.raises(AgreedError, match=r"^no such folder$"):
        first_on_each_host(rank, rank.action)
    assert rank.events == events


@pytest.mark.parametrize("local_rank", [0, 1])
def test_its_own_mistake_is_told(local_rank):
    def fail():
        raise UserError("data folder d: is empty")

    with pytest.raises(AgreedError, match=r"^data folder d: is empty$"):
        first_on_each_host(_Rank(local_rank), fail)


class _SecondRank:
    """Where rank 0 decodes with `first`."""

    rank, size = 1, 2

    def __init__(self, first):
        self.first = first

    def gather(self, value):
        return [self.first if value == decoder_name() else None, value]


def test_all_processes_decode_alike():
    agree_on_decoder(_SecondRank(decoder_name()))
    with pytest.raises(AgreedError) as error:
        agree_on_decoder(_SecondRank("Pillow 9.0.0"))
    assert str(error.value) == (
        f"rank 1 on {os.uname().nodename} decodes images with {decoder_name()}, rank 0 with Pillow 9.0.0; install the "
        "same Pillow and hvd_imagenet on all hosts (hvd-imagenet doctor says what is missing), or set "
        "HVD_IMAGENET_DECODER=pillow on all"
    )


@pytest.mark.parametrize(
    ("recipe", "config", "difference"),
    [
        ({"seed": 3}, {}, "seed 3, not 0"),
        ({"minibatch": 4096}, {"dtype": "float64"}, "minibatch 4096, not 8192; dtype float64, not float32"),
        ({}, {"skip_nonfinite": 1}, "skip_nonfinite 1, not 0"),
        ({}, {"max_iterations": 3}, "max_iterations 3, not None"),
    ],
)
def test_all_processes_get_the_same_options(recipe, config, difference):
    told_by_first = _Told(Recipe(), RunConfig(Path("d")))
    with pytest.raises(AgreedError) as error:
        agree_on_options(told_by_first, Recipe(**recipe), RunConfig(Path("d"), **config))
    assert str(error.value) == (
        f"rank 1 on {os.uname().nodename} was given other options than rank 0: {difference}; give all processes the "
        "same"
    )
    assert error.value.spokesman == 1


class _Told:
    """Rank 1 of two; rank 0 has the recipe and configuration given here."""

    rank, size = 1, 2

    def __init__(self, recipe, config):
        self.recipe, self.config, self.asked = recipe, config, False

    def gather(self, value):
        if isinstance(value, dict):
            return [_options(self.recipe, self.config), value]
        return ["another digest" if not self.asked and isinstance(value, str) and len(value) == 64 else None, value]


def _options(recipe, config):
    return {name: value for name, value in config_of(recipe, config).items() if name not in ("data", "threads")}


def test_where_the_data_lies_and_how_many_threads_decode_may_differ():
    recipe = Recipe()
    digests = []

    class _Listening(_Told):
        def gather(self, value):
            digests.append(value)
            return [value, value]

    for config in (RunConfig(Path("d")), RunConfig(Path("/local/d"), threads=3, out=Path("o"))):
        agree_on_options(_Listening(recipe, config), recipe, config)
    assert digests[0] == digests[1]
