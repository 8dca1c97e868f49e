"""The library in one sitting, without any file: data, split, models, test and recommendations.

python pipelines/demo.py

`recsys demo` compares more models, and registers, promotes and scores with MLflow.
"""

import recsys
from recsys.evaluation import table


def demo(ratings: recsys.Interactions, epochs: int = 30) -> dict[str, recsys.Evaluation]:
    # What users rated 3 or more counts as liked; the value itself is not used. A table of your own becomes
    # interactions by recsys.Interactions.from_frame: columns user_id, item_id and perhaps rating and timestamp.
    liked = ratings.filter(min_rating=3, min_user=5).binarized()

    # A tenth of the users is held out for the test and another for validation. Of each of them a model sees a part of
    # the history and must find the rest, as for users who arrive after the training.
    split = recsys.splits.hold_out_users(liked, n_users=0.1)
    validation = recsys.Validation(split.validation, "ndcg@10")
    print(f"train {split.train}\ntest  {split.test}")

    # Popularity is the bar that every model must clear. EASE has a closed form; MultVAE trains by epochs and keeps
    # the one that is best on the validation users.
    models = {
        "Popularity": recsys.Popularity(),
        "EASE": recsys.EASE(regularization=200.0),
        "MultVAE": recsys.MultVAE(hidden=300, latent=100, epochs=epochs, batch_size=200, patience=8),
    }
    results = {}
    for name, model in models.items():
        model.fit(split.train, validation=validation)
        results[name] = recsys.evaluate(
            model, split.test, ["ndcg@10", "recall@10", "coverage@10"], popularity=split.train
        )
    print(f"\n{table(results, sort_by='ndcg@10').to_string()}\n")
    print("\n".join(recsys.compare(results, "ndcg@10").verdicts()))

    # Everybody with a history gets recommendations, held out or not. What they rated low is not recommended either.
    users = liked.users.ids([0, 1])
    frame = recsys.recommend_frame(models["EASE"], liked, users, n=5, seen=ratings)
    frame["title"] = ratings.titles[ratings.items.codes(frame["item_id"])]
    print(f"\n{frame.to_string(index=False)}")
    return results


if __name__ == "__main__":
    demo(recsys.datasets.synthetic())
