"""`bench --small`: every benchmark runs and its figures are written; how fast it is here is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from credit_core.cli import main

AGAINST_A_BASELINE = {"sqlite": ["saga", "hot"], "postgresql": ["saga", "two-phase lean", "two-phase own", "hot"]}


@pytest.mark.postgres
def test_the_small_benchmark_runs_on_both_engines_and_writes_its_figures(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    subjects = ["saga", "two-phase", "authorize", "hot"]
    assert main(["bench", "--small", "--only", *subjects, "--postgres", postgres_url, "--out", str(out)]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["fsync_ms"] > 0
    for engine, subjects in AGAINST_A_BASELINE.items():
        found = figures["engines"][engine]
        assert found["violations"] == 0
        for subject in subjects:
            for name in ("per_s", "baseline_per_s", "ratio"):
                assert found[subject][name] > 0, (engine, subject, name)
                assert "two-phase" not in subject or found[subject][f"known_{name}"] > 0
        assert found["users"]["users"] == 200
        assert 0 < found["authorize"]["p50_ms"] <= found["authorize"]["p95_ms"]
        assert (found["hot"]["threads"], found["hot"]["errors"]) == (4, 0)
    printed = capsys.readouterr().out
    assert "fdatasync" in printed
    assert printed.count("ratio") == 6


def test_one_subject_on_one_engine_leaves_the_others_out(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--small", "--only", "saga", "--engine", "sqlite", "--users", "50", "--out", str(out)]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert list(figures["engines"]) == ["sqlite"]
    assert sorted(figures["engines"]["sqlite"]) == ["saga", "users", "violations"]


def test_pages_are_asked_of_the_copy_and_the_ledger_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--small", "--only", "pages", "--engine", "sqlite", "--users", "5", "--out", str(out)]) == 0
    read = json.loads(out.read_text(encoding="utf-8"))["engines"]["sqlite"]["pages"]["10000"]
    assert set(read["pages"]) == {"overview", "burn", "coverage", "surplus", "economics", "operations", "explore"}
    assert all(0 < page["p50_ms"] <= page["p95_ms"] for page in read["pages"].values())
    assert read["entries"] > 10_000
    assert all(question["ratio"] > 0 for question in read["ledger"].values())
    assert "times" in capsys.readouterr().out


def test_the_laboratory_is_measured_without_a_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--small", "--only", "laboratory", "--out", str(out)]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["engines"] == {}
    found = figures["laboratory"]
    assert found["same"], "compiled and interpreted come to the same sums"
    assert found["compiled_per_s"] > found["interpreted_per_s"] > 0
    assert found["decisions"] == 24_000
    assert 0 < found["kernel_s"] <= found["replay_s"]
    assert found["read_replay_s"] > 0
    out_words = capsys.readouterr().out
    assert "replay of 24,000 decisions" in out_words
    assert "including reading them" in out_words
