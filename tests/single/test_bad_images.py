import re

import pytest

from hvd_imagenet.bad_images import BadImages, allowed_bad_images
from hvd_imagenet.run_config import RunConfig


@pytest.mark.parametrize(("policy", "allowed"), [("stop", 0), ("skip=1", 1), ("skip=020", 20)])
def test_policies(policy, allowed):
    assert allowed_bad_images(policy) == allowed
    assert RunConfig("d", bad_images=policy).bad_images == policy


@pytest.mark.parametrize("policy", ["skip", "skip=", "skip=0", "skip=-1", "skip=1.5", "skip=²", "5", "", "Stop"])
def test_other_words(policy):
    message = f"bad_images must be stop or skip=N with N of 1 or more, not {policy!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        allowed_bad_images(policy)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RunConfig("d", bad_images=policy)


class _Job:
    """The processes of a job, in one: each gathers what all have taken."""

    def __init__(self, size, allowed=10):
        self.bad = [BadImages(allowed) for _ in range(size)]
        self.gathers = 0

    def iterate(self, iteration, *seen):
        """What each process has seen in an iteration."""
        for bad, names in zip(self.bad, seen, strict=True):
            for name in names:
                bad.see(name, f"why {name}")
        total = sum(bad.take(iteration) for bad in self.bad)
        mine = [bad._taken.get(iteration, []) for bad in self.bad]

        class Communicator:
            def gather(_, value):
                self.gathers += 1
                assert value in mine
                return mine

        answers = {bad.agree(iteration, total, Communicator()) for bad in self.bad}
        assert len(answers) == 1
        assert all(bad.rows == self.bad[0].rows for bad in self.bad)
        return answers.pop()


def test_files_are_counted_once_whoever_meets_them():
    job = _Job(2)
    assert not job.iterate(0, [], [])
    assert job.gathers == 0
    assert job.iterate(1, ["b"], [])
    assert job.gathers == 2
    assert not job.iterate(2, ["b"], ["b"])  # known to the process that has not met it
    assert job.gathers == 2
    assert job.iterate(3, ["d", "d"], ["a", "d"])
    assert job.bad[0].rows == [(1, "b", "why b"), (3, "a", "why a"), (3, "d", "why d")]


def test_a_file_that_is_met_again_before_all_know_of_it():
    bad = BadImages(1)
    bad.see("a", "why")
    first = bad.take(0)
    bad.see("a", "why")  # the reader is an iteration ahead of the sums
    assert (first, bad.take(1)) == (1, 0)


def test_the_list_does_not_depend_on_who_met_what():
    seen = {2: ["c", "a"], 4: ["b"], 5: ["a", "d"]}
    lists = []
    for places in ([0, 0], [0, 1], [1, 0], [1, 1]):
        job = _Job(2)
        for iteration in range(6):
            of_ranks = [[], []]
            for number, name in enumerate(seen.get(iteration, [])):
                of_ranks[places[number]].append(name)
            job.iterate(iteration, *of_ranks)
        lists.append([row[:2] for row in job.bad[0].rows])
    assert lists == [[(2, "a"), (2, "c"), (4, "b"), (5, "d")]] * 4


def test_too_many():
    job = _Job(2, allowed=2)
    job.iterate(0, ["a"], ["b"])
    assert not job.bad[0].too_many
    job.iterate(1, ["b"], ["a"])
    assert not job.bad[0].too_many
    job.iterate(2, [], ["c"])
    assert [bad.too_many for bad in job.bad] == [True, True]


def test_files_of_before_a_stop_are_known():
    bad = BadImages(1)
    bad.restore([[3, "a", "why"]])  # lists: JSON has no tuples
    assert bad.rows == [(3, "a", "why")]
    bad.see("a", "why")
    assert bad.take(5) == 0
