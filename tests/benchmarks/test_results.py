import json
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.trials import Row, Trials

ROWS = [
    Row("Beauty", "MUR", "HR@10", None, 0.05, 0.001, 5),
    Row("Beauty", "MUR", "HR@10", "tail", 0.02, None, 1),
    Row("Beauty", "SUR", "HR@10", None, 0.04, 0.002, 5),
]


def test_writes_json_and_markdown_and_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    assert results.write(Trials("x", root=tmp_path), ROWS, "A question", "How.") == tmp_path / "results"
    found = json.loads((tmp_path / "results" / "x.json").read_text())
    assert found.keys() == {"commit", "machine", "rows"}
    assert "group" not in found["rows"][0]
    assert found["rows"][1]["group"] == "tail"
    assert results.read("x") == ROWS
    text = (tmp_path / "results" / "x.md").read_text()
    assert text.startswith("# A question\n\nHow.\n")
    assert "| model | HR@10 | HR@10 tail |\n| --- | ---: | ---: |\n| MUR | 0.0500 ± 0.0010 | 0.0200 |" in text
    assert "| SUR | 0.0400 ± 0.0020 |  |" in text


def test_quick_results_replace_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    assert results.write(Trials("x", quick=True, root=tmp_path), ROWS, "A question") == tmp_path / "x-quick"
    assert not (tmp_path / "results").exists()
