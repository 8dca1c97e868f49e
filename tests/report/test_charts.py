"""Charts of the page: marks where the values are, texts under the pointer, and SVG that a page can hold."""

import re
from importlib.resources import files
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from recsys.report import charts
from recsys.report.charts import embed
from recsys.report.panels import COLORS, panels

CAPTION = charts.Caption("ndcg@k", "across", "up", "It rises and falls.")


def marks(chart):
    return [mark for mark in ElementTree.fromstring(chart).iter() if mark.get("data-t")]


def texts(chart):
    return [mark.get("data-t") for mark in marks(chart)]


def drawn(chart, of):
    return [float(mark.get(of)) for mark in marks(chart)]


def written(chart):
    """Labels of the axes and of their ticks, left to right and bottom to top."""
    return [label.text for label in ElementTree.fromstring(chart).iter("text")]


def by_cutoff(cutoffs=(1, 10, 100), ticks=(1, 10, 100)):
    ends = {"low": [0.1, 0.3, np.nan], "high": [0.3, 0.5, np.nan]}
    return charts.by_cutoff(CAPTION, pd.DataFrame({"k": cutoffs, "value": [0.2, 0.4, 0.3], **ends}), ticks)


def test_a_curve_has_a_point_per_value_with_its_interval_in_words():
    chart = by_cutoff()
    across, along = drawn(chart, "x"), drawn(chart, "y")
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)
    assert along[1] < along[2] < along[0]
    assert texts(chart) == [
        "k = 1: 0.2000 (95% interval 0.1000 to 0.3000)",
        "k = 10: 0.4000 (95% interval 0.3000 to 0.5000)",
        "k = 100: 0.3000",
    ]
    read = ElementTree.fromstring(chart)
    assert read.find("svg").get("aria-label") == "ndcg@k. It rises and falls."
    group = next(group for group in read.iter("g") if "stroke: var(--text)" in group.get("style"))
    upright = [[float(end) for end in re.findall(r"[\d.]+", bar.get("d"))] for bar in group]
    assert [bar[0] for bar in upright] == [bar[2] for bar in upright] == across[:2]
    assert [(bar[1] + bar[3]) / 2 for bar in upright] == pytest.approx(along[:2], abs=0.02)


def test_lengths_of_lists_are_labeled_where_there_is_room():
    assert written(by_cutoff())[:4] == ["1", "10", "100", "k (length of the list)"]
    close = by_cutoff((10, 12, 100), (9, 10, 12, 20, 50, 100))
    assert written(close)[:5] == ["9", "12", "20", "50", "100"]


@pytest.mark.parametrize("values", [[0.5], [0.0], [2.0, 2.0]])
def test_a_curve_of_one_value_is_drawn_inside(values):
    chart = charts.learning(CAPTION, np.arange(1.0, len(values) + 1), np.array(values))
    assert all(20 < place < 398 for place in drawn(chart, "x"))
    assert all(2 < place < 210 for place in drawn(chart, "y"))


def test_ticks_say_their_value_in_full():
    chart = charts.learning(CAPTION, np.arange(1.0, 4.0), np.array([1_000_000.001, 1_000_000.002, 1_000_000.003]))
    ticks = [label for label in written(chart) if not re.search("[a-z]", label)]
    assert ticks[:3] == ["1", "2", "3"]
    assert "1000000.0015" in ticks or "1000000.001" in ticks
    assert all(1_000_000 < float(tick) < 1_000_001 for tick in ticks[3:])
    upright = [label for label in ElementTree.fromstring(chart).iter("text") if "." in label.text]
    assert all(float(label.get("x")) - 6.5 * len(label.text) > 15 for label in upright), "beside the label of the axis"


def test_bars_are_as_high_as_their_values():
    def heights(chart):
        corners = [re.findall(r"[\d.]+", mark.get("d")) for mark in marks(chart)]
        return [float(corner[1]) - float(corner[5]) for corner in corners]

    series = {"one": np.array([0.2, 0.4]), "two": np.array([0.1, np.nan])}
    chart = charts.bars(CAPTION, ["a", "b"], series, percent=True)
    assert np.array(heights(chart)) / heights(chart)[0] == pytest.approx([1, 2, 0.5], abs=0.01)
    assert texts(chart) == ["a, one: 20.0%", "b, one: 40.0%", "a, two: 10.0%"]
    keys = [key.text or key[0].tail for key in ElementTree.fromstring(chart).iter("span") if key.get("class") == "key"]
    assert keys == ["one", "two"]
    ends = np.array([0.1, np.nan]), np.array([0.3, np.nan])
    chart = charts.bars(CAPTION, ["a", "b"], {"one": np.array([0.2, 0.4])}, intervals=ends)
    assert texts(chart) == ["a, one: 0.2000 (95% interval 0.1000 to 0.3000)", "b, one: 0.4000"]
    assert heights(charts.bars(CAPTION, ["a"], {"one": np.array([0.0])})) == [0]


def test_points_of_a_cloud_have_one_scale_and_the_color_of_their_kind():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    chart = charts.cloud(CAPTION, points, ["a", "b", "c", "d"], np.array([0, 1, 1, 0]), ["popular", "rare"])
    place = {mark.get("data-t"): (float(mark.get("x")), float(mark.get("y"))) for mark in marks(chart)}
    assert place["b"][0] - place["a"][0] == pytest.approx(place["a"][1] - place["c"][1], abs=0.02)
    assert place["d"][0] - place["a"][0] == pytest.approx(3 * (place["b"][0] - place["a"][0]), abs=0.02)
    kinds = {
        mark.get("data-t"): re.search(r"var\(--(\w+)\)", group.get("style"))[1]
        for group in ElementTree.fromstring(chart).iter("g")
        for mark in group
    }
    assert kinds == {"a": "p0", "d": "p0", "b": "p1", "c": "p1"}
    assert texts(chart)[-2:] == ["a", "d"], "the first kind is on top"


def test_items_at_one_spot_of_the_long_tail_share_a_dot():
    x, y = np.array([1, 1, 1000, 0]), np.array([5, 5, 0, 0])
    chart = charts.long_tail(charts.Caption("t", "sold", "shown", "s"), x, y, "abcd".__getitem__)
    assert sorted(texts(chart)) == [
        "2 items, such as a (sold: 1, shown: 5)",
        "c (sold: 1,000, shown: 0)",
        "d (sold: 0, shown: 0)",
    ]
    across = {mark.get("data-t")[0]: float(mark.get("x")) for mark in marks(chart)}
    assert across["d"] < across["2"] < across["c"]


@pytest.mark.parametrize(
    ("counts", "ticks"),
    [
        ([0, 1, 4000], ["0", "1", "10", "100", "1,000"]),
        ([3, 60], ["5", "10", "20", "50"]),
        ([0, 0], ["0", "1", "2"]),
    ],
)
def test_axes_of_counts_have_round_ticks_and_a_place_for_zero(counts, ticks):
    x = np.array(counts)
    assert written(charts.long_tail(CAPTION, x, x, str)) == [*ticks, "across", *ticks, "up"]


def test_the_long_tail_of_a_large_catalog_stays_small():
    rng = np.random.default_rng(0)
    x, y = (np.floor(rng.pareto(0.3, 200_000)).clip(0, 10**6).astype(np.int64) for _ in range(2))
    chart = charts.long_tail(CAPTION, x, y, lambda _: "x" * 100)
    assert len(marks(chart)) > 1000
    assert len(chart) < 1_500_000


def figure():
    made, (panel,) = panels(1, columns=1, width=4, height=3)
    return made, panel, panel.scatter([1, 2], [3, 4], color=COLORS["line"])


def test_a_figure_becomes_svg_that_a_page_can_hold():
    made, panel, points = figure()
    panel.set_xlabel("a < b & c")
    text = embed(made, '"one"', {points: ["<first> 1.25000  x", "second"]})
    assert text == embed(made, '"one"', {points: ["<first> 1.25000  x", "second"]})
    read = ElementTree.fromstring(text)
    assert read.attrib == {"viewBox": "0 0 288 216", "role": "img", "aria-label": '"one"'}
    assert {element.tag for element in read.iter()} == {"svg", "g", "defs", "path", "use", "text"}
    assert texts(text) == ["<first> 1.25000  x", "second"]
    assert "a < b & c" in written(text)
    assert not re.findall("#[0-9a-f]{6}[^0-9a-f]|clip|font", text)
    defined = [element.get("id") for element in read.iter() if element.get("id")]
    assert sorted(set(defined)) == sorted({element.get("href")[1:] for element in read.iter("use")})
    other = ElementTree.fromstring(embed(figure()[0], "two", {}))
    assert not {element.get("id") for element in other.iter() if element.get("id")} & set(defined)


def test_what_a_page_could_not_show_is_refused():
    made, panel, points = figure()
    with pytest.raises(ValueError, match="shorter"):
        embed(made, "one", {points: ["first"]})
    panel.plot([1, 2], [3, 4], color="#123456")
    with pytest.raises(KeyError, match="#123456"):
        embed(made, "one", {})


def test_curves_share_their_places_and_skip_what_is_missing():
    x = np.array([2.0, 8.0, 32.0])
    series = {"one": np.array([0.1, 0.2, 0.3]), "two": np.array([np.nan, 0.4, np.nan])}
    chart = charts.curves(CAPTION, x, series, logarithmic=True, percent=True)
    assert texts(chart) == [
        "one, across: 2: 10.0%",
        "one, across: 8: 20.0%",
        "one, across: 32: 30.0%",
        "two, across: 8: 40.0%",
    ]
    across, along = drawn(chart, "x"), drawn(chart, "y")
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)
    assert across[3] == across[1]
    assert along[3] < along[2] < along[1] < along[0]
    assert written(chart)[:4] == ["2", "8", "32", "across"]
    evenly = drawn(charts.curves(CAPTION, x, {"one": series["one"]}), "x")
    assert (evenly[2] - evenly[1]) == pytest.approx(4 * (evenly[1] - evenly[0]), abs=0.2)


def luminance(color):
    """Relative luminance of a color such as #ffffff (WCAG 2.2)."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_and_marks_stand_out_from_their_background(theme):
    style = files("recsys.report").joinpath("page.css").read_text("utf-8").split("}")[theme]
    colors = dict(re.findall(r"--(\w+): (#\w{6})", style))
    assert colors.keys() == COLORS.keys()
    for ground in ("bg", "card"):
        for name in colors.keys() - {"bg", "card", "edge"}:
            light, dark = sorted((luminance(colors[name]), luminance(colors[ground])), reverse=True)
            enough = 4.5 if name in ("text", "soft", "line", "mark") else 3.0
            assert (light + 0.05) / (dark + 0.05) >= enough, f"{name} on {ground}"
