"""Optional dependencies: what few users need is installed on request."""

from __future__ import annotations

from importlib.util import find_spec

from recsys.errors import ConfigError


def check_installed(purpose: str, *distributions: str, extra: str | None = None) -> None:
    """Check that distributions are installed, without importing them.

    Args:
        purpose: what needs them, such as `tuning`.
        distributions: names as pip knows them; each is imported by the same name with underscores.
        extra: the extra of this package that installs them; by default they are installed by name.

    Raises:
        ConfigError: one is missing; the message says how to install it.
    """
    missing = [name for name in distributions if find_spec(name.replace("-", "_")) is None]
    if missing:
        wanted = f"'recsys[{extra}]'" if extra else " ".join(missing)
        raise ConfigError(f"{purpose} needs {' and '.join(missing)}: pip install {wanted}")
