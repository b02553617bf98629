"""What the process is told from outside: environment variables and their defaults. Read when called, never at import."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from credit_core.errors import InvalidConfig

DATABASE_VARIABLE = "CREDITS_DATABASE_URL"
DEFAULT_DATABASE = "sqlite:///data/ledger.db"
ANALYTICS_VARIABLE = "CREDITS_ANALYTICS_URL"
CATALOG_VARIABLE = "CREDITS_CATALOG"
CACHE_VARIABLE = "CREDITS_CACHE"
FACTS_VARIABLE = "CREDITS_FACTS_DIR"
FACTS_MEMORY_VARIABLE = "CREDITS_FACTS_MEMORY"
FACTS_THREADS_VARIABLE = "CREDITS_FACTS_THREADS"
DEFAULT_FACTS_MEMORY, DEFAULT_FACTS_THREADS = "1GB", 2
WEIGHTS_VARIABLE = "TITRATION_WEIGHTS"
#: Payment provider → the variable that holds its webhook secret.
PAYMENT_VARIABLES = {"stripe": "CREDITS_STRIPE_SECRET", "revenuecat": "CREDITS_REVENUECAT_SECRET"}


def titration_weights() -> tuple[float, ...] | None:
    """``TITRATION_WEIGHTS`` such as ``40/30/20/10``: surplus, freshness, credit health, library need; None where it is not set.

    Raises :class:`InvalidConfig`.
    """
    said = os.environ.get(WEIGHTS_VARIABLE)
    if not said:
        return None
    try:
        weights = tuple(float(part) for part in said.split("/"))
    except ValueError:
        weights = ()
    if len(weights) != 4:
        raise InvalidConfig([f"{WEIGHTS_VARIABLE} is {said!r}. Give four numbers, such as 40/30/20/10."])
    return weights


def database_url() -> str:
    """The ledger's SQLAlchemy URL: ``CREDITS_DATABASE_URL``, else ``sqlite:///data/ledger.db``."""
    return os.environ.get(DATABASE_VARIABLE) or DEFAULT_DATABASE


def analytics_url() -> str | None:
    """Where the columnar copy stands, ``CREDITS_ANALYTICS_URL``; None: embedded in the process."""
    return os.environ.get(ANALYTICS_VARIABLE) or None


def facts_folder(url: str) -> Path:
    """Where the copy of the ledger at ``url`` lies on disk: ``CREDITS_FACTS_DIR``, else beside a SQLite file, else in the cache."""
    chosen = os.environ.get(FACTS_VARIABLE)
    if chosen:
        return Path(chosen)
    if url.startswith("sqlite:///"):
        return Path(f"{url.removeprefix('sqlite:///')}.facts")
    return cache_folder() / "facts" / hashlib.blake2b(url.encode(), digest_size=8).hexdigest()


def facts_store(url: str) -> Path | None:
    """:func:`facts_folder` where it is named or there already; None where the copy is kept in memory."""
    folder = facts_folder(url)
    return folder if os.environ.get(FACTS_VARIABLE) or folder.is_dir() else None


def facts_memory() -> str:
    """``CREDITS_FACTS_MEMORY``: the most memory that reading facts takes, such as ``2GB``. Raises :class:`InvalidConfig`."""
    said = os.environ.get(FACTS_MEMORY_VARIABLE) or DEFAULT_FACTS_MEMORY
    if not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", said):
        raise InvalidConfig([f"{FACTS_MEMORY_VARIABLE} is {said!r}. Give a size, such as 512MB or 2GB."])
    return said


def facts_threads() -> int:
    """``CREDITS_FACTS_THREADS``: how many threads a query on facts may use. Raises :class:`InvalidConfig`."""
    said = os.environ.get(FACTS_THREADS_VARIABLE) or str(DEFAULT_FACTS_THREADS)
    if not said.isdigit() or not 1 <= int(said) <= 256:
        raise InvalidConfig([f"{FACTS_THREADS_VARIABLE} is {said!r}. Give a number from 1 to 256."])
    return int(said)


def catalog_folder() -> Path:
    """The folder of the TOML catalogue: ``CREDITS_CATALOG``, else ``data/catalog`` beside the package."""
    return Path(os.environ.get(CATALOG_VARIABLE) or Path(__file__).resolve().parent.parent / "data" / "catalog")


def payment_secret(provider: str) -> str | None:
    """The webhook secret of ``stripe`` (``CREDITS_STRIPE_SECRET``) or ``revenuecat`` (``CREDITS_REVENUECAT_SECRET``); None: not set."""
    return os.environ.get(PAYMENT_VARIABLES.get(provider, "")) or None


def cache_folder() -> Path:
    """Where compiled code may be kept between processes: ``CREDITS_CACHE``, else ``titrate`` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "titrate"
