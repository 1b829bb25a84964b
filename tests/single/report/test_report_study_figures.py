import dataclasses
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from made_up_study import EPOCHS, rows_of, write_study
from matplotlib.figure import Figure as Canvas

from hvd_imagenet.report.figures import inline_svg, save
from hvd_imagenet.report.palette import SERIES
from hvd_imagenet.report.study import read_study
from hvd_imagenet.report.study_figures import study_figures
from hvd_imagenet.report.study_panels import draw_epochs, draw_errors

REFERENCE = rows_of([13.0, 14.0, 15.0])
LARGE = rows_of([16.0, 17.0, 18.0], minibatch=1024)
LARS = rows_of([15.0], minibatch=1024, opt="lars", trust_coefficient=0.01, reference_lr=0.4, reference_minibatch=256)


@pytest.fixture
def axes():
    return Canvas().subplots()


def _figures(tmp_path, *points):
    return {figure.name: figure for figure in study_figures(read_study(write_study(tmp_path / "s.csv", *points)))}


@pytest.mark.parametrize(
    ("points", "titles"),
    [
        ([REFERENCE], {}),
        ([REFERENCE, LARGE], {"figure1": None, "figure3": ["kn 1024, training"]}),
        (
            [REFERENCE, rows_of([20.0], minibatch=1024, warmup="none")],
            {"figure2": [f"{each} warmup, {what}" for what in ("training", "validation") for each in
                         ("no", "constant", "gradual")]},
        ),
        (
            [REFERENCE, rows_of([20.0], reference_lr=0.2)],
            {"figure5": ["kn 64, training", "kn 64, validation"]},
        ),
        ([rows_of([20.0], zero_last_gamma=False)], {"last_gamma": ["kn 64, training", "kn 64, validation"]}),
        (
            [LARGE, rows_of([20.0], minibatch=1024, per_worker=64)],
            {"figure3": None, "per_worker": ["error against n", "kn 1024, training", "kn 1024, validation"]},
        ),
        ([REFERENCE, LARS], {"lars": ["error against kn", "kn 1024, training"]}),
        ([rows_of([13.0], framework="keras", processes=2), rows_of([13.0], weight_decay=1e-5)], {}),
    ],
    ids=["the reference alone", "a minibatch", "warmup", "rates", "gamma", "per worker", "LARS", "none of these"],
)  # fmt: skip
def test_which_figures_there_are(tmp_path, points, titles):
    figures = _figures(tmp_path, *points)
    assert list(figures) == list(titles)
    for name, expected in titles.items():
        found = [panel.title for panel in figures[name].panels]
        assert expected is None or found == expected
    save(list(figures.values()), tmp_path / "figures")
    assert len(list(tmp_path.glob("figures/*"))) == 2 * len(titles)


def test_all_seeds_diverged_everywhere(tmp_path):
    points = [rows_of([None, None], **changes) for changes in ({}, {"minibatch": 1024}, {"zero_last_gamma": False})]
    figures = _figures(tmp_path, *points)
    assert list(figures) == ["figure1", "figure3", "last_gamma"]
    save(list(figures.values()), tmp_path / "figures")


def test_figure_1_has_means_and_bands_and_says_what_diverged(tmp_path, axes):
    diverging = rows_of([20.0, None, 30.0, None], minibatch=8192)
    study = read_study(write_study(tmp_path / "s.csv", REFERENCE, rows_of([16.0, 18.0], minibatch=1024), diverging))
    draw_errors(axes, {"mean": study.varied()}, lambda point: point.minibatch)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert [list(lines["mean"].get_xdata()), list(lines["mean"].get_ydata())] == [[64, 1024, 8192], [14, 17, 25]]
    band = axes.collections[0].get_paths()[0].vertices
    assert {round(y, 6) for x, y in band if x == 64} == {13, 15}
    marks = [line for line in axes.get_lines() if line.get_marker() == "o" and len(line.get_xdata()) == 1]
    hollow = {int(line.get_xdata()[0]): line.get_markerfacecolor() == "white" for line in marks}
    assert hollow == {64: False, 1024: True, 8192: False}
    dots = [list(line.get_ydata()) for line in axes.get_lines() if line.get_marker() == "."]
    assert dots == [[13, 14, 15], [16, 18], [20, 30]]
    (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert list(cross.get_xdata()) == [8192]
    assert [text.get_text() for text in axes.texts] == ["2 of 4\ndiverged"]
    assert "fewer seeds than wanted" in lines


def test_both_panels_of_figure_1_have_the_same_multiples(tmp_path):
    panels = _figures(tmp_path, rows_of([13.0], minibatch=16), REFERENCE, LARGE)["figure1"].panels
    assert [panel.title for panel in panels] == [
        "here: resnet8_narrow on cluttered digits",
        "the paper, Figure 1: ResNet-50 on ImageNet",
    ]
    words = []
    for panel, reference in zip(panels, (64, 256), strict=True):
        axes = Canvas().subplots()
        panel.draw(axes)
        ticks = axes.xaxis.get_major_locator()()
        np.testing.assert_allclose(ticks, [reference * 2.0**power for power in range(-2, 9)])
        words.append([axes.xaxis.get_major_formatter()(tick).split("\n") for tick in ticks])
        assert str(reference) in axes.get_xlabel()
    ours, papers = words
    assert [times for _, times in ours] == [times for _, times in papers]
    assert (ours[0], papers[0], papers[-1]) == (["16", "×¼"], ["64", "×¼"], ["64k", "×256"])


@pytest.mark.parametrize(("error", "scale"), [(38.0, "linear"), (80.0, "log")])
def test_both_panels_of_figure_1_have_one_kind_of_scale(tmp_path, error, scale):
    panels = _figures(tmp_path, REFERENCE, rows_of([error], minibatch=8192))["figure1"].panels
    for panel in panels:
        axes = Canvas().subplots()
        panel.draw(axes)
        assert axes.get_yscale() == scale


def test_curves_are_means_with_a_band_and_the_reference_is_grey(tmp_path, axes):
    study = read_study(write_study(tmp_path / "s.csv", REFERENCE, rows_of([16.0, None], minibatch=1024)))
    named = [(point.label, point) for point in study.points]
    draw_epochs(axes, named, "val_error", study.reference)
    reference, large, diverged, cross = axes.get_lines()
    assert (reference.get_color(), large.get_color(), diverged.get_color()) == (SERIES[-1], SERIES[0], SERIES[0])
    assert (list(reference.get_xdata()), list(reference.get_ydata())) == ([1, 2, 3], [56, 28, 14])
    assert list(large.get_ydata()) == [64, 32, 16]
    assert (list(diverged.get_ydata()), diverged.get_linestyle()) == ([90, 50], ":")
    assert (cross.get_marker(), cross.get_xdata()[0], cross.get_ydata()[0]) == ("x", 2, 50)
    assert axes.get_legend_handles_labels()[1] == ["kn 64", "kn 1024"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("epochs", "validation error (%)", "log")
    assert max(axes.get_xlim()) > EPOCHS


def test_labels_have_errors_and_missing_seeds(tmp_path):
    rows = rows_of([16.0, None], minibatch=1024)
    text = inline_svg(_figures(tmp_path, REFERENCE, rows)["figure3"].panels[0])
    assert ">kn 64: 14.00\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}1.00\N{NO-BREAK SPACE}%<" in text
    assert ">kn 1024: 1 of 2 diverged,<" in text
    assert ">(2\N{NO-BREAK SPACE}of\N{NO-BREAK SPACE}3\N{NO-BREAK SPACE}seeds)<" in text


def test_rates_are_in_order_and_named_by_their_height(tmp_path):
    points = [rows_of([20.0], minibatch=1024, reference_lr=lr) for lr in (0.2, 0.05)]
    points += [LARGE, rows_of([20.0], minibatch=1024, reference_minibatch=1024)]
    axes = Canvas().subplots()
    _figures(tmp_path, REFERENCE, *points)["figure5"].panels[0].draw(axes)
    labels = [label.split(":")[0] for label in axes.get_legend_handles_labels()[1]]
    assert labels == ["kn 64", "η 0.4", "η 0.8", "η 3.2", "η 6.4"]


def test_a_legend_below_serves_the_panels_above(tmp_path):
    """Inside a panel it would lie on the curves."""
    figures = _figures(tmp_path, REFERENCE, rows_of([20.0], reference_lr=0.2), rows_of([21.0], zero_last_gamma=False))
    written = {path.stem: path.read_text() for path in save(list(figures.values()), tmp_path) if path.suffix == ".svg"}
    assert len(figures["figure5"].panels) == len(figures["last_gamma"].panels) == 2
    assert [written["figure5"].count(f">η {rate}: ") for rate in (0.2, 0.4)] == [2, 2]
    assert written["figure5"].count("legend_") == 2
    panel, grid = figures["figure5"].panels[0], dataclasses.replace(figures["figure5"].grid, columns=1)
    drawn = dataclasses.replace(figures["figure5"], panels=(panel, panel), grid=grid)
    (text,) = (path.read_text() for path in save([drawn], tmp_path / "one") if path.suffix == ".svg")
    assert text.count("legend_") == 1


def test_files_are_whole_and_the_same_again(tmp_path):
    figures = list(_figures(tmp_path, REFERENCE, LARGE, LARS).values())
    save(figures, tmp_path / "a")
    save(figures, tmp_path / "b")
    assert {path.name for path in (tmp_path / "a").glob("*.svg")} == {"figure1.svg", "figure3.svg", "lars.svg"}
    for path in (tmp_path / "a").iterdir():
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
            assert path.read_text() == (tmp_path / "b" / path.name).read_text()
