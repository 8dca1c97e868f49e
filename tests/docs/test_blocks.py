"""Every code block of the site is run, or says why not."""

import sys

import pytest

from docs.site.pages import ROOT, places
from recsys.datasets import readers
from recsys.metrics import registry as metrics
from recsys.models import registry as models
from recsys.splits import registry as splits
from tests.docs.blocks import alike, blocks, run

OWN = {
    "README.md": "tests/test_readme.py",
    "CONTRIBUTING.md": "tests/test_own_model.py",
    "docs/configuration.md": "tests/docs/test_configuration.py",
    "docs/new-items.md": "tests/docs/test_new_items.py",
    "docs/rules.md": "tests/docs/test_rules.py",
    "docs/shop.md": "tests/docs/test_shop.py",
}
"""Pages whose blocks need more than a folder, and the tests that run them."""
FITTED = """
import recsys
data = recsys.datasets.synthetic(300, 80, 9000, seed=1).binarized()
split = recsys.splits.hold_out_users(data, n_users=0.2)
model = recsys.MultVAE(hidden=16, latent=4, epochs=3, batch_size=50).fit(split.train, show_progress=False)
"""
SETUP = {"docs/models.md": FITTED}
"""What pages presume that explain parts of what a reader has already."""
PAGES = sorted(file for file in places() if file not in OWN and blocks((ROOT / file).read_text(encoding="utf-8")))


@pytest.fixture
def registered():
    """Take back what a page registers and imports: models, metrics, splitters, readers and modules of its own."""
    modules = set(sys.modules)
    kept = [(module._REGISTERED, dict(module._REGISTERED)) for module in (models, metrics, splits, readers)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] == "my_models":
            del sys.modules[name]


@pytest.mark.filterwarnings("ignore:OpenBLAS is configured")  # implicit says it where nobody limits the threads
@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page, mlflow_root, monkeypatch, capsys, registered):
    monkeypatch.syspath_prepend(str(mlflow_root))
    names = {"__name__": "page"}
    exec(SETUP.get(page, ""), names)
    run(page, (ROOT / page).read_text(encoding="utf-8"), names, capsys)


@pytest.mark.parametrize("page", OWN)
def test_pages_with_tests_of_their_own_have_them(page):
    assert page.split("/")[-1] in (ROOT / OWN[page]).read_text(encoding="utf-8")


PAGE = """
```python
print("ndcg", 0.5)
```

```text
ndcg 0.501
```
"""


def test_what_a_page_shows_is_compared(capsys):
    assert run("page", PAGE, {}, capsys) == 2
    for change in ("0.6", "recall"):
        with pytest.raises(AssertionError, match="line 6 shows"):
            run("page", PAGE.replace("0.501", change).replace("0.601", "0.6"), {}, capsys)


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```\nrecsys train\n```\n", "neither run nor marked"),
        ("```text\nalone\n```\n", "neither run nor marked"),
        ("```sh\nrecsys data no-such-file.csv\n```\n", "status"),
        ("```sh\nfalse\n```\n", "status 1"),
        (
            "<!-- excerpt: the rest of it takes hours -->\n```python\nfrom recsys import no_such_name\n```\n",
            "no_such_name",
        ),
        ("<!-- not run: no -->\n```sh\nfalse\n```\n", "no reason"),
    ],
)
def test_a_block_that_fails_or_is_left_alone_without_a_reason_is_an_error(page, says, capsys):
    with pytest.raises(AssertionError, match=says):
        run("page", page, {}, capsys)


def test_numbers_may_differ_a_little_and_words_may_not():
    assert alike("a 1,000 b\n…\nend 0.25", "a 1,001 b\nmore\nand more\nend 0.252")
    assert not alike("a 1,000", "a 1,100")
    assert not alike("a\n…\nend", "end")
    assert not alike("a b", "a c")
