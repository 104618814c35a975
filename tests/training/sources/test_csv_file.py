"""CSV files as other programs write them."""

from pathlib import Path

import pytest

from training.errors import DataError
from training.sources import csv_file

COLUMNS = ("day", "size", "sold")


@pytest.mark.parametrize(("separator", "called"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("number", ["{}.5", "{},5"])
def test_fields_that_other_signs_separate(tmp_path: Path, separator: str, called: str, number: str) -> None:
    rows = [separator.join(("2024-01-01", number.format(i), f"c{i % 3}")) for i in range(9)]
    (tmp_path / "shop.csv").write_text("\n".join([separator.join(COLUMNS), *rows]))

    with pytest.raises(DataError, match=f"{called} separate the fields; save it with commas"):
        csv_file.names(tmp_path / "shop.csv")


def test_a_single_column_whose_values_have_semicolons(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("text\na;b\nc;d\n")

    assert csv_file.names(tmp_path / "shop.csv") == ["text"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("day,size\n2024-01-01,1\n", encoding="utf-8-sig")

    assert csv_file.names(tmp_path / "shop.csv") == ["day", "size"]


def test_latin_1_is_told_how_to_become_utf_8(tmp_path: Path) -> None:
    (tmp_path / "shop.csv").write_text("day,city\n2024-01-01,K\u00f6ln\n", encoding="latin-1")

    with pytest.raises(DataError, match=r"line 2 is not UTF-8: 2024-01-01, K.ln; save it as UTF-8 .iconv -f latin1"):
        csv_file.read(tmp_path / "shop.csv", {"city": "city"}, {"city"})
