from typing import Any

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.launcher import supervisor
from hvd_imagenet.launcher.hosts import Place
from hvd_imagenet.launcher.machine import Machine
from hvd_imagenet.launcher.membership import Members, Wanted
from hvd_imagenet.launcher.supervisor import Job, supervise

# Of a range for documentation (RFC 5737), which no host has.
ELSEWHERE = "203.0.113.7"


def test_a_host_that_the_others_see_at_an_address_that_is_not_its_own() -> None:
    job = Job(lambda starts: ["true"], Wanted(processes=2), {})
    members = Members(2, Machine(2, 0, True), (Place("node1", 1), Place("node2", 1)), ELSEWHERE)
    with pytest.raises(UserError) as caught:
        supervise(job, members, print)
    assert str(caught.value) == (
        "launch: cannot listen on 203.0.113.7, where the other hosts see this one (Cannot assign requested address; "
        "NAT or ProxyJump?); name a network that all of them are on: --network-interface"
    )


def test_hosts_that_a_start_has_lost_are_told_to_who_looks_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [supervisor._End(1, False, frozenset({"node2"})), supervisor._End(1, False), supervisor._End(0, False)]
    members, lost = Members(2, Machine(2, 0, True)), list[Any]()

    def wait_for_members(*arguments: Any, **options: Any) -> Members:
        lost.append(options["lost"])
        return members

    monkeypatch.setattr(supervisor, "_start", lambda *arguments: ends.pop(0))
    monkeypatch.setattr(supervisor, "wait_for_members", wait_for_members)
    assert supervise(Job(lambda starts: ["true"], Wanted(processes=2), {}, max_restarts=2), members, print) == 0
    assert lost == [{"node2"}, set()]
