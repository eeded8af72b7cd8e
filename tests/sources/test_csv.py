"""CSV as people and programs write it; a broken row is named and never shifted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from testbench.errors import InputError, NothingToDo
from tests.support.setup_phase import file_of, loaded, steps_of


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_line_ends_and_byte_order_marks(
    tmp_path: Path, separator: str, line_end: str, encoding: str
) -> None:
    lines = (("user_input", "reference", "own"), ("Où?", '"a, b; c\td"', "1"), ("Quand?", "", ""))
    content = line_end.join(separator.join(line) for line in lines)
    first, second = steps_of(loaded(file_of(tmp_path, "rows.csv", content.encode(encoding))))
    assert first.reference is not None
    assert (first.input, first.reference.response, first.custom_values) == ("Où?", "a, b; c\td", {"own": "1"})
    assert (second.input, second.reference, second.custom_values) == ("Quand?", None, {})


def test_a_header_of_one_column(tmp_path: Path) -> None:
    path = file_of(tmp_path, "rows.csv", "input\na\nb; c\n")
    assert [step.input for step in steps_of(loaded(path))] == ["a", "b; c"]


def test_words_for_nothing_stay_words(tmp_path: Path) -> None:
    content = "user_input,reference,own\nCountry code of Namibia?,NA,nan\nWho?,None,null\n"
    steps = steps_of(loaded(file_of(tmp_path, "rows.csv", content)))
    assert [(step.reference and step.reference.response, step.custom_values) for step in steps] == [
        ("NA", {"own": "nan"}),
        ("None", {"own": "null"}),
    ]


def test_a_table_that_pandas_wrote_keeps_its_lists_and_loses_its_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_input": ["x"], "retrieved_contexts": [["it's", "b"]], "score": [float("nan")]})
    frame.to_csv(tmp_path / "rows.csv")
    (step,) = steps_of(loaded(tmp_path / "rows.csv"))
    assert step.custom_values == {"retrieved_contexts": ["it's", "b"]}


def test_blank_lines_and_empty_rows_are_passed_over_and_lines_are_counted(tmp_path: Path) -> None:
    content = 'user_input,own\n\n"two\nlines",1\n,\n\n"",x\n'
    with pytest.raises(InputError, match=r"rows\.csv: row 2 \(line 7\), column 'user_input': is empty"):
        loaded(file_of(tmp_path, "rows.csv", content))


@pytest.mark.parametrize(("row", "cells"), [("a", 1), ("a,b", 2), ("a,b,c,d", 4), ("a,b,c,d,e", 5), ("a,,,", 4)])
def test_a_row_of_another_length_is_an_error_and_never_shifted(tmp_path: Path, row: str, cells: int) -> None:
    path = file_of(tmp_path, "rows.csv", f"user_input,reference,own\n1,2,3\n{row}\n")
    with pytest.raises(InputError, match=rf"rows\.csv: row 2 \(line 3\): has {cells} cells where the header has 3"):
        loaded(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('user_input,own\n"a,b\nc,d\n', "row 1 .* not valid CSV"),
        ('user_input,own\na,b\n"c"d,e\n', r"row 2 \(up to line 3\): not valid CSV"),
        (b"user_input,own\na,b\ncaf\xe9,d\n", "not UTF-8 text"),
        (b"caf\xe9,user_input\n", "not UTF-8 text"),
    ],
)
def test_broken_text_is_an_error_that_names_the_place(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        loaded(file_of(tmp_path, "rows.csv", content))


def test_a_long_cell_is_a_cell(tmp_path: Path) -> None:
    text = "long " * 100_000
    (step,) = steps_of(loaded(file_of(tmp_path, "rows.csv", f"user_input,own\nx,{text}\n")))
    assert step.custom_values == {"own": text}


@pytest.mark.parametrize("content", ["", "\n \n", "user_input,reference\n", "user_input,reference\n,\n"])
def test_a_table_without_rows_is_nothing_to_do(tmp_path: Path, content: str) -> None:
    with pytest.raises(NothingToDo):
        loaded(file_of(tmp_path, "rows.csv", content))


def test_only_as_many_rows_as_wanted_are_read(tmp_path: Path) -> None:
    path = file_of(tmp_path, "rows.csv", "user_input\na\nb\n" + '"broken')
    assert len(steps_of(loaded(path, limit=2))) == 2
