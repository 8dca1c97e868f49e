"""The report of a run: what it says agrees with the run, whatever titles hold, and it stands alone."""

import html
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from recsys import datasets
from recsys.errors import ConfigError
from recsys.evaluation import Validation, along_k, evaluate
from recsys.interactions import Interactions
from recsys.models import ALS, EASE, MultVAE, UAutoRec
from recsys.report import page
from recsys.report.panels import COLORS
from recsys.report.users import EXAMPLES
from recsys.splits import hold_out_ratings, hold_out_users
from recsys.training import Record

HOSTILE = "<script>alert(1)</script>"
ABOUT = {
    "config": {
        "data": {"name": "<b>shop</b>", "interactions": 2999, "sep": "::", "seed": 0},
        "split": {"kind": "hold_out_users", "n_users": 0.2, "seed": None},
    },
    "data": {"users": 150, "items": 60, "interactions": 3000, "density": 0.33333, "fingerprint": "abc\"'&"},
}
ALLOWED = """main header nav section article div h1 h2 h3 h4 p a b i span code ul ol li dl dt dd table thead tbody
tr th td figure figcaption svg defs g path use text"""
MARK = "\N{NO-BREAK SPACE}✓ held out"
METRICS = ("ndcg@10", "recall@20", "coverage@10")


@pytest.fixture(scope="module")
def data():
    """Liked films of generated users; titles and user ids are hostile."""
    made = datasets.synthetic(150, 60, 3000).filter(min_rating=3.0, min_user=5).binarized()
    frame = made.to_frame()[["user_id", "item_id"]]
    frame["user_id"] = frame["user_id"].map("'\"><svg onload=alert({0})>".format)
    endings = (HOSTILE, "\"'><img src=x onerror=alert(2)>", "&amp;</main>", "\x00", "Ünï漢字", "x" * 500)
    titles = {item: f"{endings[i % 6]} No. {i}" for i, item in enumerate(sorted(frame["item_id"].unique()))}
    return Interactions.from_frame(frame, titles=titles)


@pytest.fixture(scope="module")
def split(data):
    return hold_out_users(data, n_users=0.2)


def measured(model, split, asked=METRICS):
    return evaluate(model, split.test, along_k(asked, split.train.shape[1]), popularity=split.train)


@pytest.fixture(scope="module")
def factors(split):
    """A model with item vectors, its evaluation and its page."""
    model = ALS(factors=8, iterations=3).fit(split.train, show_progress=False)
    evaluation = measured(model, split)
    return model, evaluation, page(model, split, evaluation, metrics=METRICS, about=ABOUT, source="models:/a&b/1")


@pytest.fixture(scope="module")
def network(split):
    model = MultVAE(hidden=12, latent=6, epochs=5, batch_size=40, learning_rate=0.01)
    model.fit(split.train, show_progress=False, validation=Validation(split.validation, "ndcg@10", ("recall@20",)))
    return page(model, split, measured(model, split), metrics=METRICS, about=ABOUT)


def tree(text):
    """The main element of a page; the generator writes it so that it is XML too."""
    return ElementTree.fromstring(text[text.index("<main>") : text.index("</main>") + len("</main>")])


def section(text, name):
    return next(part for part in tree(text).iter("section") if part.get("id") == name)


def words(element):
    return " ".join("".join(element.itertext()).split())


def shown_title(split, item):
    title = split.train.title(item).replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return title if len(title) <= 100 else title[:99] + "…"


def rows(table):
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_all_sections_are_there_and_linked(factors):
    main = tree(factors[2])
    names = [part.get("id") for part in main.iter("section")]
    assert names == ["metrics", "run", "training", "cutoffs", "users", "items", "map", "examples"]
    assert [link.get("href") for link in main.iter("a")] == [f"#{name}" for name in names]
    for part in main.iter("section"):
        assert next(part.iter("h2")).get("id") == part.get("aria-labelledby")
        assert len(words(part)) > 40
    assert len({e.get("id") for e in main.iter() if e.get("id")}) == sum(bool(e.get("id")) for e in main.iter())
    assert "<title>ALS on &lt;b&gt;shop&lt;/b&gt;</title>" in factors[2]


def test_the_table_holds_the_metrics_asked_for_with_their_intervals(factors):
    _, evaluation, text = factors
    table = rows(next(section(text, "metrics").iter("table")))
    assert [row[0] for row in table[1:]] == list(METRICS)
    assert [row[1] for row in table[1:]] == [f"{evaluation[name]:.4f}" for name in METRICS]
    low, high = map(float, table[1][2].split(" to "))
    assert 0 < low < evaluation["ndcg@10"] < high
    assert table[3][2] == "–"
    meanings = section(factors[2], "metrics").find("dl")
    assert [words(name) for name in meanings.iter("dt")] == ["ndcg", "recall", "coverage"]
    assert words(meanings).endswith("share of the catalog recommended to anyone; higher is better")
    assert words(next(tree(text).iter("header"))).startswith("ALS on <b>shop</b>ndcg@10 ")


def test_data_split_and_model_are_described(factors, split):
    text = words(section(factors[2], "run"))
    described = ("<b>shop</b>", "33.33%", "abc\"'&", "interactions3,000", "sep::", "hold_out_users")
    for fact in (*described, "factors8", "iterations3", "classALS"):
        assert fact in text
    assert not re.findall("None|2999", text)
    parts = rows(next(section(factors[2], "run").iter("table")))
    assert parts[1] == ["train", f"{split.train.shape[0]}", f"{split.train.shape[1]}", f"{split.train.nnz:,}", "–"]
    assert [row[0] for row in parts[1:]] == ["train", "validation", "test"]


def test_examples_are_what_the_model_recommends_and_hits_are_what_was_held_out(factors, split):
    model, _, text = factors
    cards = list(section(text, "examples").iter("article"))
    assert len(cards) == EXAMPLES
    part, hits = split.test, 0
    popularity = np.bincount(split.train.matrix.indices, minlength=split.train.shape[1])
    for card in cards:
        user = next(card.iter("h3")).text.removeprefix("User ")
        row = int(part.users.codes([user])[0])
        ids, _ = model.recommend(-1, part.context[row], N=10, recalculate_user=True)
        listed = ["".join(item.itertext()) for item in next(card.iter("ol"))]
        held = set(part.target[row].indices.tolist())
        for item, shown in zip(ids.tolist(), listed, strict=True):
            hit = shown.endswith(MARK)
            assert hit == (item in held)
            hits += hit
            assert shown.removesuffix(MARK) == shown_title(split, item)
        assert f"{len(held)} held out, {len(held & set(ids.tolist()))} of them in the first 10" in words(card)
        read = sorted(part.context[row].indices.tolist(), key=lambda item: -popularity[item])
        assert [item.text for item in next(card.iter("ul"))] == [shown_title(split, item) for item in read[:15]]
    assert hits


def test_curves_have_a_panel_per_kind_and_a_point_per_cut_off(factors, network):
    figures = list(section(factors[2], "cutoffs").iter("figure"))
    assert [words(next(figure.iter("figcaption"))) for figure in figures] == ["ndcg@k", "recall@k", "coverage@k"]
    cuts = [name for name in factors[1].values if name.startswith("ndcg@")]
    assert sum(mark.get("data-t") is not None for mark in figures[0].iter()) == len(cuts) == 5
    titles = [words(figure.find("figcaption")) for figure in section(network, "training").iter("figure")]
    assert titles == ["Training loss", "Validation ndcg@10", "Validation recall@20"]
    for figure in section(network, "training").iter("figure"):
        points = [mark.get("data-t") for mark in figure.iter() if mark.get("data-t")]
        assert [point.split(":")[0] for point in points] == [f"epoch {n}" for n in range(1, 6)]
        styles = [mark.get("style", "") for mark in figure.iter()]
        assert sum("stroke-dasharray" in style and "var(--mark)" in style for style in styles) == 1
        assert sum("fill: var(--mark)" in style for style in styles) == 1
    assert "the best by ndcg@10 on the validation part" in words(section(network, "training"))


def test_a_long_training_is_drawn_by_some_of_its_epochs_the_best_among_them(factors, split):
    model, evaluation, _ = factors
    epochs = [{"epoch": n, "loss": 1 / n, "ndcg@10": 0.5 if n == 778 else 0.1} for n in range(1, 1001)]
    text = page(model, split, evaluation, record=Record(epochs=epochs, metric="ndcg@10", best_epoch=778))
    points = [mark.get("data-t") for mark in section(text, "training").iter() if mark.get("data-t")]
    drawn = [int(point.removeprefix("epoch ").split(":")[0].replace(",", "")) for point in points]
    assert drawn[:401] == drawn[401:] == sorted(set(drawn))
    assert (drawn[0], drawn[400], len(drawn)) == (1, 1000, 802)
    assert points.count("epoch 778: 0.5000") == 1
    assert "401 of 1,000 epochs are drawn." in words(section(text, "training"))


def test_the_map_shows_categories_where_the_items_have_some(split, factors):
    rng = np.random.default_rng(0)
    kinds = np.array(["Tea", "Coffee", "Mugs"], dtype=object)[rng.integers(0, 3, split.train.shape[1])]
    described = replace(split, train=replace(split.train, item_columns={"kind": kinds}))
    model, evaluation, plain = factors
    shown = section(page(model, described, evaluation), "map")
    assert sorted(words(key) for key in shown.iter("span") if key.get("class") == "key") == ["Coffee", "Mugs", "Tea"]
    dots = [mark.get("data-t") for mark in shown.iter("use") if mark.get("data-t")]
    assert {kind: sum(f"({kind}; " in dot for dot in dots) for kind in kinds} == dict(Counter(kinds.tolist()))
    assert "Colors show the kind." in words(shown)
    assert "Colors show the popularity group." in words(section(plain, "map"))


def test_what_cannot_be_told_is_left_out_and_the_page_says_so(split, data, factors):
    linear = EASE().fit(split.train, show_progress=False)
    text = page(linear, split, measured(linear, split))
    assert "Not shown: EASE has no vectors of items" in words(section(text, "map"))
    assert "not trained in epochs" in words(section(text, "training"))
    assert not list(section(text, "map").iter("svg"))
    ratings = hold_out_ratings(datasets.synthetic(80, 40, 1500), test=0.2)
    rater = UAutoRec(hidden=4, epochs=2).fit(ratings.train, show_progress=False)
    text = page(rater, ratings, evaluate(rater, ratings.test, ["rmse", "mae"]))
    for name in ("cutoffs", "items"):
        assert "No metric of recommended lists was measured" in words(section(text, name))
    assert "rmse by length of history" in words(section(text, "users"))
    assert len(list(section(text, "examples").iter("article"))) == 10
    bare = page(linear, split, evaluate(linear, split.test, "coverage@5"))
    assert "No metric of the table has a value per user" in words(section(bare, "users"))


def test_relevance_is_that_of_the_evaluation():
    ratings = hold_out_ratings(datasets.synthetic(80, 40, 1500), test=0.3)
    model = EASE().fit(ratings.train, show_progress=False)
    evaluation = evaluate(model, ratings.test, ["recall@10"], min_relevance=5.0, popularity=ratings.train)
    text = page(model, ratings, evaluation, min_relevance=5.0)
    part = ratings.test
    for card in section(text, "examples").iter("article"):
        row = int(part.users.codes([int(next(card.iter("h3")).text.removeprefix("User "))])[0])
        held = part.target[row]
        assert f"{int((held.data >= 5).sum())} held out" in words(card)


def test_equal_runs_give_equal_pages_and_nothing_is_changed(factors, split):
    model, evaluation, text = factors
    before = evaluation.per_item.copy()
    assert page(model, split, evaluation, metrics=METRICS, about=ABOUT, source="models:/a&b/1") == text
    pd.testing.assert_frame_equal(evaluation.per_item, before)


def test_settings_of_matplotlib_do_not_reach_the_page_and_are_left_alone(factors, split):
    import matplotlib
    from matplotlib import style

    model, evaluation, text = factors
    with style.context(["dark_background", {"axes.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}]):
        given = dict(matplotlib.rcParams)
        assert page(model, split, evaluation, metrics=METRICS, about=ABOUT, source="models:/a&b/1") == text
        assert dict(matplotlib.rcParams) == given


def test_metrics_that_were_not_evaluated_are_refused(factors, split):
    with pytest.raises(ConfigError, match="'ndcg@3' was not evaluated"):
        page(factors[0], split, factors[1], metrics=["ndcg@3"])
    with pytest.raises(ConfigError, match="at least one metric"):
        page(factors[0], split, factors[1], metrics=[])


def test_a_page_needs_nothing_from_outside_and_runs_one_script(factors, network):
    for text in (factors[2], network):
        assert text.count("<script") == 1
        assert HOSTILE not in text
        outside = r"<(?:img|link|iframe|object|embed|base)\b|@import|url\(|https?:|\ssrc="
        assert not re.findall(outside, text.split("<main>")[0] + text.split("</main>")[1])
        main = tree(text)
        assert {element.tag for element in main.iter()} <= set(ALLOWED.split())
        for element in main.iter():
            assert not [name for name in element.attrib if name.startswith("on") or name == "src"]
            assert element.get("href", "#").startswith("#")
            if "style" in element.attrib:
                assert element.tag in ("g", "path", "use", "text")
                assert re.fullmatch(r"[a-z-]+: [^:]+(; [a-z-]+: [^:]+)*", element.get("style"))
                assert set(re.findall(r"[\w-]+(?=\()|#", element.get("style"))) <= {"var"}
        assert text.startswith('<!doctype html>\n<html lang="en">')


def test_figures_tables_and_headings_can_be_read_without_seeing_them(factors, network):
    for text in (factors[2], network):
        main = tree(text)
        for drawing in main.iter("svg"):
            assert drawing.get("role") == "img"
            assert len(drawing.get("aria-label")) > 20
            labels = [label.text for label in drawing.iter("text") if re.search("[a-z]{2}", label.text)]
            assert len(labels) == 2, "of the axes"
        for heads in main.iter("thead"):
            assert {cell.get("scope") for cell in heads.iter("th")} == {"col"}
        levels = [int(element.tag[1]) for element in main.iter() if re.fullmatch("h[1-6]", element.tag)]
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))


def contrast(one, other):
    """WCAG 2.2 contrast ratio of two colors."""

    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colors_have_contrast_in_light_and_dark(network):
    themes = re.findall(r":root \{(.*?)\}", network, re.S)
    assert len(themes) == 2
    for theme in themes:
        color = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for ground in (color["bg"], color["card"]):
            for text in ("text", "soft", "line", "mark"):
                assert contrast(color[text], ground) >= 4.5, (text, ground)
            for mark in ("s0", "s1", "p0", "p1", "p2", "p3", "p4"):
                assert contrast(color[mark], ground) >= 2.0, (mark, ground)
        assert contrast(color["text"], color["s0"]) >= 4.0, "an interval on its bar"
    assert dict(re.findall(r"--(\w+): (#\w{6})", themes[0])) == COLORS


def test_a_large_catalogue_gives_a_small_page():
    rng = np.random.default_rng(0)
    popularity = 1.0 / np.arange(1, 20_001) ** 0.8
    items = rng.choice(20_000, size=60_000, p=popularity / popularity.sum())
    frame = pd.DataFrame({"user_id": rng.integers(0, 400, 60_000), "item_id": items}).drop_duplicates()
    titles = {item: f"<{item}>" * 30 for item in range(20_000)}
    split = hold_out_users(Interactions.from_frame(frame, titles=titles), n_users=60)
    model = ALS(factors=4, iterations=1).fit(split.train, show_progress=False)
    text = page(model, split, measured(model, split))
    assert len(text.encode()) < 3_000_000
    assert f"the 3,000 most popular of {split.train.shape[1]:,} items" in words(section(text, "map"))
    assert sum(mark.get("data-t") is not None for mark in section(text, "map").iter("use")) == 3000


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PROBE = """<script>
addEventListener("load", function () {
  var inner = document.getElementById("page").contentDocument, mark = inner.querySelector("#map [data-t]");
  var box = mark.getBoundingClientRect();
  var event = { bubbles: true, clientX: box.x, clientY: box.y };
  mark.dispatchEvent(new inner.defaultView.PointerEvent("pointermove", event));
  var tip = inner.getElementById("tip");
  document.body.dataset.found = JSON.stringify({
    width: inner.documentElement.scrollWidth, text: tip.textContent, wanted: mark.getAttribute("data-t"),
    shown: !tip.hidden && tip.getBoundingClientRect().height > 10,
    background: inner.defaultView.getComputedStyle(inner.body).backgroundColor
  });
  console.error("the probe has run");
});
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser to open a report with: none of {', '.join(BROWSERS)} is on the PATH")
    return found


def opened(browser, text, folder, *options):
    """The DOM that a browser makes of a page, and what it writes to its console."""
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    fixed = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    logged = ["--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}"]
    command = [browser, *fixed, *logged, *options, "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    errors = re.findall(r"CONSOLE:?\d*\S* (.*)", done.stderr.decode(errors="replace"))
    return done.stdout.decode(), errors


def test_a_browser_shows_every_part_and_reports_no_error(browser, network, tmp_path):
    dom, errors = opened(browser, network, tmp_path)
    assert errors == []
    for name in ("metrics", "run", "training", "cutoffs", "users", "items", "map", "examples"):
        assert f'<section id="{name}"' in dom
    assert dom.count("<svg") == network.count("<svg")
    assert dom.count("<use") == network.count("<use")
    assert dom.count("<script") == 1
    assert dom.count("<article") == 10
    assert "onload=" not in re.sub(r"&lt;.*?&gt;", "", dom)


@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_fits_the_page_to_its_width_and_answers_the_pointer(browser, network, tmp_path, width):
    style = f"width: {width}px; height: 700px; border: 0"
    frame = f'<iframe id="page" style="{style}" srcdoc="{html.escape(network)}"></iframe>'
    dom, errors = opened(browser, f"<!doctype html><body>{PROBE}{frame}</body>", tmp_path, "--window-size=1500,900")
    assert [error for error in errors if "the probe has run" not in error] == []
    assert len(errors) == 1, "the console is read"
    found = json.loads(html.unescape(re.search('data-found="([^"]*)"', dom).group(1)))
    assert found["width"] <= width
    assert found["shown"]
    assert found["text"] == found["wanted"]
    assert "interactions)" in found["text"]


def test_a_browser_shows_the_page_dark_to_who_prefers_it(browser, network, tmp_path):
    frame = f'<iframe id="page" srcdoc="{html.escape(network)}"></iframe>'
    seen = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        (tmp_path / name).mkdir()
        option = f"--blink-settings=preferredColorScheme={scheme}"
        dom, _ = opened(browser, f"<!doctype html><body>{PROBE}{frame}</body>", tmp_path / name, option)
        seen[name] = json.loads(html.unescape(re.search('data-found="([^"]*)"', dom).group(1)))["background"]
    assert seen == {"dark": "rgb(20, 25, 29)", "light": "rgb(255, 255, 255)"}
