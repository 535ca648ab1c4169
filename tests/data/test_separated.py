"""CSV and TSV files: every cell is text as it is written, and what swallows or loses rows is named."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from neurogen.config import TextConfig
from neurogen.data.separated import read_separated
from neurogen.errors import UserError

TEXT = TextConfig(
    columns=["text"], join=" ", label="label", class_names=None, test_split="test", max_tokens=64, embedding_dim=128
)
ROWS = [("schöner Film", "0"), ("NA", "01"), ("null", "1E5"), ("a\u2028b", "nan"), ("so «gut»", " pos ")]
PLAIN = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
QUOTED = 'text,label\n"a, so ""gut""\nund lang",1\n"\r\nNo, 1\nyes, 0\n",0\n'


def read(content: str | bytes, suffix: str = ".csv", text: TextConfig = TEXT) -> list[tuple[str, ...]]:
    """The rows of a file, texts first."""
    raw = content.encode() if isinstance(content, str) else content
    return list(zip(*read_separated(raw, suffix, text, "a.csv").values(), strict=True))


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (PLAIN, ".csv"),
        (PLAIN.encode("utf-8-sig"), ".csv"),
        (PLAIN.replace("\n", "\r\n"), ".csv"),
        (PLAIN.replace("\n", "\r"), ".csv"),
        (PLAIN.replace("\n", "\n\n"), ".csv"),
        (PLAIN.removesuffix("\n"), ".csv"),
        (PLAIN.replace(",", ";"), ".csv"),
        (PLAIN.replace(",", "\t"), ".csv"),
        (PLAIN.replace(",", "|"), ".csv"),
        (PLAIN.replace(",", "\t"), ".tsv"),
        (PLAIN.replace("text,label", " text , label"), ".csv"),
        (PLAIN.replace("text,label", '"text","label"'), ".csv"),
        (PLAIN.replace(",", ";").replace("text;label", '"text";"label"'), ".csv"),
        (PLAIN.replace("\n", ",\n"), ".csv"),  # a separator behind every row, that of the header too
    ],
)
def test_cells_are_text_as_it_is_written(content: str | bytes, suffix: str) -> None:
    assert read(content, suffix) == ROWS


def test_quoted_texts_keep_separators_quotation_marks_and_lines() -> None:
    assert read(QUOTED) == [('a, so "gut"\nund lang', "1"), ("\r\nNo, 1\nyes, 0\n", "0")]


def test_a_quotation_mark_means_nothing_in_a_tsv_and_within_a_text() -> None:
    assert read('text\tlabel\n"good\t1\nso "bad"\t0\n', ".tsv") == [('"good', "1"), ('so "bad"', "0")]
    assert read('text,label\nso "bad",0\n') == [('so "bad"', "0")]


def test_a_text_may_be_longer_than_the_csv_module_allows() -> None:
    assert read(f"text,label\n{'x' * 200_000},1\n") == [("x" * 200_000, "1")]


def test_only_the_wanted_columns_are_kept() -> None:
    wide = "id,title,body,kind\n1,a,b,c\n2,d,e,f\n"
    assert read(wide, text=replace(TEXT, columns=["body", "title"], label="kind")) == [("b", "a", "c"), ("e", "d", "f")]


def lines(count: int, first: int = 0) -> str:
    """Rows as most files have them."""
    return "".join(f"film {n},{n % 2}\n" for n in range(first, first + count))


HEAD = "text,label\n" + lines(20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + '"never closed,1\n' + lines(9), "lines 22 to 31: a quotation mark is not closed"),
        (HEAD + '"closed late,1\n' + lines(9) + 'the end",0\n', "lines 22 to 32: a field of 102 characters holds 11"),
        (HEAD + '"one row,1\nthe end",0\n' + lines(9), "lines 22 to 23: a field of 17 characters holds 2 lines"),
        (HEAD + '"Good" film,1\n', "line 22: a quotation mark is not closed, or text follows it"),
        (HEAD + 'a film,"1\nfilm,0\nfilm,"1\n' + lines(9), "lines 22 to 24: a quotation mark"),
        (HEAD + 'a film,"1\nfilm,0\nfilm,1"\n' + lines(9), "lines 22 to 24: a field of 15 characters holds 3 lines"),
        (HEAD + "only a text\n", "line 22: the number of fields is 1, and 2 in the header (text, label); complete"),
        (HEAD + "a film, a good one,1\n", "line 22: the number of fields is 3, and 2 in the header"),
        (HEAD + "a\0b,1\n", "line 22: there is a NUL character"),
        ("text,label".encode("utf-16-le"), "line 1: there is a NUL character"),
        ("text,text,label\na,b,1\n", "has the column text more than once"),
        ("Text,Label\na,1\n", "has no column text, label; it has Text, Label; set dataset.text.columns"),
        ('"text,label\na,1\n', "a quotation mark in the header is not closed"),
    ],
)
def test_what_swallows_or_loses_rows_is_named(content: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_with_the_label_first_needs_more_than_a_decimal_comma_to_be_refused() -> None:
    head = "label,text\n" + "".join(f"{n % 2},film {n}\n" for n in range(20))
    rows = read(head + '1,"Wertung:\n1,5 von 5"\n')
    assert rows[-1] == ("Wertung:\n1,5 von 5", "1")
    with pytest.raises(UserError, match="a field of 37 characters holds 4 lines that look like rows"):
        read(head + '1,"never closed\n0,film a\n1,film b\n0,film"\n1,film\n')


def test_lists_and_addresses_within_texts_pass() -> None:
    texts = ["Good:\nacting, plot\nBad:\nlength, end", "Street 5\n12345, Berlin", "a,0 stars\nor more", "x, 1\ny, 0"]
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "label"), *((text, n % 2) for n, text in enumerate(texts * 3))])
    assert [text for text, _ in read(file.getvalue())] == texts * 3
