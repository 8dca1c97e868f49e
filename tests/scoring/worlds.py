"""What the tests of engines share: tables, and lists beside lists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from recsys.interactions import Interactions

LIST_COLUMNS = ["user_id", "item_id", "score", "rank"]


def long_rows(users=300, items=1_300, rows=6_000, *, seed=0, text=False):
    """Distinct long rows with ratings 1 to 5: every user and every item has one, and few items have many."""
    rng = np.random.default_rng(seed)
    popular = np.minimum((rng.pareto(1.0, rows) * 20).astype(int), items - 1)
    pairs = [np.stack([rng.integers(0, users, rows), popular], 1)]
    pairs.append(np.stack([rng.integers(0, users, items), np.arange(items)], 1))
    pairs.append(np.stack([np.arange(users), np.arange(users) % items], 1))
    frame = pd.DataFrame(np.unique(np.concatenate(pairs), axis=0), columns=["user_id", "item_id"])
    frame["rating"] = rng.integers(1, 6, len(frame)).astype(float)
    return as_text(frame) if text else frame


def as_text(frame):
    """The same rows with ids such as `u7` and `i12`."""
    return frame.assign(user_id="u" + frame["user_id"].astype(str), item_id="i" + frame["item_id"].astype(str))


def sorted_batches(frame, size):
    """Long rows sorted by user, as an engine gives them: Arrow batches of `size` rows, whatever user they cut."""
    ordered = frame.sort_values("user_id", kind="stable")
    return pa.Table.from_pandas(ordered, preserve_index=False).to_batches(max_chunksize=size)


def frame_of(batches):
    """Batches of lists as one frame."""
    return pa.Table.from_batches(list(batches)).to_pandas()


def assert_same_lists(found, wanted):
    """The same lists, bit for bit, whatever the order of users."""
    assert found.columns.tolist() == LIST_COLUMNS
    assert found["score"].dtype == np.float32
    assert found["rank"].dtype == np.int32
    one, other = (frame.sort_values(["user_id", "rank"]).reset_index(drop=True) for frame in (found, wanted))
    assert len(one) == len(other)
    for column in ("user_id", "item_id", "rank"):
        assert one[column].tolist() == other[column].tolist()
    np.testing.assert_array_equal(one["score"].to_numpy().view(np.uint32), other["score"].to_numpy().view(np.uint32))


def fit(model, frame):
    """A model fitted to long rows."""
    return model.fit(Interactions.from_frame(frame), show_progress=False)
