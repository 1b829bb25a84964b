import itertools
import json
from pathlib import Path

import pytest

from hvd_imagenet.errors import UserError
from hvd_imagenet.report.benchmarks import BEGIN, END, as_markdown, rewritten, write_readme
from hvd_imagenet.report.known_benchmarks import KNOWN
from hvd_imagenet.report.study_words import CAPTIONS, STUDIES

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"
HERE = {"command": "python b.py", "machine": "a host; 2 ranks", "date": "2026-11-23", "commit": "abc1234"}


def _write(folder, name, **found):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found))


def test_a_known_result(tmp_path):
    overhead_s = {"mpirun": {"median": 0.2234, "quartiles": [0.2, 0.25]}, "horovodrun": {"median": 0.3}}
    seconds = {"mpirun": 0.0244, "horovodrun": 0.655}
    ratios = {"vs_mpirun": 0.098, "vs_new": 1.5}
    _write(tmp_path, "launch_overhead", **HERE, ratios=ratios, overhead_s=overhead_s, seconds=seconds)
    lines = as_markdown(tmp_path).splitlines()
    assert lines[:-2] == [
        "| Two processes that do nothing, from command to prompt | by itself | under `launch` | "
        "`launch` adds (quartiles) |",
        "|---|---|---|---|",
        "| mpirun | 0.024 s |  | 0.223 s (0.200–0.250) |",
        "| horovodrun | 0.655 s |  |  |",
        "",
        "| launch overhead | ratio |",
        "|---|---|",
        "| `vs_new` | 1.50 |",
        "",
        "[launch_overhead.json](benchmarks/results/launch_overhead.json): `python b.py` "
        "(a host; 2 ranks; 2026-11-23; commit abc1234).",
    ]
    assert lines[-2] == ""
    assert lines[-1].startswith("No result yet of `benchmarks/step_overhead.py`, `benchmarks/cycle_time.py`, ")
    assert "launch_overhead" not in lines[-1]


def test_a_row_without_a_figure_is_left_out(tmp_path):
    _write(tmp_path, "step_overhead", **HERE, ratios={"resnet20_vs_ddp": 1.176, "keras_vs_single": "none"})
    assert as_markdown(tmp_path).splitlines()[2:4] == [
        "| DistributedDataParallel on gloo, the best of its settings |  | 1.18 |",
        "",
    ]


def test_words_stand_only_in_cells_for_them(tmp_path):
    links = {"1gbit": {"step_seconds": 2, "efficiency": 0.118, "vs_50gbit": "slow", "lost_to": "link"}}
    beyond = {"ring": {"points": {"1024": {"efficiency": 0.5, "lost_to": ""}}}}
    _write(tmp_path, "plan_against_paper", **{"256_workers_by_network": links, "beyond_the_paper": beyond})
    lines = as_markdown(tmp_path).splitlines()
    assert "| 1 Gbit/s | 2.000 s | 11.8 % |  | link |" in lines
    assert "| 1,024 P100s |  | 50.0 % (–) |  |" in lines


def test_a_result_that_nobody_has_named_yet_comes_last(tmp_path):
    _write(tmp_path, "a_new_one", **HERE, ratios={"x": 2})
    _write(tmp_path, "virtual_workers", **HERE, ratios={})
    _write(tmp_path, "step_overhead", **HERE, ratios={"resnet20_vs_ddp": 1.176})
    lines = as_markdown(tmp_path).splitlines()
    assert [line.split(" | ")[0] for line, below in itertools.pairwise(lines) if below.startswith("|--")] == [
        "| Our training step on 2 ranks is so many times as fast as …",
        "| a new one",
    ]
    assert "| `x` | 2.00 |" in lines


def test_parts_that_were_measured_apart_say_so_each(tmp_path):
    provenance = {"resnet50": HERE, "resnet20": HERE, "keras": HERE | {"commit": "def5678"}}
    _write(tmp_path, "step_overhead", provenance=provenance, ratios={"resnet20_vs_ddp": 1.176})
    lines = [line for line in as_markdown(tmp_path).splitlines() if "json](" in line]
    assert [line.split(": `")[0] for line in lines] == [
        "[step_overhead.json](benchmarks/results/step_overhead.json), resnet50 and resnet20",
        "[step_overhead.json](benchmarks/results/step_overhead.json), keras",
    ]
    assert [line.rpartition(" ")[2] for line in lines] == ["abc1234).", "def5678)."]


def test_a_study_is_a_table_of_errors_for_each_question(tmp_path):
    point = {"study": "FIGURE1", "label": "kn 64", "seeds": 3, "mean": 4.051, "deviation": 0.12, "paper": "23.60"}
    points = [
        point,
        point | {"label": "kn 8192", "mean": None, "deviation": None, "diverged": 3, "paper": None},
        point | {"label": "kn 4096", "seeds": 5, "wanted": 5, "diverged": 2},
        point | {"label": "kn 128", "seeds": 1, "wanted": 3, "deviation": None, "diverged": 0},
        point | {"label": "not yet", "seeds": 0},
        point | {"study": "CANCELLED", "label": "1024, divided by kn", "paper": ""},
        point | {"study": "QUICK", "label": "kn 64"},
    ]
    _write(tmp_path, "minibatch_study", **HERE, ratios={"figure 1: kn 64": 1.0}, points=points)
    reading, *lines = as_markdown(tmp_path).splitlines()
    assert reading.startswith("Validation errors in percent, medians of the last 5 epochs: mean ± standard deviation ")
    assert lines[:-4] == [
        "",
        "| Figure 1: minibatch kn; learning rate by linear scaling, gradual warmup | seeds | error % | "
        "the paper's, at as many times its 256 |",
        "|---|---|---|---|",
        "| kn 64 | 3 | 4.05 ± 0.12 | 23.60 |",
        "| kn 8192 | 3 | all 3 diverged |  |",
        "| kn 4096 | 5 | 2 of 5 diverged, the rest 4.05 ± 0.12 | 23.60 |",
        "| kn 128 | 1 of 3 | 4.05 | 23.60 |",
        "",
        "| Section 3: minibatch, and the gradient divided by kn, or k cancelled into the learning rate | seeds | "
        "error % |",
        "|---|---|---|",
        "| 1024, divided by kn | 3 | 4.05 ± 0.12 |",
        "",
        "| Large minibatches: QUICK | seeds | error % | the paper's |",
        "|---|---|---|---|",
        "| kn 64 | 3 | 4.05 ± 0.12 | 23.60 |",
    ]


def test_a_study_shows_the_figures_that_are_there(tmp_path):
    point = {"study": "FIGURE1", "label": "kn 64", "seeds": 3, "mean": 4.051, "deviation": 0.12}
    _write(tmp_path, "minibatch_study", **HERE, points=[point, point | {"study": "LARS"}])
    assert "![" not in as_markdown(tmp_path)
    (tmp_path / "figures").mkdir()
    for name in ("figure3", "lars", "another"):
        (tmp_path / "figures" / f"{name}.svg").touch()
    lines = as_markdown(tmp_path).splitlines()
    assert [line for line in lines if line.startswith("!")] == [
        f"![{CAPTIONS['figure3']}](benchmarks/results/figures/figure3.svg)",
        f"![{CAPTIONS['lars']}](benchmarks/results/figures/lars.svg)",
    ]
    assert lines.index("| kn 64 | 3 | 4.05 ± 0.12 |  |") < next(i for i, line in enumerate(lines) if "figure3" in line)


def test_every_study_and_every_figure_has_words(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import study_points

    assert set(STUDIES) == set(study_points.STUDIES)
    assert sorted(name for words in STUDIES.values() for name in words.figures) == sorted(CAPTIONS)


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read (Expecting property name"), ("[]", "must hold a JSON object with `ratios`; measure again")],
)
def test_a_damaged_result_is_named(tmp_path, text, said):
    (tmp_path / "allreduce.json").write_text(text)
    with pytest.raises(UserError) as mistake:
        as_markdown(tmp_path)
    assert str(mistake.value).startswith(f"{tmp_path}/allreduce.json: {said}")


def test_a_folder_without_results(tmp_path):
    with pytest.raises(UserError, match=r": no such folder; name the one that make bench writes, benchmarks/results$"):
        as_markdown(tmp_path / "missing")
    _write(tmp_path, "empty")
    with pytest.raises(UserError, match=r": holds no result with figures; make bench writes them$"):
        as_markdown(tmp_path)


def test_every_figure_that_has_a_name_is_in_the_committed_results():
    """A benchmark that renames a figure must rename it here, or README loses it without a word."""
    measured = {name: known for name, known in KNOWN.items() if (RESULTS / f"{name}.json").exists()}
    assert len(measured) >= 5
    for name, known in measured.items():
        found = json.loads((RESULTS / f"{name}.json").read_text())
        cells = [cell for table in known.tables for _, row in table.rows for cell in row if cell is not None]
        for cell in cells:
            for path in cell.paths:
                value = found
                for key in path:
                    value = value[key]
                assert isinstance(value, int | float | list) or (cell.words and isinstance(value, str)), (name, path)
        assert set(known.left_out) <= set(found.get("ratios", {}))


def test_tables_are_small_and_every_row_has_a_cell_for_each_column():
    for name, known in KNOWN.items():
        for table in known.tables:
            assert len(table.columns) <= 5, name
            assert len(table.rows) <= 10, name
            assert {len(cells) + 1 for _, cells in table.rows} == {len(table.columns)}, (name, table.columns)


def test_the_section_of_readme_is_what_report_writes():
    """After a new result: hvd-imagenet report --benchmarks benchmarks/results --readme README.md."""
    readme = (ROOT / "README.md").read_text()
    assert rewritten(readme, as_markdown(RESULTS)) == readme


def test_only_the_section_is_rewritten(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest, with {BEGIN} in a line.\n")
    assert write_readme(readme, "new\ntable")
    assert readme.read_text() == f"# Title\n\n{BEGIN}\n\nnew\ntable\n\n{END}\n\nThe rest, with {BEGIN} in a line.\n"
    assert not write_readme(readme, "new\ntable")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"])
def test_a_readme_without_a_place_is_a_mistake(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(UserError) as mistake:
        write_readme(readme, "new")
    assert str(mistake.value) == (
        f"--readme {readme}: must have the lines <!-- benchmarks --> and <!-- /benchmarks -->, once each and in this "
        f"order; put both where the tables belong"
    )
    assert readme.read_text() == text


def test_a_readme_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"--readme .*: cannot be written \(No such file or directory\); name a README"):
        write_readme(tmp_path / "README.md", "new")
