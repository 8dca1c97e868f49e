"""Search for a model's hyperparameters on the validation part."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from recsys import tracking
from recsys.config import JobConfig, check_config
from recsys.files import write_text
from recsys.jobs.common import split_of
from recsys.jobs.origin import dated
from recsys.metrics import higher_is_better
from recsys.tuning import Tuned, check_extra, is_finished, study_name, tune
from recsys.workspace import Workspace, output_file


def run(
    workspace: Workspace,
    config: JobConfig,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    output: Path | None = None,
) -> Tuned:
    """Search, print the trials, and write the best configuration as TOML.

    Args:
        trials: in place of `tune.trials`.
        minutes: in place of `tune.minutes`.
        output: file for the best configuration, ready for `recsys train`; by default it is only printed.

    Raises:
        ConfigError: the configuration cannot be searched, or `output` cannot be written.
    """
    file = None if output is None else output_file(output, "--output")
    config = with_search(config, trials, minutes)  # raises before any data are read
    searched = config.space
    config.check()
    check_extra()
    tracking.check(workspace)
    data = config.load_data(workspace.folder)
    print(data)
    job = config.repeat(0)
    split = split_of(job, data)
    name = config.model["name"]
    job.check_memory(split.train, searched=True)
    print(f"\n{name}: train {split.train}, validation {split.validation}")
    fingerprint, experiment = data.fingerprint(), config.track.experiment
    resume = tracking.resume_file(workspace, "tune", study_name(job, fingerprint))
    run: AbstractContextManager[tracking.Tracker] = nullcontext(tracking.Tracker())
    if resume.exists() or not is_finished(workspace, job, fingerprint):  # else there is nothing to record
        note = (
            f"Search for settings of {name}, by `{config.train.metric}` on the validation part; its trials are below."
        )
        tags = {"model": name, tracking.NOTE: note}
        title = dated(f"tune {name} on {config.data.name}")
        run = tracking.start_run(workspace, experiment, title, tags, resume=resume)
    else:
        tracking.remove_leftovers(workspace)
    with run as tracker:
        tuned = tune(workspace, job, split, fingerprint=fingerprint)
        tracker.log_frame(tuned.trials, "trials.parquet")
        best = {key: tuned.job.model[key] for key in searched}
        tracker.log_params({"best": best})
        text = as_toml(tuned.job)
        tracker.log_text(text, "best.toml")
        if file is not None:  # before the run ends: the same command after that would begin another
            write_text(file, text, durable=True)
        # Last, since a run that is killed afterwards and resumed logs it again.
        tracker.log_metrics({f"validation/{config.train.metric}": tuned.value})
    ascending = not higher_is_better(config.train.metric)
    ranked = tuned.trials.sort_values("value", ascending=ascending, na_position="last", kind="stable")
    print(f"\n{ranked.head(10).to_string(index=False, float_format='{:.4g}'.format)}")
    print(f"\nbest validation {config.train.metric} {tuned.value:.4f} of {len(tuned.trials)} trials: {best}")
    if output is not None:
        print(f"configuration  {output}")
    print(f"runs           {tracking.describe(workspace)}")
    return tuned


def with_search(config: JobConfig, trials: int | None, minutes: float | None) -> JobConfig:
    """Return the configuration with its search written out: the space that the model declares, and the given budget.

    Raises:
        ConfigError: nothing can be searched, or the budget is out of range.
    """
    given = {name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None}
    search = config.search()
    if given:
        check_config({"tune": {**search.model_dump(exclude={"space"}), **given}}, "the budget")
    return config.model_copy(update={"tune": search.model_copy(update=given)})


def as_toml(job: JobConfig) -> str:
    """Return a configuration as TOML, without its search; needs the extra `tune`."""
    import tomli_w

    values = job.as_dict()
    values.pop("tune", None)
    return tomli_w.dumps(values)
