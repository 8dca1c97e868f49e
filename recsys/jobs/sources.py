"""The data of a job: read once, filtered once, split once, passed on from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from recsys.config import JobConfig
from recsys.files import sha256_of_json
from recsys.interactions import Interactions
from recsys.splits import Split
from recsys.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Sources:
    """What one reading of a job's data gives: training data, histories to recommend from, the split."""

    job: JobConfig
    """One repeat of a configuration, with its seeds written out."""
    raw: Interactions
    """As read, before any filter."""

    @classmethod
    def read(cls, workspace: Workspace, job: JobConfig) -> Sources:
        """Read the data of a job, with the columns that its split needs."""
        return cls(job, job.data.read(job.split.column or (), workspace.folder))

    @cached_property
    def data(self) -> Interactions:
        """What models are trained and tested on."""
        return self.job.data.training_data(self.raw)

    @cached_property
    def histories(self) -> tuple[Interactions, Interactions | None]:
        """What to recommend from, and all that its users have seen where that is more: see `DataConfig.histories`."""
        given = self.job.data.given
        if given.get("min_user") or given.get("min_item"):
            return self.job.data.histories_of(self.raw)
        return self.data, None if given.get("min_rating") is None else self.raw

    @cached_property
    def split(self) -> Split:
        """Training, validation and test part."""
        return self.job.split.split(self.data)

    @cached_property
    def identity(self) -> str:
        """A digest that equal data read in the same way have: what `histories` follow from."""
        return sha256_of_json([self.raw.fingerprint(), self.job.data.model_dump(mode="json")])
