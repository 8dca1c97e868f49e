"""What a model is trained on everything as, once validation has chosen: as it was trained up to what was kept."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from recsys.errors import ConfigError, NotFittedError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import MODELS, Capabilities, MultVAE, Positive, Recommender
from recsys.splits import hold_out_ratings
from recsys.training import Alternation
from tests.contract import CASES, COMPOSED, checkerboard, new_model, ratings

pytestmark = pytest.mark.filterwarnings("ignore:patience = ")  # so few steps are meant
NETWORKS = [name for name in CASES if MODELS[name].capabilities.trains_by_epochs and name not in COMPOSED]
networks = pytest.mark.parametrize("name", NETWORKS)
EPOCHS = 10


@dataclass
class Peak:
    """A validation by which one epoch is the best, however the model scores."""

    best: int
    metric: str = "ndcg@10"
    higher_is_better: bool = True
    asked: int = 0

    def __call__(self, model):
        self.asked += 1
        return {self.metric: -abs(self.asked - self.best)}


def trained(name, best, **changes):
    """A tiny model of ten planned epochs of which one was the best."""
    phases = {"pretrain_epochs": 4} if "pretrain_epochs" in new_model(name).params() else {}
    model = new_model(name, epochs=EPOCHS, patience=6, **{**phases, **changes})
    return model.fit(checkerboard(), show_progress=False, validation=Peak(best))


@networks
@pytest.mark.parametrize(("best", "schedule"), [(3, "constant"), (7, "cosine")])
def test_a_refit_on_the_same_data_is_the_model_that_was_chosen(name, best, schedule):
    first = trained(name, best, schedule=schedule)
    assert first.record_.best_epoch == best
    unfitted = first.for_refit()
    assert unfitted.params() == {**first.params(), "patience": None, "stop_after": best}
    again = unfitted.fit(checkerboard(), show_progress=False)
    assert len(again.record_.epochs) == best
    wanted, got = first._arrays(), again._arrays()
    assert wanted.keys() == got.keys()
    assert all(np.array_equal(wanted[key], got[key]) for key in wanted)


def test_more_entries_do_not_change_the_schedules(monkeypatch):
    rates, weights = [], []
    step = torch.optim.Adam.step

    def recorded(optimizer, *args, **options):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *args, **options)

    class Recorded(MultVAE):
        def _annealing(self, epochs, steps_per_epoch):
            beta = super()._annealing(epochs, steps_per_epoch)

            def recorded(step):
                weights.append(beta(step))
                return weights[-1]

            return recorded

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    split = hold_out_ratings(Interactions(ratings(n_users=60, n_items=30), IdMap(np.arange(60)), IdMap(np.arange(30))))
    model = Recorded(epochs=EPOCHS, hidden=8, latent=4, batch_size=16, schedule="cosine")
    model.fit(split.train, show_progress=False, validation=Peak(3))
    first = list(zip(rates, weights, strict=True))
    assert len(first) == EPOCHS * 4
    rates.clear(), weights.clear()
    model.for_refit().fit(split.refit(), show_progress=False)
    assert list(zip(rates, weights, strict=True)) == first[: 3 * 4]
    assert rates == pytest.approx([0.5e-3 * (1 + np.cos(np.pi * number / 40)) for number in range(12)])
    assert weights == pytest.approx([0.2 * number / 34 for number in range(12)])  # 85 % of 40 steps, by hand


def test_phases_are_those_of_all_planned_epochs():
    phases = []

    class Recorded(MODELS["FeatureConsistentAE"]):
        def _objective(self, network, rows):
            of_model = super()._objective(network, rows)

            def turns(epoch):
                (turn,) = of_model.turns(epoch)
                phases.append(
                    turn.parameters is not None and turn.parameters[0] is next(network.perceptual.parameters())
                )
                return (turn,)

            return Alternation(turns)

    options = CASES["FeatureConsistentAE"] | {"epochs": EPOCHS, "pretraining_share": 0.4, "schedule": "constant"}
    first = Recorded(**options).fit(checkerboard(), show_progress=False, validation=Peak(6))
    assert phases == [True] * 4 + [False] * 6
    phases.clear()
    first.for_refit().fit(checkerboard(), show_progress=False)
    assert phases == [True] * 4 + [False] * 2


def test_what_was_not_measured_is_trained_to_the_end():
    model = new_model("MultVAE", epochs=4).fit(checkerboard(), show_progress=False)
    assert model.for_refit().params() == model.params()


@pytest.mark.parametrize("name", [name for name in CASES if not MODELS[name].capabilities.trains_by_epochs])
def test_models_without_epochs_are_fitted_again_as_they_are(name):
    model = new_model(name).fit(checkerboard(), show_progress=False, validation=Peak(1))
    again = model.for_refit()
    assert type(again) is type(model)
    assert again.params() == model.params()
    with pytest.raises(NotFittedError):
        again.for_refit()


def test_a_training_cannot_stop_after_more_epochs_than_are_planned():
    with pytest.raises(ConfigError, match=r"stop_after must be at most epochs \(4\), got 5"):
        new_model("MultVAE", epochs=4, stop_after=5).fit(checkerboard())


def test_a_model_carries_over_what_it_chose_itself():
    class Scaled(Recommender):
        """Chooses its scale on validation, unless it is told."""

        capabilities = Capabilities(personal=False, encodes=False, compares_items=False, keeps_users=False)
        scale: Positive | None = None

        def _fit(self, matrix, options):
            self.scale_ = self.scale or 1.0
            if self.scale is None and options.validation:
                values = {}
                for self.scale_ in (1.0, 2.0, 3.0):
                    values[self.scale_] = options.validation(self)["ndcg@10"]
                self.scale_ = max(values, key=values.get)

        def _scores(self, histories, userid, items, out):
            return torch.zeros(len(userid), self.n_items_)

        def _arrays(self):
            return {}

        def _restore(self, arrays, state):
            raise NotImplementedError

        def _for_refit(self):
            return super()._for_refit().set_params(scale=self.scale_)

    Scaled = dataclass(kw_only=True, eq=False)(Scaled)
    first = Scaled().fit(checkerboard(), show_progress=False, validation=Peak(2))
    assert first.scale_ == 2.0
    assert first.for_refit().fit(checkerboard(), show_progress=False).scale_ == 2.0
