import pickle
import threading

import numpy as np
import pytest

from hvd_imagenet.communicator import SingleProcess, decoded, encoded, together
from hvd_imagenet.errors import AgreedError, UserError


class _Job:
    """Ranks that are threads of this process; a gather in which one rank is missing fails after a while."""

    def __init__(self, size):
        self.size = size
        self.values = [None] * size
        self.barrier = threading.Barrier(size, timeout=30.0)

    def run(self, action_of_rank):
        """The outcome of together() on every rank: its result, or what it raised."""
        outcomes = [None] * self.size

        def rank_main(rank):
            try:
                outcomes[rank] = together(_Rank(self, rank), action_of_rank(rank))
            except BaseException as error:
                outcomes[rank] = error

        threads = [threading.Thread(target=rank_main, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes


class _Rank:
    def __init__(self, job, rank):
        self.job, self.rank, self.size, self.local_rank = job, rank, job.size, rank

    def gather(self, value):
        self.job.values[self.rank] = value
        self.job.barrier.wait()
        values = list(self.job.values)
        self.job.barrier.wait()
        return values


def _fail(message):
    def action():
        raise UserError(message)

    return action


def test_together_gives_each_rank_its_own_result():
    assert _Job(2).run(lambda rank: lambda: rank * 10) == [0, 10]
    assert _Job(2).run(lambda rank: lambda: None) == [None, None]


@pytest.mark.parametrize(("failing", "spokesman"), [({0}, 0), ({1}, 1), ({0, 1}, 0), ({1, 2}, 1), ({2}, 2)])
def test_where_one_fails_all_fail_with_the_lowest_ranks_message(failing, spokesman):
    outcomes = _Job(3).run(lambda rank: _fail(f"disk {rank} is full") if rank in failing else lambda: "fine")
    for outcome in outcomes:
        assert isinstance(outcome, AgreedError)
        assert str(outcome) == f"disk {spokesman} is full"
        assert outcome.spokesman == spokesman


def test_an_empty_message_counts_as_a_failure():
    assert all(
        isinstance(outcome, AgreedError) for outcome in _Job(2).run(lambda rank: _fail("") if rank else lambda: 1)
    )


def test_a_bug_is_no_users_mistake():
    def broken():
        raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        together(SingleProcess(), broken)


def test_a_single_process():
    single = SingleProcess()
    assert (single.rank, single.size, single.local_rank) == (0, 1, 0)
    assert single.sum(np.array([1.5, 2.0])).tolist() == [1.5, 2.0]
    assert single.gather({"a": (1, None)}) == [{"a": [1, None]}]
    with pytest.raises(AgreedError, match=r"^no data$"):
        together(single, _fail("no data"))


def test_numbers_and_names_arrive_as_they_were():
    floats = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64).view(np.float64)
    floats = np.append(floats, [0.1, -0.0, 5e-324, np.inf, -np.inf, np.nan])
    (arrived,) = decoded([encoded(floats.tolist())])
    np.testing.assert_array_equal(np.array(arrived)[~np.isnan(floats)], floats[~np.isnan(floats)])
    assert np.signbit(arrived[-5])
    np.testing.assert_array_equal(np.isnan(arrived), np.isnan(floats))
    odd = [True, 2**70, "Köln \udcff", {"": []}]  # a file's name that is no UTF-8
    assert decoded([encoded(odd)]) == [odd]
    assert [type(each) for each in decoded([encoded([1, 1.0, True])])[0]] == [int, float, bool]


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, np.float32(1), np.ones(2), pickle, {"a": [object()]}])
def test_what_is_no_plain_data_is_refused_where_it_is_sent(value):
    with pytest.raises(TypeError, match="only numbers, text, lists and mappings travel between processes"):
        encoded(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"1 2", b"[" * 100_000, pickle.dumps("text"), b"9" * 10_000])
def test_what_is_no_json_is_refused_by_all_with_one_line(data):
    with pytest.raises(AgreedError, match=rf"^rank 1 has sent {len(data)} bytes that are no JSON; [^\n]*$") as caught:
        decoded([encoded("fine"), np.frombuffer(data, np.uint8)])
    assert caught.value.spokesman == 0
