"""The catalogue's TOML files: read, merged and validated, with every fault at its file, line and field (SPEC 3)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from credit_core.errors import InvalidConfig
from credit_core.policy import plans
from credit_core.policy.plans import Catalog

_TABLE = re.compile(r"^\s*\[([^\[\]]+)\]\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


class Read(NamedTuple):
    """A catalogue as its files say it: ``body`` is kept in the ledger as a version."""

    body: dict[str, Any]
    catalog: Catalog


def read(folder: Path) -> Read:
    """The TOML files of ``folder`` as one catalogue. Raises :class:`InvalidConfig` naming file, line and field of each fault."""
    files = sorted(folder.glob("*.toml"))
    if not files:
        raise InvalidConfig([f"{folder}: no TOML files; point CREDITS_CATALOG at the catalogue's folder"])
    body: dict[str, Any] = {}
    places: dict[tuple[str, ...], str] = {}
    faults: list[str] = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
            tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            faults.append(f"{path.name}: {error}")
            continue
        found = {key: f"{path.name}:{line}" for key, line in _lines(text).items()}
        for section, rows in tables.items():
            if section not in body:
                body[section] = dict(rows) if isinstance(rows, dict) else rows
                continue
            if isinstance(rows, dict) and isinstance(body[section], dict):
                twice: set[tuple[str, ...]] = {(section, name) for name in rows.keys() & body[section].keys()}
                body[section] |= rows
            else:
                twice = {(section,)}
            for key in sorted(twice):
                here, there = found.get(key, path.name), places.get(key, "another file")
                faults.append(f"{here}: {'.'.join(key)} stands at {there} too")
        places = found | places
    if faults:
        raise InvalidConfig(faults)
    return Read(body, plans.parse(body, places))


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Key path → line number. Good enough to find a fault: values that span lines are not looked into."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _TABLE.match(line)
        if header:
            table = _path(header.group(1))
            found.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            found.setdefault(table + _path(key.group(1)), number)
    return found


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
