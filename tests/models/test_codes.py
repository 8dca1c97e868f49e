"""Codes where models differ from the contract: biases, units, directions, priors that read the history."""

import numpy as np
import pytest

from recsys.errors import UnsupportedError
from tests.contract import fitted, ratings

TASTES = ratings(n_users=24, n_items=15, density=0.3)


def test_scores_of_codes_are_on_the_scale_of_the_ratings():
    model = fitted("UAutoRec", TASTES * 20.0, unobserved_weight=0.0)
    _, scores = model.recommend(np.full(24, -1), TASTES * 20.0, N=15, filter_already_liked_items=False)
    found = model.decode(model.encode(TASTES * 20.0))
    np.testing.assert_allclose(-np.sort(-found, axis=1), scores, rtol=1e-4, atol=1e-4)
    assert np.ptp(found) > 5.0


def test_a_user_bias_is_no_part_of_a_code():
    model = fitted("UAutoRec", TASTES, unobserved_weight=0.0, biases=5.0)
    with pytest.raises(UnsupportedError, match="UAutoRec with biases has no scores of a code alone"):
        model.decode(model.encode(TASTES))


def test_macrid_scores_directions():
    model = fitted("MacridVAE", TASTES)
    codes = model.encode(TASTES)
    np.testing.assert_allclose(model.decode(3.0 * codes), model.decode(codes), rtol=1e-5, atol=1e-5)


def test_a_composite_prior_is_refused_and_its_posterior_is_not():
    model = fitted("VAE", TASTES, prior="composite")
    assert model.draw_posterior(TASTES, 0)[0].shape == (24, 4)
    with pytest.raises(UnsupportedError, match="VAE with its composite prior has a prior of codes that reads the us"):
        model.draw_prior(3)
    assert fitted("VAE", TASTES, prior="standard").draw_prior(3, 0).shape == (3, 4)
