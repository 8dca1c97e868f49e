"""What a model can do: one declaration per class, which everything else reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a class of models can do: what is declared must work, what is not must be refused."""

    rates: bool = False
    """`predict` and `predict_pairs` give ratings."""
    ranks_with: str | None = None
    """Hyperparameter that must be above 0 for lists worth reading; the scores are then no ratings. None: it ranks."""
    personal: bool = True
    """Lists differ from user to user."""
    explains: bool = True
    """`explain` says which items of the history speak for an item."""
    encodes: bool = True
    """`encode` gives embeddings of users from their histories."""
    decodes: bool = False
    """`decode` gives the scores of a code alone, those of the history that it encodes."""
    generates: bool = False
    """Codes have a posterior q(z|x), and histories a likelihood p(x|z): a history can be completed or resampled."""
    has_prior: bool = False
    """Codes have a prior p(z) that reads no history: users can be drawn, and histories have a likelihood p(x)."""
    compares_items: bool = True
    """`similar_items` works."""
    keeps_users: bool = True
    """It keeps vectors of its training users: `similar_users` and `recommend_users` need no histories."""
    scores_known_users: bool = False
    """Training users are scored from what was learned of them: `recommend` and `recommend_users` need no histories."""
    new_users: Literal["history", "fold-in"] = "history"
    """How a user whom training never saw is scored: their history is an input, or their vector is solved for. So is
    that of a training user whose history is no longer that of training."""
    trains_by_epochs: bool = False
    """Each epoch can be measured, and a killed training continues from a checkpoint."""
    in_ranks: bool = False
    """Several processes can train it together (`recsys.ranks`): its loss is a sum over rows, and what is a statistic of
    the batch is summed over the processes (`ranks.total`)."""
    weighs_users: bool = False
    """`fit(user_weights=...)`: how much each training row counts."""
    starts_from: bool = False
    """`fit(start=model)`: training begins with the weights of an earlier model; closed forms work in the rows that
    differ from those of an earlier one (`keep_rows`)."""
    popularity_fallback: bool = False
    """An empty history would score every item 0, so the most popular items are recommended in their place."""
    no_graph: str = ""
    """Why its scores cannot be exported as an ONNX graph; empty where they can."""

    @property
    def reads_counts(self) -> bool:
        """The lengths of the training histories are read after the fit, so that bundles keep them."""
        return self.scores_known_users or self.generates


REFUSALS: Final = {
    "explains": "gives no reasons: its lists do not depend on the history; use EASE, ALS or MultVAE",
    "encodes": "has no embeddings of users; use a model that has, such as MultVAE, DenoisingAE, UAE or ALS",
    "decodes": "has no scores of a code alone; use MultVAE, MultDAE, UAutoRec or ALS",
    "generates": "has no posterior of codes with a likelihood of histories; use MultVAE, VAE, HVamp or AAE",
    "compares_items": "has no similarity of items; use EASE or ItemKNN",
    "keeps_users": "keeps no vectors of its training users; pass their histories as user_items=",
    "starts_from": "learns anew in every fit; leave out start, or use an autoencoder or EASE",
    "weighs_users": "cannot weigh its training users (user_weights); use EASE, or an autoencoder of users' rows",
}
"""What is said where a capability is asked for that the class does not declare, after the name of the class."""

NO_GRAPH_OF_EQUATIONS: Final = "it finds a user's vector by solving equations, for which ONNX has no operator"
"""`no_graph` of the models that fold users in."""
