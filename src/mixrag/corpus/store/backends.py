"""From the scheme of a location to the module that opens such stores, which is imported when it is needed.

Such a module has two functions::

    def open_store(location: Location, *, create: bool, timeout: float) -> Store
    def has_store(location: Location) -> bool     # without creating anything, and quickly
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mixrag.corpus.store.location import FOLDER, Location
from mixrag.errors import SettingError

_STORE = "mixrag.corpus.store"
BACKENDS = {
    FOLDER: f"{_STORE}.sqlite.opening",
    "lance": f"{_STORE}.lance.opening",
    "s3": f"{_STORE}.lance.opening",
    "postgresql": f"{_STORE}.postgres.opening",
}
"""Further kinds of stores are added here, and to ``location.parse_location`` where they are named without '//'."""


def backend_of(location: Location) -> Any:
    """The module that opens stores of this location.

    Raises:
        SettingError: a scheme that no backend has.
        MissingPackageError: the backend's package is not installed.
    """
    if name := BACKENDS.get(location.scheme):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(error.name or name):
                raise
    raise SettingError(
        "a store: a folder, lance:PATH, s3://BUCKET/PREFIX or postgresql://HOST/DATABASE",
        location.name,
        "check the part before the colon",
    )
