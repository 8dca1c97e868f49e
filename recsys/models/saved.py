"""Where a saved model lies in a folder: there, or among the files of a logged model."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from recsys.errors import BundleError, absent
from recsys.workspace import as_path

BUNDLE: Final = "bundle"
"""Name of the bundle among the artifacts of a logged model."""
_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".pt", ".pth")


def find_bundle(folder: str | Path, named: str = "") -> Path:
    """Return the folder of the bundle that lies in `folder`, or in the logged model there.

    Args:
        named: what messages call the folder, such as the address that led there.

    Raises:
        BundleError: the folder holds no bundle, or a pickle beside it.
    """
    place = as_path(folder)
    named = named or str(folder)
    for candidate in (place, place / "artifacts" / BUNDLE):
        if (candidate / "config.json").is_file():
            if candidate != place:
                refuse_pickles(place)
            return candidate
    gone = "there is no such folder" if str(place) == named else f"{place} does not exist"
    raise absent(BundleError(f"{named} holds no saved model" + ("" if place.exists() else f": {gone}")))


def refuse_pickles(folder: Path) -> None:
    """Raise BundleError if a logged model's folder holds a pickle: none is ever logged."""
    pickles = [file.name for file in sorted(folder.iterdir()) if file.suffix in _PICKLES]
    if pickles:
        raise BundleError(
            f"{folder} holds {', '.join(pickles)}: models are logged without pickles, so it was added later; "
            "neither it nor the model was read"
        )
