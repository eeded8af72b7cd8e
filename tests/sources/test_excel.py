"""Excel workbooks as datasets: cells as the text that they show, and a broken workbook told as such."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from testbench.errors import InputError, NothingToDo
from testbench.schema.models import Experiment
from testbench.sources.dataset import SetupOptions, load_experiment
from testbench.sources.formats import excel as excel_rows
from testbench.sources.location import parse_location


def workbook(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.xlsx"
    pd.DataFrame(rows).to_excel(path, index=False)
    return path


def load(path: Path) -> Experiment:
    return load_experiment(parse_location(str(path)), SetupOptions(), {})


def test_rows_become_scenarios(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"user_input": "What is it?", "reference": "It is.", "retrieved_contexts": '["a", "b"]', "size": 3},
        {"user_input": "And now?", "reference": None, "retrieved_contexts": None, "size": None},
    ]
    first, second = (scenario.steps[0] for scenario in load(workbook(tmp_path, rows)).scenarios)
    assert first.reference is not None
    assert first.reference.response == "It is."
    assert first.custom_values["retrieved_contexts"] == ["a", "b"]
    assert second.reference is None
    assert second.custom_values == {}


def test_a_workbook_without_rows_is_nothing_to_do(tmp_path: Path) -> None:
    pd.DataFrame(columns=["user_input"]).to_excel(tmp_path / "rows.xlsx", index=False)
    with pytest.raises(NothingToDo):
        load(tmp_path / "rows.xlsx")


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b"text"])
def test_a_broken_workbook_is_bad_input(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.xlsx").write_bytes(content)
    with pytest.raises(InputError, match="not an Excel workbook"):
        load(tmp_path / "rows.xlsx")


def test_an_archive_that_is_no_workbook_is_bad_input(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "x")
    (tmp_path / "rows.xlsx").write_bytes(content.getvalue())
    with pytest.raises(InputError, match="not an Excel workbook"):
        load(tmp_path / "rows.xlsx")


def test_a_workbook_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path, [{"user_input": "x"}])
    monkeypatch.setattr(excel_rows, "MAX_UNPACKED_BYTES", 100)
    with pytest.raises(InputError, match="unpacks to"):
        load(path)


@pytest.mark.parametrize("name", ["rows.csv", "rows.xlsx"])
def test_two_columns_of_one_name_are_bad_input(tmp_path: Path, name: str) -> None:
    """One of them would hide the other."""
    frame = pd.DataFrame([["x", "a", "b"]], columns=["user_input", "reference", "reference"])
    path = tmp_path / name
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_excel(path, index=False)
    with pytest.raises(InputError, match="more than one column is named 'reference'"):
        load(path)
