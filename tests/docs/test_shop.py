"""The worked example of docs/shop.md runs on a shop's files, and its lists keep what it promises."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from recsys import cli

PAGE = (Path(__file__).parents[2] / "docs" / "shop.md").read_text(encoding="utf-8")


def write_shop(folder):
    rng = np.random.default_rng(0)
    kinds = np.array(["shoes", "hats", "bags"])
    n = np.arange(90)
    catalog = pd.DataFrame(
        {"sku": [f"s{i:02}" for i in n], "title": [f"Thing {i}" for i in n], "category": kinds[n % 3]}
    )
    catalog = catalog.assign(brand=[f"brand {i % 5}" for i in n], price=10.0 + n % 40, stock=(n % 4 > 0).astype(int))
    catalog.to_csv(folder / "catalog.csv", index=False)
    users = np.repeat(np.arange(120), 12)
    bought = rng.integers(0, 30, len(users)) * 3 + users % 3  # everyone buys of one category
    days = pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 200, len(users)), unit="D")
    events = pd.DataFrame(
        {"customer": [f"c{u:03}" for u in users], "sku": catalog["sku"].to_numpy()[bought], "at": days}
    )
    events.to_csv(folder / "events.csv", index=False)
    new = pd.DataFrame({"sku": ["n1", "n2", "n3"], "title": ["New shoes", "New hat", "New bag"], "category": kinds})
    new.assign(brand="brand 9", price=20.0, stock=1).to_csv(folder / "arrivals.csv", index=False)


def test_the_commands_run(tmp_path, monkeypatch):
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    (config,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    Path("shop.toml").write_text(config)
    tables = [pd.read_csv(name).rename(columns={"sku": "item_id"}) for name in ("catalog.csv", "arrivals.csv")]
    pd.concat(tables).to_csv("stock.csv", index=False)
    Path("rules.toml").write_text('allow = "stock > 0"\nat_most = {brand = 2}\n')
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    for command in commands.splitlines():
        assert cli.main([*command.split()[1:], "--quiet"]) == 0
    lists = pd.read_parquet("data/scored/tonight")
    assert lists["user_id"].nunique() == 120
    assert lists["item_id"].isin(["n1", "n2", "n3"]).any()


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    write_shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(compile(snippet, "shop.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "ndcg@10" in printed
    assert "contribution" in printed
    lists, stock = names["lists"], names["stock"].set_index("item_id")
    assert lists.groupby("user_id").size().eq(5).all()
    assert (stock.loc[lists["item_id"], "stock"] > 0).all()
    brands = stock.loc[lists["item_id"], "brand"].to_numpy()
    assert lists.assign(brand=brands).groupby(["user_id", "brand"]).size().max() <= 2
    history = set(names["reasons"]["history_item_id"])
    own = names["shop"].to_frame()
    assert history <= set(own.loc[own["user_id"] == lists["user_id"].iloc[0], "item_id"])
    # The new items stand in the lists of those who buy their category, where they stand at all.
    new = lists[lists["item_id"].isin(["n1", "n2", "n3"])]
    category = {"n1": 0, "n2": 1, "n3": 2}
    assert len(new)
    assert all(int(user[1:]) % 3 == category[item] for user, item in zip(new["user_id"], new["item_id"], strict=True))
    assert (tmp_path / "tonight").is_dir()
