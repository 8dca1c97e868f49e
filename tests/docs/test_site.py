"""The site's parts: every page has a place, every public name a page, and a broken link is found."""

import pytest

from docs.site import pages, reference
from docs.site.docstrings import converted
from docs.site.links import broken


def test_every_page_of_the_repository_is_on_the_site():
    files = [*pages.ROOT.glob("*.md"), *(pages.ROOT / "docs").rglob("*.md"), pages.ROOT / "data" / "README.md"]
    assert sorted(file.relative_to(pages.ROOT).as_posix() for file in files) == sorted(pages.places())
    assert len(set(pages.places().values())) == len(pages.places())


def test_links_lead_to_the_places_of_their_pages():
    placed = {"docs/a.md": "guides/a.md", "README.md": "project/overview.md"}
    text = "[x](../README.md#the-jobs) [y](https://example.org/a.md)\n```\n[z](kept.md)\n```\n"
    moved = pages.moved(text, "docs/a.md", placed)
    assert moved == text.replace("../README.md", "../project/overview.md")
    with pytest.raises(ValueError, match=r"docs/a\.md links b\.md, which is not on the site"):
        pages.moved("[b](b.md)", "docs/a.md", placed)


def test_every_public_name_is_in_the_reference():
    made = reference.pages()
    text = "\n".join(made.values())
    for name in reference.public():
        assert f":: recsys.{name}\n" in text, name
    for name in ("recsys.metrics.register", "recsys.datasets.read", "recsys.splits.by_time"):
        assert f":: {name}\n" in text


def test_a_public_name_without_a_page_is_an_error(monkeypatch):
    monkeypatch.setattr(reference, "GROUPS", {key: group for key, group in reference.GROUPS.items() if key != "data"})
    with pytest.raises(ValueError, match="IdMap"):
        reference.pages()


def test_constants_have_what_the_source_says_of_them():
    from recsys.rules import RULES

    assert reference.said_of("RULES", RULES) == "The fields that are rules, in the order in which they are applied."


def test_docstrings_keep_their_signs_and_equations_are_literal():
    lines = [
        "Minimizes |x|*2 with `a_b` of users_.",
        "",
        "    ‖X‖² + λ * |w|",
        "",
        "Args:",
        "    n_items: how many; `split over",
        "        lines` too.",
    ]
    made = converted(lines)
    assert made[0] == r"Minimizes \|x\|\*2 with ``a_b`` of users\_."
    assert made[2:5] == [".. code-block:: text", "", "    ‖X‖² + λ * |w|"]
    assert made[-1] == "    n_items: how many; ``split over lines`` too."
    assert converted(["Metric.", "", "Range: 0 to 1."])[-1] == "- Range: 0 to 1."


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a id="here" href="b.html#there">b</a><a href="#here">x</a><a href="https://example.org">y</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    assert broken(tmp_path) == []
    (tmp_path / "c.html").write_text(
        '<a href="b.html#no">x</a><img src="no.png"><a href="#nowhere">z</a><a href="http://a.b">t</a>'
    )
    assert broken(tmp_path) == [
        "c.html: b.html#no leads to no heading",
        "c.html: no.png leads to no file",
        "c.html: #nowhere leads to no heading",
        "c.html: http://a.b is no https address",
    ]
