from typing import Any

import pytest

from hvd_imagenet.launcher.stalls import Pace, RankState, slow, stall

REDUCING = "reducing gradients"


def states(*of_ranks: dict[str, Any]) -> list[RankState]:
    return [RankState(rank, "vm", **{"iteration": 7, **fields}) for rank, fields in enumerate(of_ranks)]


def at(action: str, age_s: float, iteration: int | None = 7, **more: Any) -> dict[str, Any]:
    return {"action": action, "age_s": age_s, "iteration": iteration, **more}


# What the guards report → who is named after 10 s.
STALLS = {
    "a held lock: one computes, the others wait": (
        states(at(REDUCING, 10.2), at("computing", 10.4), at(REDUCING, 10.1)),
        "rank 1 on vm has been computing, iteration 7, for 10 s; the others wait (reducing gradients, iteration 7)",
    ),
    "one hangs behind the reduction: the others wait in the next one": (
        states(at(REDUCING, 10.2, iteration=8), at("updating", 10.4)),
        "rank 1 on vm has been updating, iteration 7, for 10 s; the others wait (reducing gradients, iteration 8)",
    ),
    "one hangs behind the last reduction of an epoch": (
        states(at("waiting for the others", 10.2), at("updating", 10.4)),
        "rank 1 on vm has been updating, iteration 7, for 10 s; the others wait (waiting for the others, iteration 7)",
    ),
    "a stopped rank, even while another computes": (
        states(at("computing", 11), at("computing", 12, stopped_s=11.6)),
        "rank 1 on vm has been stopped for 12 s (computing, iteration 7)",
    ),
    "a stopped rank that never had a heartbeat": (
        [RankState(0, "vm"), RankState(1, "vm", stopped_s=13.0)],
        "rank 1 on vm has been stopped for 13 s (at work)",
    ),
    "a skipped collective: one is ahead of another": (
        states(at(REDUCING, 11), at(REDUCING, 10.5, iteration=8)),
        "rank 1 on vm is out of step, it is reducing gradients, iteration 8; 1 others are reducing gradients, "
        "iteration 7; a collective was left out, or made by some ranks only",
    ),
    "one waits elsewhere than the many": (
        states(at(REDUCING, 11), at("waiting for the others", 11), at(REDUCING, 11), at(REDUCING, 11)),
        "rank 1 on vm is out of step, it is waiting for the others, iteration 7; 3 others are reducing gradients, "
        "iteration 7; a collective was left out, or made by some ranks only",
    ),
    "all wait for the same: the network": (
        states(at(REDUCING, 10.5), at(REDUCING, 10)),
        "all ranks have been reducing gradients, iteration 7, for 10 s",
    ),
    "one has ended, and is waited for": (
        states(at(REDUCING, 11), {"ended": 0}),
        "rank 1 on vm ended while others wait for it: rank 0 on vm has been reducing gradients, iteration 7",
    ),
    "the one that is behind is named, not the one that saves": (
        states(at("saving a checkpoint", 10, iteration=8), at("computing", 12), at(REDUCING, 11)),
        "rank 1 on vm has been computing, iteration 7, for 12 s; the others wait (reducing gradients, iteration 7)",
    ),
    "one saves, and the others wait for it": (
        states(at("saving a checkpoint", 12), at("waiting for the others", 12)),
        "rank 0 on vm has been saving a checkpoint, iteration 7, for 12 s; the others wait (waiting for the others, "
        "iteration 7)",
    ),
    "before the first iteration": (
        states(at("starting", 11, iteration=None), at("waiting for the others", 11, iteration=None)),
        "rank 0 on vm has been starting, for 11 s; the others wait (waiting for the others)",
    ),
    "one has never had a heartbeat, and the others wait for it": (
        states(at("waiting for the others", 12, iteration=None), {"iteration": None}, {"iteration": None, "ended": 0}),
        "rank 1 on vm has not begun; the others wait (waiting for the others)",
    ),
    "two of them": (
        states(*[{"iteration": None}] * 2, *[at("waiting for the others", 12, iteration=None)] * 2),
        "rank 0 on vm has not begun; rank 1 on vm has not begun; the others wait (waiting for the others)",
    ),
    "one has not begun, one is not ready": (
        states(at("waiting for the others", 12, iteration=None), {"iteration": None}, at("starting", 13, None)),
        "rank 1 on vm has not begun; rank 2 on vm has been starting, for 13 s; the others wait (waiting for the "
        "others)",
    ),
}


@pytest.mark.parametrize(("found", "sentence"), STALLS.values(), ids=STALLS.keys())
def test_the_one_that_holds_up_the_job_is_named(found: list[RankState], sentence: str) -> None:
    assert stall(found, timeout_s=10) == sentence
    assert stall(found, timeout_s=60) is None
    assert stall(found, timeout_s=0) is None


def test_before_the_first_iteration_there_is_more_time_but_not_for_a_stopped_rank() -> None:
    starting = states(at("starting", 50, iteration=None), at("reading images", 45, iteration=0))
    assert stall(starting, timeout_s=40, start_timeout_s=60) is None
    assert stall(starting, timeout_s=40, start_timeout_s=50) is not None
    assert stall(starting, timeout_s=40) is not None
    assert stall(starting, timeout_s=60, start_timeout_s=50) is None
    starting[1].stopped_s = 41
    assert stall(starting, timeout_s=40, start_timeout_s=60) == (
        "rank 1 on vm has been stopped for 41 s (reading images, iteration 0)"
    )


def test_ranks_without_heartbeats_are_left_in_peace() -> None:
    assert stall([RankState(0, "vm"), RankState(1, "vm", ended=0)], timeout_s=0.1) is None
    begun = RankState(0, "vm", age_s=11.0, iteration=7, action="computing")
    assert stall([begun, RankState(1, "vm")], timeout_s=10) == (
        "rank 0 on vm has been computing, iteration 7, for 11 s"
    )


@pytest.mark.parametrize(
    ("found", "usual_s", "rank"),
    [
        (states(at(REDUCING, 5.5), at("computing", 6)), 0.1, 1),
        (states(at(REDUCING, 4.5), at("computing", 6)), 0.1, None),  # the others wait for 4.5 s only
        (states(at(REDUCING, 9), at("computing", 9)), 1.0, None),  # as long as nine iterations
        (states(at(REDUCING, 11), at("reading images", 12)), 1.0, 1),
        (states(at(REDUCING, 11, iteration=8), at("updating", 12)), 0.1, 1),
        (states(at(REDUCING, 11), at("saving a checkpoint", 12)), 0.1, None),
        (states(at("computing", 60), at("computing", 60)), 0.1, None),  # nobody waits
        (states(at(REDUCING, 60), at(REDUCING, 60)), 0.1, None),  # nobody is waited for
    ],
)
def test_a_rank_is_slow_when_others_wait_for_it_longer_than_usual(
    found: list[RankState], usual_s: float, rank: int | None
) -> None:
    slowest = slow(found, usual_s)
    assert (None if slowest is None else slowest.rank) == rank


def test_the_pace_leaves_out_the_first_iterations_and_the_time_since_the_last() -> None:
    pace = Pace()
    for iteration, now_s in [(20, 0.0), (21, 30.0), (22, 31.0), (23, 32.0), (25, 32.4), (27, 32.8)]:
        pace.see(iteration, now_s)
    assert pace.usual_s is None
    pace.see(28, 33.0)
    pace.see(28, 99.0)
    assert pace.usual_s == pytest.approx(0.2)
