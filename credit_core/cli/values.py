"""Values given on the command line."""

from __future__ import annotations

import json
from typing import Any

from credit_core.errors import InvalidRequest


def change(text: str) -> tuple[str, Any]:
    """A change to a configuration, KEY=VALUE; the value is JSON, or text where it is none."""
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise InvalidRequest(f"{text!r} is not KEY=VALUE, such as controller.k=0.0277.")
    try:
        return key.strip(), json.loads(value)
    except json.JSONDecodeError:
        return key.strip(), value.strip()
