"""What the process is told from outside: environment variables and their defaults. Read when called, never at import."""

from __future__ import annotations

import os
from pathlib import Path

DATABASE_VARIABLE = "CREDITS_DATABASE_URL"
DEFAULT_DATABASE = "sqlite:///data/ledger.db"
CATALOG_VARIABLE = "CREDITS_CATALOG"
CACHE_VARIABLE = "CREDITS_CACHE"


def database_url() -> str:
    """The ledger's SQLAlchemy URL: ``CREDITS_DATABASE_URL``, else ``sqlite:///data/ledger.db``."""
    return os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE


def catalog_folder() -> Path:
    """The folder of the TOML catalogue: ``CREDITS_CATALOG``, else ``data/catalog`` beside the package."""
    return Path(os.environ.get(CATALOG_VARIABLE) or Path(__file__).resolve().parent.parent / "data" / "catalog")


def cache_folder() -> Path:
    """Where compiled code may be kept between processes: ``CREDITS_CACHE``, else ``titrate`` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "titrate"
