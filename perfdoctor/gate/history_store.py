"""Where a series of results is kept: an SQLite file, or any database that SQLAlchemy knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from perfdoctor.errors import PerfdoctorError, first_line
from perfdoctor.gate.baseline_file import Session

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table

FILE_NAME = "perfdoctor_history.sqlite"
_TABLE = "perfdoctor_results"
_VERSION = 1
#: Other checks may write at the same time.
_WAIT_S = 30


def url_of(place: str) -> str:
    """The URL of a folder, a file, or a URL."""
    if "://" in place:
        # SQLAlchemy's name for the driver that the extra installs
        return place.replace("postgresql://", "postgresql+psycopg://", 1)
    path = Path(place)
    if path.is_dir() or place.endswith("/"):
        path = path / FILE_NAME
    return f"sqlite:///{path.absolute()}"


class Store:
    """A table of sessions. `series` names what belongs together: one workload on one machine."""

    def __init__(self, place: str) -> None:
        _make_folder(place)
        self._engine = _engine(url_of(place), place)
        self._table = _table()
        self._place = place
        with self._told():
            self._table.metadata.create_all(self._engine)

    def add(self, series: str, measured: str, session: Session) -> None:
        """One more, at the end.

        Raises:
            PerfdoctorError: the database does not take it.
        """
        row = {
            "version": _VERSION,
            "series": series,
            "measured": measured,
            "created_at": session.created_at,
            "commit_hash": session.commit,
            "session": msgspec.json.encode(session).decode(),
        }
        with self._told(), self._engine.begin() as connection:
            connection.execute(self._table.insert(), row)

    def sessions(self, series: str, most: int) -> list[Session]:
        """The newest, in the order in which they were added.

        Raises:
            PerfdoctorError: the database cannot be read, or holds results of a newer version.
        """
        from sqlalchemy import select

        table = self._table.c
        wanted = (
            select(table.session, table.version)
            .where(table.series == series)
            .order_by(table.id.desc())
            .limit(most)
        )
        with self._told(), self._engine.connect() as connection:
            rows = [tuple(row) for row in connection.execute(wanted)]
        return [self._session(*row) for row in reversed(rows)]

    def close(self) -> None:
        """Ends all connections."""
        self._engine.dispose()

    def _session(self, text: str, version: int) -> Session:
        if version > _VERSION:
            raise PerfdoctorError(
                f"{self._place} holds results of version {version}, this perfdoctor reads up to "
                f"{_VERSION}; upgrade perfdoctor",
                slug="history-too-new",
            )
        try:
            return msgspec.json.decode(text.encode(), type=Session)
        except msgspec.DecodeError as error:
            raise PerfdoctorError(
                f"{self._place} holds a result that cannot be read: {error}", slug="history-invalid"
            ) from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a database says, as one line; its URL may hold a password and is not shown."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            raise PerfdoctorError(
                f"cannot use the history {_without_password(self._place)}: {first_line(cause)}",
                slug="history-unusable",
            ) from None


def _make_folder(place: str) -> None:
    """For a folder that was named with a slash at its end and is not there yet.

    Raises:
        PerfdoctorError: it cannot be made.
    """
    if "://" in place or not place.endswith("/"):
        return
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PerfdoctorError(
            f"cannot make {place}: {error.strerror}; choose another --history",
            slug="history-unusable",
        ) from None


def _engine(url: str, place: str) -> Engine:
    try:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError:
        raise PerfdoctorError(
            "--history needs SQLAlchemy: pip install 'perfdoctor[history]'", slug="extra-missing"
        ) from None
    options: dict[str, Any] = {"timeout": _WAIT_S} if url.startswith("sqlite") else {}
    try:
        return create_engine(url, connect_args=options)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise PerfdoctorError(
            f"cannot use the history {_without_password(place)}: {first_line(error)}",
            slug="history-unusable",
        ) from None


def _table() -> Table:
    from sqlalchemy import Column, Integer, MetaData, String, Table, Text

    return Table(
        _TABLE,
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("version", Integer, nullable=False),
        Column("series", String(64), nullable=False, index=True),
        Column("measured", Text, nullable=False),
        Column("created_at", String(40), nullable=False),
        Column("commit_hash", String(64)),
        Column("session", Text, nullable=False),
    )


def _without_password(place: str) -> str:
    scheme, found, rest = place.partition("://")
    return f"{scheme}://…@{rest.rpartition('@')[2]}" if found and "@" in rest else place
