"""Sums."""

from __future__ import annotations

from typing import Any

ROLLUPS: tuple[Any, ...] = ()
