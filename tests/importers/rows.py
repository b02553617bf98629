"""Small GenTD26 files made by hand, and the command line that imports them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from credit_core.cli import main

HEADER = (
    "gmt_create", "predict_type", "predict_status", "exec_time_seconds", "groupId", "prompt_length",
    "negative_prompt_length", "num_images_per_prompt", "num_inference_steps", "checkpoint_model_version_id", "num_lora",
)  # fmt: skip
GOOD = {
    "gmt_create": "2024-11-15 12:00:00", "predict_type": "TXT_2_IMG", "predict_status": "SUCCEED",
    "exec_time_seconds": "30.0", "groupId": "G1", "prompt_length": "63.0", "negative_prompt_length": "",
    "num_images_per_prompt": "1.0", "num_inference_steps": "30.0", "checkpoint_model_version_id": "M1", "num_lora": "0",
}  # fmt: skip
#: The parts of the sum in which every row is accounted for (SPEC 9).
PARTS = ("settled", "released", "held", "library", "deferred", "rate_limited", "rejected", "imported", "reject_file")


def row(at: str = "12:00:00", **other: str) -> dict[str, str]:
    """A good row at a time of 15 November 2024; ``at`` may also be a whole date and time."""
    return GOOD | {"gmt_create": at if "-" in at else f"2024-11-15 {at}"} | other


def write(path: Path, rows: Iterable[Mapping[str, str]], header: Iterable[str] = HEADER) -> Path:
    """``rows`` as the trace's CSV."""
    names = list(header)
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(names)
        out.writerows([one[name] for name in names] for one in rows)
    return path


def bring_in(
    capsys: pytest.CaptureFixture[str], file: Path, url: str, mode: str, *more: str, code: int = 0
) -> dict[str, Any]:
    """Run the import command; returns its JSON summary."""
    capsys.readouterr()
    found = main(["import", "gentd26", str(file), "--mode", mode, "--database", url, "--json", *more])
    printed = capsys.readouterr()
    assert found == code, printed.err
    summary: dict[str, Any] = json.loads(printed.out)
    return summary


def accounted(summary: Mapping[str, Any]) -> int:
    """SPEC 9's sum, added up here."""
    return sum(int(summary[name]) for name in PARTS)
