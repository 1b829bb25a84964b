"""Every figure that README has words for is in what the scripts write; here of made-up seconds, nothing is measured."""

import json
from pathlib import Path

import pytest

from hvd_imagenet.report.benchmarks import as_markdown
from hvd_imagenet.report.known_benchmarks import KNOWN

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def written():
    """What --json would hold, by the names of scripts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import allreduce
        import cycle_time
        import startup
        import step_overhead

        yield {
            "step_overhead": _steps(step_overhead),
            "cycle_time": cycle_time.result(
                {name: [{str(ms): 0.1 + ms for ms in cycle_time.CYCLE_TIMES_MS}] * 2 for name in cycle_time.JOBS},
                cycle_time.JOBS,
            ),
            "startup": startup.summary([dict.fromkeys(startup.TURNS, 4.5)] * 3),
            "allreduce": _allreduce(allreduce),
        }


def _steps(script):
    taken = {
        model: {group: [dict.fromkeys(names, 0.5)] * 2 for group, names in script.GROUPS.items()}
        for model in ("resnet50", "resnet20")
    }
    ratios = {}
    for model, groups in taken.items():
        ratios |= script.torch_ratios(model, groups)
    del ratios["resnet20_vs_bare_horovod_as_started_upstream"]
    rounds = [dict.fromkeys(script.KERAS_GROUP, 0.5)]
    for prefix in ("keras", "keras_resnet50"):
        ratios |= script.keras_ratios(prefix, rounds)
        taken[prefix] = {"keras": rounds}
    return script.result(ratios, taken, {})


def _allreduce(script):
    """Without ratios over the ranks' rounds there is nothing that a sweep could be compared with."""
    measurement = script.Measurement([2, 4, 8], [102_000_000], "resnet50")
    found = {str(size): 0.001 for size in script.SIZES} | {script.SET: 0.1, script.BUFFER: 0.08}
    for ranks in (2, 4, 8):
        taken = {group: [dict.fromkeys(names, found)] * 3 for group, names in script.GROUPS.items()}
        measurement.add(ranks, taken)
    swept = {**found, "idle_cores": 0.1, "products_per_second": 900.0}
    values = [f"{value:g}" for value in script.CYCLE_TIMES_MS]
    rounds = [dict.fromkeys([*values, "mpi4py"], swept)] * 3
    measurement.add_sweep("cycle_time_ms", rounds)
    measurement.add_ratios(script.best_cycle(rounds, "resnet50")[1])
    values = [f"{value:g}" for value in script.FUSION_THRESHOLDS_MB]
    measurement.add_sweep("fusion_threshold_mb", [dict.fromkeys(values, found)] * 3)
    return measurement.found


@pytest.mark.parametrize("name", ["step_overhead", "cycle_time", "startup", "allreduce"])
def test_tables_are_full(written, tmp_path, name):
    (tmp_path / f"{name}.json").write_text(json.dumps(written[name]))
    lines = as_markdown(tmp_path).splitlines()
    rows = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| ")]
    tables = KNOWN[name].tables
    # Of every row, and nothing that has no words.
    assert rows == [words for table in tables for words in (table.columns[0], *(words for words, _ in table.rows))]
    cells = [cell for table in tables for _, row in table.rows for cell in row if cell is not None]
    for path in (path for cell in cells for path in cell.paths):
        value = written[name]
        for key in path:
            value = value[key]
        assert value is not None
