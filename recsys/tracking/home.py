"""The store of a workspace: a SQLite database and a folder of artifacts, made whole and moved along with the project.

The database is built in a folder beside its place and renamed, so that a kill or a full disk leaves none rather than
half of one. MLflow records artifacts by absolute addresses; when the project has been moved or copied they are
rewritten to where it lies now, or, where nothing may be written, read as if they were.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from alembic.util import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from recsys.errors import TrackingError, TrackingUnavailable, absent
from recsys.files import locked, remove_lock, working_folder
from recsys.outputs import recover
from recsys.tracking._mlflow import Base, MlflowException, SqlAlchemyStore, database, mlflow
from recsys.workspace import Workspace

DATABASE: Final = "mlflow.db"
ARTIFACTS: Final = "artifacts"
_MARK = "/mlruns/artifacts"
"""How the address of a workspace's artifacts ends, wherever it lies."""
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
"""Columns of MLflow's tables that hold absolute addresses."""


def uri(workspace: Workspace) -> str:
    """Return the URI of a workspace's own database.

    Raises:
        TrackingError: no URI can hold the folder's name.
    """
    path = (workspace.mlruns / DATABASE).as_posix()
    # SQLAlchemy reads %41 as A and MLflow does not, so that one of them would go to another folder; a ? ends the path.
    odd = re.search(r"\?|%[0-9a-fA-F]{2}|[\ud800-\udfff]", path)
    if odd:
        raise TrackingError(
            f"a database cannot lie in {str(workspace.mlruns)!r}: its address cannot hold {odd.group()!r}; rename the "
            "folder, name another with --root, or set MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{path}"


def prepare(workspace: Workspace, *, create: bool) -> str:
    """See that the workspace's database is there, whole, of MLflow's present schema, and knows where it lies.

    Args:
        create: make it if it is not there. Where False, nothing is written unless the project was moved.

    Returns:
        What the user should know: that a half-made database was set aside; empty otherwise.

    Raises:
        TrackingError: there is none and `create` is False, it is damaged, or a newer MLflow wrote it.
    """
    file = workspace.mlruns / DATABASE
    try:
        if _is_ready(file):
            recover(_building(file))
            remove_lock(_lock(workspace))  # of a process that was killed when it had made the database
            return ""
        if not create and not _holds_runs(file):
            raise absent(
                TrackingError(
                    f"there is no MLflow store under {workspace.mlruns}; --root names the folder that holds mlruns"
                )
            )
        with locked(_lock(workspace)):
            return _mend(file)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if "locked" in str(error):
            raise TrackingUnavailable(f"{file} is locked by another process: {error}") from None
        raise TrackingError(_damaged(file, str(error))) from None
    except OSError as error:
        # A project that may only be read, and was moved: its addresses are read as if they were rewritten.
        if create or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or not file.is_file():
            raise TrackingError(f"cannot make or open the store {file}: {error.strerror or error}") from None
        return ""


def check(workspace: Workspace) -> None:
    """Refuse, before any work, a store that cannot be used; one that is not there yet can.

    Raises:
        TrackingError: no address can hold the folder's name, or the database is damaged.
    """
    uri(workspace)
    file = workspace.mlruns / DATABASE
    try:
        _holds_runs(file)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise TrackingError(_damaged(file, str(error))) from None


def present_address(address: str) -> str:
    """Return the address of an artifact of the configured store, which may have been recorded at an earlier place."""
    old, mark, rest = address.rpartition(f"{_MARK}/")
    store = mlflow.get_tracking_uri()
    if not mark or not store.startswith("sqlite:") or urlsplit(address).scheme not in ("", "file"):
        return address
    artifacts = Path(make_url(store).database or "").absolute().parent / ARTIFACTS
    if artifacts.as_uri() == f"{old}{_MARK}":
        return address
    here = artifacts / url2pathname(rest)
    return here.as_uri() if here.exists() else address


def local_path(location: str) -> Path | None:
    """Return the path of an artifact location on this machine; None for one elsewhere."""
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(os.path.normpath(url2pathname(parts.path)))
    return Path(os.path.normpath(location)) if len(parts.scheme) < 2 else None  # one letter is a drive of Windows


def remove_half_uploads(artifacts: str) -> None:
    """Remove what MLflow has left of files that a killed process was copying into a local folder of artifacts."""
    folder = local_path(present_address(artifacts))
    if folder is not None:
        for file in folder.rglob(".artifact.uploading.*"):
            with suppress(OSError):
                file.unlink()


def _lock(workspace: Workspace) -> Path:
    return workspace.mlruns / ".lock"


def _is_ready(file: Path) -> bool:
    """Return whether the database can be used as it is."""
    if not file.is_file():
        return False
    with closing(_read(file)) as connection:
        return _revision(connection) == database._get_latest_schema_revision() and not _elsewhere(connection, file)


def _mend(file: Path) -> str:
    """Build, upgrade or move the database, whichever it needs; its lock must be held. Return what `_build` does."""
    if not _holds_runs(file):
        return _build(file)
    with closing(_read(file)) as connection:
        old = _revision(connection) != database._get_latest_schema_revision()
    if old:
        _upgrade(file)
    with closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as connection:
        places = _elsewhere(connection, file)
        if places:
            _move(connection, places, (file.parent / ARTIFACTS).as_uri())
    return ""


def _holds_runs(file: Path) -> bool:
    """Return whether there is a database with anything in it; what a kill has left of a first one holds nothing.

    Raises:
        TrackingError: it is damaged, no database of MLflow, or empty although there are artifacts.
    """
    if not file.exists():
        return False
    with closing(_read(file)) as connection:
        tables = _tables(connection)
        whole = {"experiments", "runs", "alembic_version"} <= tables and _revision(connection) is not None
        if whole and not any(name.startswith("_alembic_tmp_") for name in tables):
            return True
        filled = sorted(
            name
            for name in tables - {"alembic_version", "experiments"}
            if connection.execute(f'SELECT 1 FROM "{name}" LIMIT 1').fetchone()
        )
    artifacts = file.parent / ARTIFACTS
    if filled or (artifacts.is_dir() and any(artifacts.iterdir())):
        what = f"it lacks tables of MLflow and has {filled[0]}" if filled else f"it is empty, and {artifacts} is not"
        raise TrackingError(_damaged(file, what))
    return False


def _building(file: Path) -> Path:
    """Return what the folder is named after in which a database is built, and of which a kill may leave something."""
    return file.with_name("building")


def _build(file: Path) -> str:
    """Make a new database in a folder beside, and rename it; what was half made is set aside, and a text says so."""
    note = ""
    try:
        with working_folder(_building(file)) as folder:
            new = folder / DATABASE
            store = SqlAlchemyStore(f"sqlite:///{new.as_posix()}", (file.parent / ARTIFACTS).as_uri())
            store.engine.dispose()
            SqlAlchemyStore._engine_map.pop(store.db_uri, None)
            if file.exists():
                aside = _free_name(file)
                os.replace(file, aside)
                note = f"{file} was half made and held no run; a new one took its place, and it was put at {aside}"
            os.replace(new, file)
    except (SQLAlchemyError, MlflowException) as error:
        raise TrackingError(f"cannot make the store {file}: {first_line(error)}") from error
    return note


def _upgrade(file: Path) -> None:
    """Bring a database of an older MLflow to the present schema: a copy beside, which takes its place when it is whole.

    Raises:
        TrackingError: a newer MLflow wrote it.
    """
    try:
        with (
            working_folder(_building(file)) as folder,
            closing(sqlite3.connect(file, timeout=20, isolation_level=None)) as guard,
        ):
            new = folder / DATABASE
            guard.execute("BEGIN IMMEDIATE")  # nobody else writes meanwhile; a backup through it would wait for itself
            with closing(_read(file)) as source, closing(sqlite3.connect(new)) as copy:
                source.backup(copy)
            engine = database.create_sqlalchemy_engine(f"sqlite:///{new.as_posix()}")
            try:
                database._initialize_tables(engine)
            finally:
                engine.dispose()
            os.replace(new, file)
    except (CommandError, SQLAlchemyError, MlflowException) as error:
        raise TrackingError(
            f"{file} has a schema that MLflow {mlflow.__version__} does not know; a newer MLflow may have written it: "
            f"install that, or name another place with --root ({first_line(error)})"
        ) from error


def _elsewhere(connection: sqlite3.Connection, file: Path) -> list[str]:
    """Return the addresses of artifacts that lie beside this file now, and were recorded when they lay elsewhere."""
    here = (file.parent / ARTIFACTS).as_uri()
    if file.parent.name != "mlruns":
        return []
    rows = connection.execute(
        "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?", (f"file:%{_MARK}",)
    )
    return sorted(place for (place,) in rows if place != here and _are_here(connection, place, file.parent / ARTIFACTS))


def _are_here(connection: sqlite3.Connection, place: str, artifacts: Path) -> bool:
    """Return whether the artifacts recorded at `place` are in the folder `artifacts`, or at least not at `place`."""
    folder = local_path(place)
    if folder is None or not folder.is_dir():
        return True
    runs = connection.execute("SELECT run_uuid FROM runs WHERE substr(artifact_uri, 1, ?) = ?", (len(place), place))
    return any((artifacts / run).exists() for (run,) in runs)


def _move(connection: sqlite3.Connection, places: list[str], here: str) -> None:
    """Rewrite the addresses below `places`, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    for table, column in _ADDRESSES:
        for place in places:
            length = len(place)
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (here, length + 1, place, length + 1, f"{place}/"),
            )
    connection.execute("COMMIT")


def _read(file: Path) -> sqlite3.Connection:
    """Open a database for reading; a TrackingError where it is none, or damaged."""
    address = file.absolute().as_uri()
    for mode in ("ro", "rw"):  # what a kill left unfinished is undone before reading, which writes
        with suppress(sqlite3.OperationalError):
            connection = sqlite3.connect(f"{address}?mode={mode}", uri=True, timeout=20)
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                return connection
            except sqlite3.OperationalError:
                connection.close()
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                connection.close()
                raise TrackingError(_damaged(file, str(error))) from None
    if not os.access(file, os.R_OK):
        raise PermissionError(13, os.strerror(13), str(file))
    raise TrackingError(_damaged(file, "it cannot be opened"))


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _revision(connection: sqlite3.Connection) -> str | None:
    """Return the revision of MLflow's schema; None if it has none, or lacks a table that MLflow would add in place."""
    tables = _tables(connection)
    if "alembic_version" not in tables:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else f"{row[0]}{'' if set(Base.metadata.tables) <= tables else ' incomplete'}"


def first_line(error: BaseException) -> str:
    """Return what an error of a database says, without the statement that led to it."""
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]


def _damaged(file: Path, what: str) -> str:
    return (
        f"{file} is damaged: {what}; restore it from a backup, or move it away to begin with an empty store (the "
        "artifacts beside it stay)"
    )


def _free_name(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.name}.half-made-{number}")).exists():
        number += 1
    return aside
