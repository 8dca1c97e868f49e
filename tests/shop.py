"""A shop's two files, with columns called as shops call them."""

import numpy as np
import pandas as pd

from recsys import datasets


def write_shop(folder, users=300, items=120, rows=9_000, seed=3):
    """Write `events.csv` (semicolons, text ids with leading zeros, returns, ISO times) and `items.csv`; return both."""
    made = datasets.synthetic(users, items, rows, seed=seed)
    frame, rng = made.to_frame(), np.random.default_rng(0)
    events = pd.DataFrame(
        {
            "Client No.": frame.user_id.map("{:06d}".format),
            "produkt_id": frame.item_id + 100_000,
            "what": rng.choice(["view", "add_to_cart", "purchase", "return"], rows, p=[0.6, 0.2, 0.17, 0.03]),
            "happened": pd.to_datetime(frame.timestamp, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )
    events = pd.concat([events, events.head(50)]).sample(frac=1, random_state=1)
    letters = [title.rstrip(")").split()[-2][0] for title in made.titles]
    catalog = pd.DataFrame(
        {
            "artikelnummer": made.items.ids() + 100_000,
            "Bezeichnung": made.titles,
            "category": letters,
            "price": rng.lognormal(3, 1, items).round(2),
        }
    )
    paths = folder / "events.csv", folder / "items.csv"
    events.to_csv(paths[0], index=False, sep=";")
    catalog.to_csv(paths[1], index=False)
    return paths
