"""What a model reads and what it masks may differ: `recommend(seen=)`."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.errors import DataError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import ALS, EASE

RNG = np.random.default_rng(0)
READ = sp.csr_matrix((RNG.random((20, 12)) < 0.3).astype(np.float32))
SEEN = sp.csr_matrix(((READ.toarray() + (RNG.random((20, 12)) < 0.3)) > 0).astype(np.float32))
MODELS = [EASE(regularization=2.0), ALS(factors=4, iterations=2)]
for model in MODELS:
    model.fit(READ, show_progress=False)
USERS = np.arange(20)
assert SEEN.nnz > READ.nnz + 20


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.coo_matrix, sp.csr_array])
def test_seen_is_masked_and_the_history_is_read(model, kind):
    ids, scores = model.recommend(USERS, READ, N=12, seen=kind(SEEN))
    every_id, every_score = model.recommend(USERS, READ, N=12, filter_already_liked_items=False)
    for row in USERS:
        kept = ~np.isin(every_id[row], SEEN[row].indices)
        assert 0 < kept.sum() <= 12 - READ[row].nnz
        assert ids[row].tolist() == every_id[row][kept].tolist() + [-1] * (12 - kept.sum())
        np.testing.assert_allclose(scores[row][: kept.sum()], every_score[row][kept], rtol=1e-6)


def test_seen_stands_in_place_of_the_history_and_does_nothing_unfiltered():
    model = MODELS[0]
    nothing = sp.csr_matrix(READ.shape, dtype=np.float32)
    wanted = model.recommend(USERS, READ, filter_already_liked_items=False)
    for options in ({"seen": nothing}, {"seen": SEEN, "filter_already_liked_items": False}):
        got = model.recommend(USERS, READ, **options)
        assert (got[0] == wanted[0]).all()
        assert (got[1] == wanted[1]).all()


def test_a_trained_user_needs_no_history_beside_what_was_seen():
    ids, _ = MODELS[1].recommend(3, seen=SEEN[3], N=12)
    assert not set(ids) & set(SEEN[3].indices)
    with pytest.raises(DataError, match="needs the users' histories"):
        MODELS[0].recommend(3, seen=SEEN[3])


def test_seen_in_another_shape_is_refused():
    with pytest.raises(DataError, match=r"seen must have one row per userid \(2\), got 3 rows"):
        MODELS[0].recommend([0, 1], READ[:2], seen=SEEN[:3])
    with pytest.raises(DataError, match="one column per training item"):
        MODELS[0].recommend([0, 1], READ[:2], seen=SEEN[:2, :5])


def test_interactions_may_be_given_as_seen():
    users, items = [f"u{row}" for row in range(20)], [f"i{column}" for column in range(12)]
    read, seen = (Interactions(matrix, IdMap(users), IdMap(items)) for matrix in (READ, SEEN))
    model = EASE(regularization=2.0).fit(read, show_progress=False)
    got, wanted = model.recommend(USERS, read, seen=seen), MODELS[0].recommend(USERS, READ, seen=SEEN)
    assert (got[0] == wanted[0]).all()
