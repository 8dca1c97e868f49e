"""The versions of a registered model, each loaded once."""

from __future__ import annotations

from collections.abc import Sequence

from recsys import tracking
from recsys.errors import TrackingError
from recsys.jobs.common import load_model
from recsys.models import Recommender
from recsys.workspace import Workspace


class Versions:
    """The versions of a registered model as a job finds them; each is loaded once."""

    def __init__(self, workspace: Workspace, name: str, alias: str, found: Sequence[tracking.RegisteredModel]) -> None:
        """`found` are the model's versions, newest first; none where no such model is registered yet."""
        self.workspace, self.name, self.alias = workspace, name, alias
        self.numbers = [version.version for version in found]
        """Newest first."""
        self.holder = next((version.version for version in found if alias in version.aliases), None)
        """The version that holds the alias; None where none does."""
        self._loaded: dict[int, Recommender] = {}

    @property
    def newest(self) -> int:
        """The newest version.

        Raises:
            TrackingError: there is none.
        """
        if not self.numbers:
            raise TrackingError(f"model {self.name!r} has no versions")
        return self.numbers[0]

    def uri(self, version: int) -> str:
        """Return the address of a version, which it keeps when the alias moves on."""
        return f"models:/{self.name}/{version}"

    def load(self, version: int) -> Recommender:
        """Return the model of a version.

        Raises:
            TrackingError: there is no such version.
        """
        if version not in self._loaded:
            self._loaded[version] = load_model(self.workspace, self.uri(version))[0]
        return self._loaded[version]
