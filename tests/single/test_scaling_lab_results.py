"""What benchmarks/scaling_lab.py makes of its points, and when it measures them; nothing is measured here."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hvd_imagenet.report.benchmarks import as_markdown
from hvd_imagenet.report.known_benchmarks import KNOWN

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def lab():
    """The scripts' modules, which lie outside of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.syspath_prepend(str(BENCHMARKS.parent / "tests" / "cluster"))
        import scaling_lab
        import scaling_lab_hosts
        import scaling_lab_points
        import scaling_lab_results
        import scaling_lab_study
        import scaling_lab_summary
        import scaling_lab_timeline

        class Modules:
            script, hosts, points, results = scaling_lab, scaling_lab_hosts, scaling_lab_points, scaling_lab_results
            study, summary, timeline = scaling_lab_study, scaling_lab_summary, scaling_lab_timeline

        yield Modules


class MadeUpHosts:
    """Steps that take so many seconds more than computation, of the device's time; what was asked for is kept."""

    cluster = "there"

    def __init__(self, lab, more_s=0.01, busy=0.3):
        self.lab, self.more_s, self.busy, self.asked = lab, more_s, busy, []

    def messages(self, setting, factor):
        return self.lab.points.assumed_messages(setting, factor)

    def steps(self, setting, factor, unmeasured, measured, timeline=None):
        self.asked.append((setting, factor))
        busy = self.busy(factor) if callable(self.busy) else self.busy
        step_s = factor * (self.lab.points.compute_s(setting.profile) + self.more_s)
        if timeline is not None:
            timeline.write_text(TIMELINE)
        backwards = [(1000.0, 1000.5)] * measured
        return {"seconds": [step_s] * measured, "backwards": backwards, "busy": busy, "busy_with_ranks": busy / 2}


def measured(lab, tmp_path, hosts, settings, **words):
    path = tmp_path / "scaling_lab.json"
    results = lab.results.Results(path, words.get("again", False))
    lab.script.study(settings, hosts, results, words.get("most"))
    lab.script.follow(hosts, results)
    return json.loads(path.read_text())


def test_a_point_is_beside_the_planner_and_beside_computation_alone(lab, tmp_path, capsys):
    setting = replace(lab.points.EIGHT, link="5gbit")
    [point] = measured(lab, tmp_path, MadeUpHosts(lab, more_s=0.1), [setting])["points"]
    alone_s = lab.points.compute_s(setting.profile)
    assert (point["ranks"], point["factor"], point["over"], point["latency_us"]) == (8, 20, "gloo", 14.4)
    assert point["measured_s"] == pytest.approx(alone_s + 0.1, abs=1e-5)
    assert point["null_deviation"] == pytest.approx(alone_s / (alone_s + 0.1) - 1, abs=1e-4)
    assert point["exposed_s"] == pytest.approx(0.1, abs=1e-5)
    expected = point["predicted_exposed_s"] / point["exposed_s"] - 1
    assert point["exposed_deviation"] == pytest.approx(expected, abs=1e-3)
    assert not point["over_half_load"]
    assert {"date", "commit"} <= set(point)
    assert "planner " in capsys.readouterr().out


def test_half_load_is_kept_by_a_larger_factor(lab, tmp_path, capsys):
    hosts = MadeUpHosts(lab, busy=lambda factor: 12 / factor)
    found = measured(lab, tmp_path, hosts, [lab.points.EIGHT])
    assert [factor for _, factor in hosts.asked] == [20, 30]
    assert (found["points"][0]["factor"], found["points"][0]["cores_busy"]) == (30, 0.4)
    assert found["over_half_load"] == []
    assert found["busiest"]["cores_busy"] == 0.4
    assert "60 % busy (!)" in capsys.readouterr().out


def test_what_polls_is_marked_and_not_measured_again(lab, tmp_path):
    hosts = MadeUpHosts(lab, busy=0.9)
    found = measured(lab, tmp_path, hosts, [replace(lab.points.FOUR, over="ring")])
    assert len(hosts.asked) == 1
    assert found["over_half_load"] == ["4 ranks on 4 hosts, 43gbit, 14.4 us, MPI's ring, cycle 1 ms, fusion 128 MiB"]


def test_it_goes_on_where_it_stood_and_points_keep_their_origin(lab, tmp_path, monkeypatch):
    settings = lab.points.FULL[5:8]
    hosts = MadeUpHosts(lab)
    monkeypatch.setattr(lab.results, "provenance", lambda words: origin("2026-11-01", "abc1234"))
    measured(lab, tmp_path, hosts, settings, most=2)
    monkeypatch.setattr(lab.results, "provenance", lambda words: origin("2026-11-02", "def5678-dirty"))
    found = measured(lab, tmp_path, hosts, settings)
    assert len(hosts.asked) == 3
    assert [point["commit"] for point in found["points"]] == ["abc1234", "abc1234", "def5678-dirty"]
    assert (found["date"], found["commit"]) == ("2026-11-01 to 2026-11-02", "abc1234, def5678-dirty")
    before = (tmp_path / "scaling_lab.json").read_bytes()
    monkeypatch.setattr(lab.results, "provenance", lambda words: origin("2026-11-03", "0000000"))
    measured(lab, tmp_path, hosts, settings)
    assert len(hosts.asked) == 3
    assert (tmp_path / "scaling_lab.json").read_bytes() == before
    again = measured(lab, tmp_path, hosts, settings[:1], again=True)
    assert len(hosts.asked) == 4
    assert [point["commit"] for point in again["points"]] == ["abc1234", "def5678-dirty", "0000000"]


def test_points_of_a_device_whose_profile_is_another_now_are_measured_again(lab, tmp_path):
    path, hosts = tmp_path / "scaling_lab.json", MadeUpHosts(lab)
    measured(lab, tmp_path, hosts, lab.points.FULL[-2:])
    found = json.loads(path.read_text())
    found["points"][0]["compute_s"] += 0.001
    path.write_text(json.dumps(found))
    assert lab.results.Results(path).left(lab.points.FULL[-2:]) == lab.points.FULL[-2:-1]
    found = measured(lab, tmp_path, hosts, lab.points.FULL[-2:])
    assert [asked for asked, _ in hosts.asked] == [*lab.points.FULL[-2:], lab.points.FULL[-2]]
    assert len(found["points"]) == 2


def origin(date, commit):
    return {"command": "python lab", "machine": "a host", "date": date, "commit": commit}


def test_a_point_whose_job_fails_does_not_stop_the_others(lab, tmp_path, capsys):
    class Hosts(MadeUpHosts):
        def steps(self, setting, *words, **named):
            if setting == lab.points.FULL[6]:
                raise lab.hosts.JobFailed("launch …\nno such algorithm")
            return super().steps(setting, *words, **named)

    results = lab.results.Results(tmp_path / "scaling_lab.json")
    assert lab.script.study(lab.points.FULL[5:8], Hosts(lab), results) == 1
    assert len(results.points) == 2
    assert f"not measured: {lab.points.FULL[6]}\nlaunch …\nno such algorithm\n" in capsys.readouterr().out


def test_results_of_another_machine_are_left_alone(lab, tmp_path):
    path = tmp_path / "scaling_lab.json"
    path.write_text(json.dumps({"machine": "another", "points": []}))
    with pytest.raises(SystemExit, match=r"scaling_lab.json: was measured on another; name another file$"):
        lab.results.Results(path)


def test_the_best_of_the_sweep_is_measured_again_before_it_is_claimed(lab, tmp_path):
    best = lab.points.SWEEP[1]

    class Hosts(MadeUpHosts):
        def steps(self, setting, *words, **named):
            first = not any(setting == asked for asked, _ in self.asked)
            self.more_s = {True: 0.002 if setting == best else 0.004, False: 0.006}[first]
            return super().steps(setting, *words, **named)

    hosts = Hosts(lab)
    found = measured(lab, tmp_path, hosts, lab.points.SWEEP)
    uneven = replace(best, spread=0.0818)
    assert [asked for asked, _ in hosts.asked[len(lab.points.SWEEP) :]] == [best, uneven, lab.points.TIMELINE]
    assert found["best_settings"] == str(best)
    alone_s = found["confirmed"]["compute_s"]
    expected = pytest.approx(alone_s / (alone_s + 0.006), abs=1e-4)
    assert found["ratios"] == {"efficiency_at_the_papers_ratio": expected}
    stragglers = found["with_stragglers"]
    assert stragglers["spread"] == 0.0818
    # A server of 8 is 1 + 0.0818 · 1.4236 times as slow as one worker.
    assert stragglers["efficiency_of_a_server_of_8"] == pytest.approx(
        1.11645 * stragglers["efficiency_of_one_worker"], rel=1e-3
    )
    assert found["timeline"]["setting"] == str(lab.points.TIMELINE)
    assert found["timeline"]["predicted"]["allreduces"] > 1


# 1,000 s after the epoch, a look at 0.3 s agrees by 0.4 s on three tensors; two of them are reduced together.
TIMELINE = """[
{"name": "process_name", "ph": "M", "pid": 0, "args": {"start_time_since_epoch_in_micros": 1000000000}},
{"ph": "i", "name": "CYCLE_START", "ts": 100000, "s": "g"},
{"ph": "i", "name": "CYCLE_START", "ts": 300000, "s": "g"},
{"ph": "i", "name": "CYCLE_START", "ts": 700000, "s": "g"},
{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "allreduce.tensors.0"}},
{"name": "process_name", "ph": "M", "pid": 2, "args": {"name": "allreduce.tensors.1"}},
{"name": "process_name", "ph": "M", "pid": 3, "args": {"name": "allreduce.tensors.2"}},
{"name": "process_name", "ph": "M", "pid": 4, "args": {"name": "another"}},
{"ph": "B", "name": "NEGOTIATE_ALLREDUCE", "ts": 310000, "pid": 1},
{"ph": "E", "ts": 320000, "pid": 1},
{"ph": "B", "name": "ALLREDUCE", "ts": 400000, "pid": 1},
{"ph": "E", "ts": 600000, "pid": 1},
{"ph": "B", "name": "ALLREDUCE", "ts": 400002, "pid": 2},
{"ph": "E", "ts": 600001, "pid": 2},
{"ph": "B", "name": "ALLREDUCE", "ts": 600002, "pid": 3},
{"ph": "E", "ts": 700000, "pid": 3},
{"ph": "B", "name": "ALLREDUCE", "ts": 450000, "pid": 4},
"""


def test_a_timeline(lab, tmp_path):
    path = tmp_path / "timeline.json"
    path.write_text(TIMELINE)
    [look] = lab.timeline.seen(path)
    assert (look.allreduces, look.tensors) == (2, 3)
    assert (look.look_s, look.agreed_s, look.end_s) == pytest.approx((1000.3, 1000.4, 1000.7))
    # Of three steps of 2 s the second has it; its backward ends at 1,000.5 s.
    steps = {"backwards": [(998.0, 998.5), (1000.0, 1000.5), (1002.0, 1002.5)], "seconds": [2.0, 2.0, 2.0]}
    assert set(vars(lab.timeline.measured_shares([look], steps)).values()) == {0.0}  # the median of them
    one = {name: [each[1]] for name, each in steps.items()}
    assert vars(lab.timeline.measured_shares([look], one)) == pytest.approx(
        {"allreduces": 2, "looks": 1, "negotiation": 0.05, "communication": 0.2, "overlapped": 0.5}
    )


@pytest.mark.parametrize(
    ("alone_s", "in_a_row_s", "message_s", "negotiation_s"),
    [
        # Both agreement and reduction take 6 ms, and so much is a look away as a rule: 1.5 ms at the lower quartile.
        (13.5e-3, 1e-3 + 12.25e-3 / 40, 1e-3 / 14, 6e-3),
        # 0.1 ms each, a quarter of the cycle of 0.5 ms before.
        (0.325e-3, 0.14e-3 + 0.45e-3 / 40, 0.01e-3, 0.1e-3),
    ],
)
def test_short_messages(lab, alone_s, in_a_row_s, message_s, negotiation_s):
    found = lab.points.messages_of({"alone_s": alone_s, "in_a_row_s": in_a_row_s}, lab.points.EIGHT)
    assert (found.message_s, found.negotiation_s) == pytest.approx((message_s, negotiation_s))


def test_messages_of_an_algorithm(lab):
    eight = lab.points.EIGHT
    assert [replace(eight, over=over).messages for over in ("gloo", "ring", "rabenseifner")] == [14, 14, 6]


def test_most_points_are_such_that_communication_matters(lab):
    """Where a step is computation as good as alone, to say so needs no planner."""
    matters = 0
    for setting in lab.points.FULL:
        messages = lab.points.assumed_messages(setting, setting.factor)
        step_s = lab.points.predicted(setting, setting.factor, messages, 0.0).seconds / setting.factor
        matters += step_s > (1 + lab.summary.MATTERS) * lab.points.compute_s(setting.profile)
    assert matters >= 0.6 * len(lab.points.FULL)
    assert len(set(lab.points.FULL)) == len(lab.points.FULL)
    assert {"gloo", "ring", "rabenseifner"} == {setting.over for setting in lab.points.FULL}


def test_the_lab_takes_no_more_than_35_minutes(lab):
    settings = [*lab.points.FULL, *lab.points.FOLLOWING]
    assert 20 < lab.study.minutes(settings, lab.results.Results(None)) <= 35


def test_readme_has_a_figure_in_every_row(lab, tmp_path):
    measured(lab, tmp_path, MadeUpHosts(lab, more_s=0.1), lab.points.FULL)
    shown = as_markdown(tmp_path)
    for table in KNOWN["scaling_lab"].tables:
        for of_row, cells in table.rows:
            [line] = [line for line in shown.splitlines() if line.startswith(f"| {of_row} |")]
            assert line.count("|  |") == (None in cells), line
    assert set(lab.summary.SHOWN.values()) <= set(lab.points.FULL)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("gloo", "hvd-imagenet launch --launcher horovodrun --cycle-time-ms 20 --fusion-threshold-mb 6.4 "),
        (
            "rabenseifner",
            "hvd-imagenet launch --launcher mpirun --allreduce-algorithm rabenseifner --cycle-time-ms 20 "
            "--fusion-threshold-mb 6.4 ",
        ),
    ],
)
def test_how_jobs_are_launched(lab, over, words):
    way = lab.hosts.Way(1e6, 1e-3, cycle_ms=20.0, fusion_mb=6.4)
    setting = replace(lab.points.EIGHT, over=over)
    there = "-H node1:2,node2:2,node3:2,node4:2 --network-interface eth0"
    assert " ".join(lab.hosts.launch_words(setting, way, None, on_hosts=True)) == words + there
    here = lab.hosts.launch_words(setting, way, Path("/t"), on_hosts=False)
    assert " ".join(here) == f"{words}--timeline /t -np 8"
