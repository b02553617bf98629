"""The catalogue's files: every fault is told at its file, line and field (SPEC 3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from credit_core import CreditCore
from credit_core.errors import InvalidConfig
from credit_core.service.catalog import read

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "catalog"
PLANS = """# Plans.

[plans.basic]
title = "Basic"
quota_policy = "titrated_monthly"
quota_credits = 200
regions.in = { quota_credits = 150 }
"""
MODELS = """[models."m 1"]
title = "M"
modality = "image"
credits = 1
"""


def folder(at: Path, **files: str) -> Path:
    for name, text in ({"plans": PLANS, "models": MODELS} | files).items():
        (at / f"{name}.toml").write_text(text, encoding="utf-8")
    return at


def faults(at: Path, **files: str) -> tuple[str, ...]:
    with pytest.raises(InvalidConfig) as caught:
        read(folder(at, **files))
    return caught.value.faults


def test_the_files_of_a_folder_are_one_catalogue(tmp_path: Path) -> None:
    found = read(folder(tmp_path))
    assert (set(found.catalog.plans), set(found.catalog.models)) == ({"basic"}, {"m 1"})
    assert found.body["plans"]["basic"]["regions"] == {"in": {"quota_credits": 150}}
    assert len(read(SHIPPED).catalog.models) == 27


def test_a_fault_is_told_at_its_file_line_and_field(tmp_path: Path) -> None:
    plans = PLANS.replace("= 200", "= -1").replace("150", '"many"').replace('title = "Basic"', 'title = ""')
    models = MODELS.replace('"image"', '"smell"') + "colour = 5\n"
    found = [fault.split(": ")[:2] for fault in faults(tmp_path, plans=plans, models=models)]
    assert found == [
        ["plans.toml:4", "plans.basic.title"],
        ["plans.toml:7", "plans.basic.regions.in.quota_credits"],
        ["plans.toml:6", "plans.basic.quota_credits"],
        ["models.toml:3", "models.m 1.modality"],
        ["models.toml:5", "models.m 1.colour"],
    ]


def test_a_field_that_is_missing_is_told_at_its_table(tmp_path: Path) -> None:
    plans = PLANS.replace("quota_credits = 200\n", "")
    [missing] = faults(tmp_path, plans=plans.replace("regions.in = { quota_credits = 150 }\n", ""))
    assert missing.startswith("plans.toml:3: plans.basic.quota_credits: is missing")
    [untitled] = faults(tmp_path, plans=PLANS, models=MODELS.replace('title = "M"\n', ""))
    assert untitled.startswith("models.toml:1: models.m 1.title: ")


def test_a_table_within_a_plan_is_found_by_its_own_header(tmp_path: Path) -> None:
    plans = PLANS.replace(
        "regions.in = { quota_credits = 150 }\n", "[plans.basic.regions.in] # abroad\nprice_usd = -3\n"
    )
    assert faults(tmp_path, plans=plans)[0].startswith("plans.toml:8: plans.basic.regions.in.price_usd: ")


def test_the_same_key_in_two_files_is_told_with_both_places(tmp_path: Path) -> None:
    found = faults(tmp_path, more=MODELS.replace("[models", "\n\n[models"), plans=PLANS)
    assert found == ("more.toml:3: models.m 1 stands at models.toml:1 too",)


def test_a_section_that_is_a_value_in_one_file_and_a_table_in_another_is_told(tmp_path: Path) -> None:
    assert faults(tmp_path, other="plans = 5\n") == ("plans.toml: plans stands at other.toml:1 too",)


def test_what_is_no_toml_is_told_with_its_line_and_the_other_files_are_read_all_the_same(tmp_path: Path) -> None:
    bad, double = faults(tmp_path, bad="[plans\nx = 1\n", other="[plans.basic]\n")
    assert bad.startswith("bad.toml: ")
    assert "line 1" in bad
    assert double == "plans.toml:3: plans.basic stands at other.toml:1 too"
    assert "line 2" in faults(tmp_path, bad="a = 1\na = 2\n", other="")[0]


def test_bytes_that_are_no_text_are_told_by_file(tmp_path: Path) -> None:
    (folder(tmp_path) / "bad.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(InvalidConfig, match=r"bad\.toml: .*utf-8"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["empty", "not-there"])
def test_a_folder_without_files_says_where_to_point(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidConfig, match="CREDITS_CATALOG"):
        read(tmp_path / name)


def test_a_ledger_is_not_opened_with_a_catalogue_that_has_a_fault(sqlite_ledger: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"plans\.toml:6"):
        CreditCore.open(sqlite_ledger, catalog=folder(tmp_path, plans=PLANS.replace("200", "0")))
