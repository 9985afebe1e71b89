from pathlib import Path

import pytest

from benchmarks import readme, results
from benchmarks.trials import Trials
from tests.benchmarks.test_results import ROWS

TEXT = "before\n<!-- results: x | Beauty | HR@10/tail -->\nold\n<!-- end -->\nafter\n"


def test_tables_come_from_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    results.write(Trials("x", root=tmp_path), ROWS, "A question")
    new = readme.renewed(TEXT)
    assert new == TEXT.replace("old", "| model | HR@10 tail |\n| --- | ---: |\n| MUR | 0.0200 |")
    assert readme.renewed(new) == new
    with pytest.raises(KeyError, match="no data set 'Frappe'"):
        readme.renewed(TEXT.replace("Beauty", "Frappe"))


def test_the_readme_is_as_the_results_are() -> None:
    text = readme.README.read_text()
    assert readme.renewed(text) == text, "run python -m benchmarks.readme"
