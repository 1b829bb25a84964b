"""What the speed benchmarks have in common: jobs that take turns, their ratios, and where a result is from."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# A job of two processes that nothing connects; each answers with its rank, and how often it has counted meanwhile.
COUNTING = """
import sys, threading, turns
counted = [0]
def count():
    while True:
        counted[0] += 1
threading.Thread(target=count, daemon=True).start()
def answer(request):
    if request == "fail":
        sys.exit("no more of this")
    return [int(sys.argv[1]), request, counted[0]]
turns.serve(sys.argv[2].removeprefix("turns="), int(sys.argv[1]), answer)
"""


@pytest.fixture(scope="module")
def scripts():
    """The scripts' modules, which lie outside of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import allreduce
        import cycle_time
        import provenance
        import step_overhead
        import turns

        class Modules:
            pass

        modules = Modules()
        modules.allreduce, modules.cycle_time, modules.provenance = allreduce, cycle_time, provenance
        modules.step_overhead, modules.turns = step_overhead, turns
        yield modules


def _contestant(scripts):
    commands = [[sys.executable, "-c", COUNTING, rank] for rank in ("1", "0")]
    return scripts.turns.Contestant(commands, 2, {"PYTHONPATH": str(BENCHMARKS)})


def _wait_until_stopped(pids):
    give_up_s = time.monotonic() + 20
    while {psutil.Process(pid).status() for pid in pids} != {psutil.STATUS_STOPPED}:
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_a_job_runs_in_its_turns_alone(scripts):
    job = scripts.turns.Job(_contestant(scripts))
    pids = list(job._pids)
    try:
        first = job.turn("a")
        assert [answer[:2] for answer in first] == [[0, "a"], [1, "a"]]
        _wait_until_stopped(pids)
        before = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]
        time.sleep(0.3)
        assert [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids] == before
        second = job.turn("b")
        assert all(after[2] > count[2] for count, after in zip(first, second, strict=True))
    finally:
        job.end()
    assert not any(map(psutil.pid_exists, pids))


def test_a_process_that_fails_is_named_and_the_others_are_ended(scripts):
    pids = []

    def fail():
        with scripts.turns.started({"one": _contestant(scripts)}, "warm") as jobs:
            pids.extend(jobs["one"]._pids)
            jobs["one"].turn("fail")

    with pytest.raises(RuntimeError, match="no more of this"):
        fail()
    assert len(pids) == 2
    assert not any(map(psutil.pid_exists, pids))


def test_a_benchmark_that_is_told_to_end_leaves_nobody_behind(tmp_path):
    """Stopped processes would stay for ever."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys, time, turns\n"
        f"commands = [[sys.executable, '-c', {COUNTING!r}, rank] for rank in '10']\n"
        f"with turns.started({{'a': turns.Contestant(commands, 2)}}, 0) as jobs:\n"
        f"    print(*jobs['a']._pids, flush=True)\n"
        f"    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment) as driver:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        _wait_until_stopped(pids)
        driver.terminate()
        assert driver.wait(30) == 143
    assert not any(map(psutil.pid_exists, pids))


def test_a_job_that_does_not_start_says_what_it_said(scripts):
    broken = scripts.turns.Contestant([[sys.executable, "-c", "raise SystemExit('not today')"]], 1)
    with pytest.raises(RuntimeError, match="not today"):
        scripts.turns.Job(broken)


def test_neighbours_stay_neighbours_and_jobs_are_started_anew(scripts, monkeypatch):
    said = []

    class Job:
        def __init__(self, contestant):
            self.name = contestant
            said.append(f"start {self.name}")

        def turn(self, request):
            said.append(f"{self.name} {request}")
            return [request]

        def end(self):
            said.append(f"end {self.name}")

    monkeypatch.setattr(scripts.turns, "Job", Job)
    taken = scripts.turns.take_turns("label", {"a": "a", "b": "b"}, 1, "warm", rounds=3, starts=2)
    start, end = ["start a", "a warm", "start b", "b warm"], ["end a", "end b"]
    assert said == [*start, "a 1", "b 1", *end, *start, "b 1", "a 1", "a 1", "b 1", *end]
    assert taken == [{"a": [1], "b": [1]}] * 3


def test_a_spread_is_the_median_and_the_quartiles(scripts):
    assert scripts.turns.spread([5, 1, 2, 3, 4]) == {"median": 3, "quartiles": [2, 4]}
    assert scripts.turns.spread([0.12345]) == {"median": 0.1235, "quartiles": [0.1235, 0.1235]}


def test_ddp_is_the_best_of_its_settings_beside_ours_in_the_same_layout(scripts):
    taken = {
        "bare_horovod": [{"bare_horovod": 1.0, "ours": 1.0, "bare_horovod_as_started_upstream": 1.5}] * 3,
        "ddp": [{"ddp": 1.3, "ours": 1.0, "ddp_tuned": 1.2}] * 3,
        "channels_last": [
            {
                "ddp_tuned_channels_last": ddp,
                "ours_channels_last": 0.5,
                "ddp_tuned_channels_last_kept_memory": 0.52,
                "two_singles": 0.4,
                "single": 0.3,
            }
            for ddp in (0.6, 0.55, 0.5)
        ],
    }
    ratios = scripts.step_overhead.torch_ratios("m", taken)
    assert {name: round(sorted(rounds)[1], 3) for name, rounds in ratios.items()} == {
        "m_vs_ddp": 1.1,
        "m_contiguous_vs_ddp_contiguous": 1.3,
        "m_channels_last_vs_ddp_kept_memory": 1.04,
        "m_vs_bare_horovod": 1.0,
        "m_vs_bare_horovod_as_started_upstream": 1.5,
        "m_vs_two_singles": 0.8,
        "m_vs_single": 0.6,
    }
    slow = [{**each, "ddp_tuned_channels_last": 2.0} for each in taken["channels_last"]]
    assert scripts.step_overhead.torch_ratios("m", {**taken, "channels_last": slow})["m_vs_ddp"] == [1.2] * 3


def test_keras_is_compared_plainly_and_net_of_the_allreduce(scripts):
    rounds = [{"bare_allreduce": 1.5, "ours": 1.6, "two_singles": 0.8}]
    ratios = scripts.step_overhead.keras_ratios("keras", rounds)
    assert {name: round(each, 3) for name, [each] in ratios.items()} == {
        "keras_vs_single": 0.5,
        "keras_vs_single_net_of_allreduce": round(0.8 / 0.9, 3),
        "keras_vs_bare_allreduce": round(1.5 / 1.6, 3),
    }


def test_mpi_may_have_one_buffer_where_nothing_is_fused(scripts):
    mpi4py = {"set": 0.09, "set_in_one_buffer": 0.06}
    found = {"horovod_mpi": {"set": 0.08}, "horovod_mpi_untuned": {"set": 0.064}, "mpi4py": mpi4py}
    unfused = {"horovod_mpi": {"set": 0.08}, "horovod_mpi_unfused": {"set": 0.1, "set_in_one_buffer": 0.07}}
    unfused["mpi4py_by_mpirun"] = {"set": 0.076, "set_in_one_buffer": 0.096}
    ratios = scripts.allreduce.ratios_of({"mpi": [found], "unfused": [unfused]}, 2, "resnet50")
    assert {name: round(each, 4) for name, [each] in ratios.items()} == {
        "resnet50_vs_mpi4py_2_ranks": 0.75,
        "resnet50_vs_mpi4py_by_mpirun_2_ranks": 0.95,
        "resnet50_untuned_vs_mpi4py_2_ranks": 0.9375,
        "resnet50_fused_vs_unfused_2_ranks": 1.25,
    }
    swept = [{"1": {"set": 0.064}, "5": {"set": 0.06}, "20": {"set": 0.08}, "mpi4py": mpi4py}]
    assert scripts.allreduce.best_cycle(swept, "resnet50") == ("5", {"resnet50_best_cycle_vs_mpi4py_2_ranks": [1.0]})


def test_a_cycle_time_is_compared_with_the_fastest_of_each_job(scripts):
    rounds = {"a": [{"1": 1.0, "20": 2.0}], "b": [{"1": 1.25, "20": 1.0}]}
    assert scripts.cycle_time.of_fastest(rounds) == {
        "1": {"a": 1.0, "b": 0.8},
        "20": {"a": 0.5, "b": 1.0},
    }


def test_a_result_says_whose_code_it_is_of(scripts, tmp_path, monkeypatch):
    def git(*words):
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert scripts.provenance.commit(tmp_path) == "unknown"
    for name in ("code.py", "README.md", "benchmarks/results/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    monkeypatch.chdir("/")
    first = git("rev-parse", "--short", "HEAD")
    assert scripts.provenance.commit(tmp_path) == first
    for name in ("README.md", "benchmarks/results/a.json"):
        (tmp_path / name).write_text("2")
    assert scripts.provenance.commit(tmp_path) == first
    (tmp_path / "code.py").write_text("2")
    assert scripts.provenance.commit(tmp_path) == f"{first}-dirty"


def test_a_result_names_the_commit_at_the_start_of_its_run(scripts, monkeypatch):
    before = scripts.provenance.provenance("2 ranks")
    monkeypatch.setattr(scripts.provenance, "commit", lambda: "later")
    assert scripts.provenance.provenance("2 ranks") == before
    assert before["machine"].endswith(f"{os.cpu_count()} cores; 2 ranks")
