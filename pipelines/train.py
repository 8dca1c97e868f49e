"""Train one model: choose its weights on the validation part, test it once, and register it.

python pipelines/train.py pipelines/configs/multvae-ml1m.toml

Without a file it trains on generated data. `recsys train` does the same, and continues a training that was killed,
repeats it with several seeds, and writes a report.
"""

import sys
from pathlib import Path

from recsys import Evaluation, Validation, Workspace, evaluate, tracking
from recsys.config import JobConfig, load_config
from recsys.evaluation import DEFAULT


def train(workspace: Workspace, config: JobConfig) -> Evaluation:
    # Seeds are written out, so that the saved model tells exactly how it was made.
    job = config.repeat(0)
    data = job.load_data(workspace.folder)
    split = job.split.split(data)
    print(f"{data}\ntrain {split.train}\ntest  {split.test}")

    with tracking.start_run(workspace, job.track.experiment, job.track.run_name or job.model["name"]) as run:
        run.log_params({"config": job.as_dict()})
        run.log_data(data)

        # Validation users choose the best epoch and end the training early. They are not the test users: a model that
        # was chosen on the test part would look better there than it is.
        validation = None
        if split.validation is not None and job.train.validate_epochs:
            validation = Validation(split.validation, job.train.metric, min_relevance=job.evaluate.min_relevance)
        model = job.new_model()
        model.fit(split.train, workspace.progress, validation=validation, on_epoch=run.log_epoch)
        trained_on = split.train
        if job.train.refit:
            # Once more, with the validation entries: the same model, along the same schedules, up to its best epoch.
            trained_on = split.refit()
            model = model.for_refit().fit(trained_on, workspace.progress)

        # What the model was trained on is saved with it: later jobs refuse to test it on entries that it has seen.
        origin = {"refit": job.train.refit, "fingerprint": trained_on.fingerprint()}
        if split.first_test_time is not None:
            origin["until"] = split.first_test_time - 1
        tracking.log_model(
            model,
            name=job.track.register_as,
            examples=split.train,
            about={"config": job.as_dict(), "data": data.summary(), "trained_on": origin},
        )

        # The test part is read once, when nothing is left to choose.
        test = evaluate(
            model,
            split.test,
            job.evaluate.metrics or DEFAULT,
            min_relevance=job.evaluate.min_relevance,
            popularity=split.train,
        )
        run.log_metrics(test.values)
    print(test)
    return test


if __name__ == "__main__":
    file = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "configs" / "nightly.toml"
    train(Workspace(), load_config(file))
