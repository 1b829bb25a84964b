import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from made_up_runs import make_run
from matplotlib.figure import Figure as Canvas

from hvd_imagenet.errors import UserError
from hvd_imagenet.report import palette
from hvd_imagenet.report.curves import draw_curves, draw_losses, log_if_wide, over_seeds, smoothed, whole_epochs
from hvd_imagenet.report.figures import figures_of, inline_svg, save
from hvd_imagenet.report.groups import grouped
from hvd_imagenet.report.minibatches import draw_by_minibatch, draw_paper, minibatch_lines
from hvd_imagenet.report.paper import FIGURE_1
from hvd_imagenet.report.run import read_run


def _groups(tmp_path, *options):
    return grouped([read_run(make_run(tmp_path / str(number), **each)) for number, each in enumerate(options)])


STUDY = (
    {"seed": 0, "errors": (40.0, 30.0, 12.0, 10.0)},
    {"seed": 1, "errors": (40.0, 34.0, 16.0, 14.0)},
    {"seed": 0, "minibatch": 200, "errors": (50.0, 40.0, 30.0, 20.0)},
)


@pytest.fixture
def axes():
    return Canvas().subplots()


def _drawn(axes):
    """Label, x and y of every line."""
    return [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (STUDY, ["error_by_minibatch", "training_curves", "loss_by_iteration"]),
        (STUDY[:2], ["training_curves", "loss_by_iteration"]),
        ([STUDY[0], {"minibatch": 200, "errors": (1.0,)}], ["training_curves", "loss_by_iteration"]),
        ([{"errors": (), "iterations": 3}], ["loss_by_iteration"]),
        ([{"errors": ()}], []),
    ],
    ids=["two minibatches", "one", "one that is finished", "no epoch", "no iteration"],
)
def test_which_figures_there_are(tmp_path, options, names):
    assert [figure.name for figure in figures_of(_groups(tmp_path, *options))] == names


def test_the_paper_stands_beside_error_against_minibatch(tmp_path, axes):
    figure = figures_of(_groups(tmp_path, *STUDY))[0]
    assert [panel.title for panel in figure.panels] == ["these runs", "the paper, Figure 1"]
    draw_paper(axes)
    ((_, minibatches, errors),) = [line for line in _drawn(axes) if len(line[1]) == len(FIGURE_1)][:1]
    assert dict(zip(minibatches, errors, strict=True)) == {
        128: 23.49,
        256: 23.60,
        512: 23.48,
        1024: 23.53,
        2048: 23.49,
        4096: 23.56,
        8192: 23.74,
        16384: 24.79,
        32768: 27.55,
        65536: 33.96,
    }
    assert {point.minibatch: point.deviation for point in FIGURE_1 if point.deviation} == {
        256: 0.12,
        8192: 0.09,
        16384: 0.27,
        32768: 0.28,
        65536: 0.80,
    }


def test_error_against_minibatch_has_means_and_deviations_over_seeds(tmp_path, axes):
    lines = minibatch_lines(_groups(tmp_path, *STUDY, {"minibatch": 200, "warmup": "none", "errors": (9.0,) * 4}))
    assert list(lines) == ["warmup gradual", "warmup none"]
    draw_by_minibatch(axes, lines)
    (bars, alone) = axes.containers
    assert (bars.get_label(), list(bars[0].get_xdata()), list(bars[0].get_ydata())) == (
        "warmup gradual",
        [100, 200],
        [23.0, 35.0],
    )
    (low_to_high,) = bars[2]
    np.testing.assert_allclose(low_to_high.get_segments()[0][:, 1], [23 - 8**0.5, 23 + 8**0.5])
    assert list(alone[0].get_ydata()) == [9.0]
    assert (axes.get_xscale(), axes.xaxis.get_transform().base) == ("log", 2)


def test_curves_are_means_with_a_band_over_seeds(tmp_path, axes):
    draw_curves(axes, _groups(tmp_path, *STUDY), "val_error")
    assert _drawn(axes) == [
        ("minibatch 100", [1, 2, 3, 4], [40, 32, 14, 12]),
        ("minibatch 200", [1, 2, 3, 4], [50, 40, 30, 20]),
    ]
    band = axes.collections[0].get_paths()[0].vertices
    at_epoch_4 = band[band[:, 0] == 4][:, 1]
    assert (min(at_epoch_4), max(at_epoch_4)) == (pytest.approx(12 - 8**0.5), pytest.approx(12 + 8**0.5))
    draw_curves(axes, _groups(tmp_path / "again", STUDY[0]), "train_error")
    assert _drawn(axes)[-1][2] == [45, 35, 17, 15]


def test_a_run_that_is_not_finished_is_a_dotted_line_of_its_own(tmp_path, axes):
    draw_curves(axes, _groups(tmp_path, STUDY[0], {"seed": 1, "errors": (40.0, 20.0)}), "val_error")
    whole, dotted = axes.get_lines()
    assert list(whole.get_ydata()) == [40, 30, 12, 10]  # the mean of finished runs alone
    assert list(dotted.get_ydata()) == [40, 20]
    assert whole.get_linestyle() == "-" != dotted.get_linestyle()
    assert whole.get_color() == dotted.get_color()


def test_losses_are_by_iteration_with_a_mark_where_a_run_was_resumed(tmp_path, axes):
    draw_losses(axes, _groups(tmp_path, {"resumed": 20}))
    losses, mark = axes.get_lines()
    assert list(losses.get_xdata()) == list(range(1, 41))
    np.testing.assert_allclose(losses.get_ydata(), [2 / (1 + t) for t in range(40)])
    assert (mark.get_marker(), mark.get_xdata()[0], mark.get_ydata()[0]) == ("^", 21, pytest.approx(2 / 21))


def test_a_run_that_was_never_resumed_has_no_mark(tmp_path, axes):
    draw_losses(axes, _groups(tmp_path, {}))
    assert len(axes.get_lines()) == 1


@pytest.mark.parametrize(
    ("sizes", "errors", "scales"),
    [
        ((100, 200), (90.0, 60.0, 30.0, 12.0), ("linear", "linear")),  # 7.5 times
        ((100, 200), (90.0, 60.0, 30.0, 10.0), ("linear", "log")),
        ((20, 200), (90.0, 60.0, 30.0, 0.0), ("log", "linear")),  # no logarithm of 0
    ],
)
def test_axes_are_logarithmic_where_values_are_far_apart(tmp_path, sizes, errors, scales):
    groups = _groups(tmp_path, *({"minibatch": size, "errors": errors} for size in sizes))
    losses, curves = Canvas().subplots(1, 2)
    draw_losses(losses, groups)
    draw_curves(curves, groups, "val_error")
    assert (losses.get_xscale(), curves.get_yscale()) == scales


def test_numbers_of_a_long_logarithmic_axis_are_powers_of_ten(axes):
    """As many iterations, but drawn from the first."""
    axes.plot([1, 8000], [1, 1])
    assert log_if_wide(axes, "x", [500.0, 8000.0])
    assert {np.log10(tick) % 1 for tick in axes.get_xticks()} == {0.0}


def test_epochs_are_whole(axes):
    axes.plot([1, 18], [1, 1])
    whole_epochs(axes)
    assert all(tick == int(tick) for tick in axes.get_xticks())


def test_runs_of_one_seed_count_as_one_in_curves():
    mean, deviation = over_seeds([(0, pd.Series([1.0])), (0, pd.Series([3.0])), (1, pd.Series([4.0]))])
    assert (mean.tolist(), deviation.tolist()) == ([3.0], [pytest.approx(2**0.5)])


def test_a_long_curve_is_a_running_mean_at_a_few_points():
    values = pd.Series(np.arange(100_000, dtype=float))
    smooth = smoothed(values)
    assert 500 < len(smooth) <= 601
    assert smooth.index[-1] == 99_999
    assert smooth.iloc[-1] == 99_499  # the mean of the last 1,001, half of the window that is around it
    assert smoothed(pd.Series([1.0, np.nan, 3.0])).tolist()[0] == 1.0


def test_files_are_png_and_svg(tmp_path):
    figures = figures_of(_groups(tmp_path, *STUDY))
    written = save(figures, tmp_path / "new" / "figures")
    assert sorted(path.name for path in written) == [
        "error_by_minibatch.png",
        "error_by_minibatch.svg",
        "loss_by_iteration.png",
        "loss_by_iteration.svg",
        "training_curves.png",
        "training_curves.svg",
    ]
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            text = path.read_text()
            assert ElementTree.fromstring(text).tag.endswith("svg")
            assert palette.SERIES[0] in text


def test_the_same_runs_give_the_same_svg(tmp_path):
    figures = figures_of(_groups(tmp_path, *STUDY))
    save(figures, tmp_path / "a")
    save(figures, tmp_path / "b")
    for name in ("error_by_minibatch.svg", "training_curves.svg", "loss_by_iteration.svg"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as mistake:
        save(figures_of(_groups(tmp_path, *STUDY)), tmp_path / "file")
    assert str(mistake.value) == f"--out {tmp_path}/file: cannot be written (File exists); name a folder of yours"


def test_panels_of_a_page_share_no_id_and_leave_colours_to_it(tmp_path):
    panels = [panel for figure in figures_of(_groups(tmp_path, *STUDY)) for panel in figure.panels]
    assert len(panels) == 5
    ids = []
    for panel in panels:
        text = inline_svg(panel)
        root = ElementTree.fromstring(text)
        assert {"width", "height"}.isdisjoint(root.attrib)
        assert "viewBox" in root.attrib
        own = re.findall(r'\bid="([^"]*)"', text)
        ids += own
        assert set(re.findall(r'(?:url\(|href=")#([^")]*)', text)) <= set(own)
        assert "var(--ink)" in text
        assert "var(--series-" in text
        assert palette.SERIES[0] not in text
        assert palette.INK not in text
    assert len(ids) == len(set(ids))


def test_a_dollar_in_a_label_is_a_dollar(tmp_path):
    groups = _groups(tmp_path, {"data": "/a/$x$"}, {"data": "/b/<&"})
    text = inline_svg(figures_of(groups)[0].panels[0])
    assert "data /a/$x$" in text
    assert "data /b/&lt;&amp;" in text


def test_nothing_of_matplotlib_is_changed_for_others(tmp_path):
    before = dict(matplotlib.rcParams)
    inline_svg(figures_of(_groups(tmp_path, *STUDY))[0].panels[0])
    assert dict(matplotlib.rcParams) == before
