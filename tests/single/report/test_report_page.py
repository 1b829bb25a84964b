from html.parser import HTMLParser

import pytest
from made_up_runs import make_run

from hvd_imagenet.report import palette
from hvd_imagenet.report.figures import figures_of
from hvd_imagenet.report.groups import grouped
from hvd_imagenet.report.page import as_html
from hvd_imagenet.report.run import read_run

_VOID = {"meta", "link", "br", "img"}
_NAMES_ELSEWHERE = ("src", "href", "xlink:href", "srcset", "action", "data")


class _Page(HTMLParser):
    """What a page holds, and whether its elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


@pytest.fixture
def page(tmp_path):
    options = [
        {"seed": 0, "errors": (40.0, 30.0, 12.0, 10.0)},
        {"seed": 1, "errors": (40.0, 34.0, 16.0, 14.0)},
        {"seed": 0, "minibatch": 200},
        {"seed": 1, "minibatch": 200, "errors": (40.0,)},
    ]
    runs = [read_run(make_run(tmp_path / f"<{number}>", **each)) for number, each in enumerate(options)]
    groups = grouped(runs)
    return as_html(groups, runs, figures_of(groups), runs[3].written_s + 5)


def test_the_page_has_all_of_it(page):
    found = _Page(page)
    assert len(found.all("svg")) == 5
    texts = found.texts
    assert "2 recipes; runs: 3 finished, 1 unfinished" in texts
    assert "23.00 ± 2.83" in texts
    assert any(text.endswith("written 5 s ago; validation error 40.00 % so far") for text in texts)
    assert "33.96 ± 0.80" in texts  # the paper's values
    assert "Figure 1: ResNet-50, minibatch; gradual warmup beyond 256" in texts
    assert "Table 1: ResNet-50, minibatch and warmup" not in texts  # they all warm up alike
    assert "resnet8" in texts  # what all have in common


def test_the_page_needs_no_other_file_and_runs_nothing(page):
    found = _Page(page)
    assert {"script", "link", "img", "iframe", "object", "base", "form"}.isdisjoint(tag for tag, *_ in found.elements)
    for _, attributes, _ in found.elements:
        assert all(attributes[name].startswith("#") for name in _NAMES_ELSEWHERE if name in attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page
    assert page.count("url(") == page.count("url(#")


def test_tables_and_figures_can_be_read_aloud(page):
    found = _Page(page)
    assert found.all("html") == [{"lang": "en"}]
    cells = [(attributes, inside) for tag, attributes, inside in found.elements if tag == "th"]
    assert cells
    for attributes, inside in cells:
        assert attributes["scope"] == ("col" if "thead" in inside else "row")
    images = [attributes for attributes in found.all("div") if attributes.get("role") == "img"]
    assert len(images) == 5
    assert all(len(attributes["aria-label"]) > 20 for attributes in images)
    assert "10.00 % at 100" not in images[0]["aria-label"]
    assert "23.00 % at 100" in images[0]["aria-label"]
    regions = [attributes for attributes in found.all("div") if attributes.get("role") == "region"]
    assert {attributes["aria-labelledby"] for attributes in regions} == {"results", "runs"}
    assert all(attributes["tabindex"] == "0" for attributes in regions)


def test_names_are_text_not_markup(page, tmp_path):
    assert f"{tmp_path}/&lt;0&gt;" in page
    assert f"{tmp_path}/<0>" in _Page(page).texts


def test_every_colour_has_a_value_in_light_and_dark(page):
    for variable in palette.STYLE_VARIABLES.values():
        assert page.count(f"--{variable}:") == 2
    assert "prefers-color-scheme: dark" in page
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page


def test_a_page_of_broken_runs_alone(tmp_path):
    path = make_run(tmp_path / "a")
    (path / "config.yaml").unlink()
    runs = [read_run(path)]
    found = _Page(as_html([], runs, [], 0.0))
    assert "None of the runs says what its recipe is." in found.texts
    assert "broken: no config.yaml" in found.texts
    assert found.all("svg") == []
