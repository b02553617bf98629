"""What the process is told from outside: environment variables and their defaults. Read when called, never at import."""

from __future__ import annotations

import os
from pathlib import Path

from credit_core.errors import InvalidConfig

DATABASE_VARIABLE = "CREDITS_DATABASE_URL"
DEFAULT_DATABASE = "sqlite:///data/ledger.db"
ANALYTICS_VARIABLE = "CREDITS_ANALYTICS_URL"
CATALOG_VARIABLE = "CREDITS_CATALOG"
CACHE_VARIABLE = "CREDITS_CACHE"
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
