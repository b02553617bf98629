"""`bench --small`: every benchmark runs and its figures are written; how fast it is here is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from credit_core.cli import main


@pytest.mark.postgres
def test_the_small_benchmark_runs_on_both_engines_and_writes_its_figures(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert main(["bench", "--small", "--postgres", postgres_url, "--out", str(out)]) == 0
    figures = json.loads(out.read_text(encoding="utf-8"))
    for engine in ("sqlite", "postgresql"):
        assert figures[engine]["violations"] == 0
        for name in ("saga_per_s", "baseline_per_s", "saga_ratio", "authorize_p50_ms", "authorize_p95_ms"):
            assert figures[engine][name] > 0, name
        assert figures[engine]["authorize_p50_ms"] <= figures[engine]["authorize_p95_ms"]
    assert "ratio" in capsys.readouterr().out
