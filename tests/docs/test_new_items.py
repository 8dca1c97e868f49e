"""What a reader may copy from docs/new-items.md runs, and gives what the page says."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd

from recsys.config import check_config

PAGE = (Path(__file__).parents[2] / "docs" / "new-items.md").read_text(encoding="utf-8")


def test_the_lines_run(capsys):
    rng = np.random.default_rng(0)
    kinds = np.array(["shoes", "hats", "bags"])
    catalog = pd.DataFrame({"item_id": [f"sku {n}" for n in range(60)], "title": [f"Thing {n}" for n in range(60)]})
    catalog["category"] = kinds[np.arange(60) % 3]
    catalog["tags"] = [[f"tag {n % 7}", f"tag {n % 5}"] for n in range(60)]
    catalog["price"] = 10.0 + np.arange(60)
    users = np.repeat(np.arange(80), 9)
    bought = (rng.integers(0, 20, len(users)) * 3 + users % 3).astype(int)  # everyone buys of one category
    events = pd.DataFrame({"user_id": [f"customer {u}" for u in users], "item_id": [f"sku {n}" for n in bought]})
    events = events.drop_duplicates()
    arrivals = pd.DataFrame({"item_id": ["new hat", "new bag"], "title": ["A new hat", "A new bag"]})
    arrivals["category"], arrivals["tags"], arrivals["price"] = ["hats", "bags"], [["tag 1"], ["tag 2"]], [12.0, 20.0]
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {"events": events, "catalog": catalog, "arrivals": arrivals}
    exec(compile(snippet, "new-items.md", "exec"), names)
    assert "customer 7" in capsys.readouterr().out
    tomorrow, shop = names["tomorrow"], names["shop"]
    code = {item: tomorrow.items_.codes([item])[0] for item in ("new hat", "new bag")}
    histories = shop.histories(tomorrow.items_)
    for customer, own, other in ((7, "new hat", "new bag"), (8, "new bag", "new hat")):  # 7 % 3: hats, 8 % 3: bags
        row = shop.users.codes([f"customer {customer}"])[0]
        ids, _ = tomorrow.recommend(-1, histories[row], N=len(tomorrow.items_))
        assert ids.tolist().index(code[own]) < ids.tolist().index(code[other])


def test_the_configuration_is_one():
    block, night = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    config = check_config(tomllib.loads(block))
    assert config.model["name"] == "WithFeatures"
    assert check_config(tomllib.loads(block + night)).nightly.items == "arrivals.csv"
