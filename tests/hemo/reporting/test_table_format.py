"""Tables of texts in Markdown, LaTeX and CSV."""

import pytest

from hemo.reporting.table_format import (
    Table,
    csv_table,
    decimals,
    inline,
    latex_table,
    latex_text,
    markdown_table,
    metric,
    number,
    probability_text,
)

TABLE = Table("A & B", ("name", "acc"), (("a|b", "0.5"), ("c", "-")), notes=("50 % of it",))


def test_a_missing_number_is_a_dash():
    assert (number(0.123456), number(None), number(2.0, 1)) == ("0.1235", "-", "2.0")


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (-0.00004, "0.0000", "+0.0000"),
        (-0.0, "0.0000", "+0.0000"),
        (-0.00006, "-0.0001", "-0.0001"),
        (1, "1.0000", "+1.0000"),
    ],
)
def test_what_rounds_to_zero_has_no_minus(value, plain, signed):
    assert (number(value), number(value, signed=True)) == (plain, signed)


def test_markdown_in_full():
    assert markdown_table(TABLE) == "| name | acc |\n|------|-----|\n| a\\|b | 0.5 |\n| c    | -   |"


def test_no_text_breaks_a_line_of_markdown():
    assert inline("a\n# <b> | c </b>") == "a # &lt;b> \\| c &lt;/b>"
    assert inline("p < 0.05") == "p < 0.05"
    assert inline("a\\|b") == "a\\\\\\|b"  # an escaped backslash, then an escaped pipe
    assert inline("![x](http://there/x.png)") == "![x]\\(http://there/x.png)"


def test_latex_in_full():
    assert latex_table(TABLE).splitlines() == [
        r"\begin{table}",
        r"\caption{A \& B}",
        r"\begin{tabular}{lr}",
        r"\hline",
        r"name & acc \\",
        r"\hline",
        r"a\textbar{}b & 0.5 \\",
        r"c & - \\",
        r"\hline",
        r"\end{tabular}",
        r"\par\footnotesize 50 \% of it",
        r"\end{table}",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b#1", r"a\_b\#1"),
        ("$x^2$ ~ {y}", r"\$x\textasciicircum{}2\$ \textasciitilde{} \{y\}"),
        ("\\end", r"\textbackslash{}end"),
    ],
)
def test_no_character_is_a_command_of_latex(text, written):
    assert latex_text(text) == written


def test_a_cell_is_no_option_of_the_row_end_before_it():
    r"""LaTeX reads `\\` and, on the next line, `[2pt]` or `*` as one command."""
    table = Table("t", ("name",), (("a",), ("[2pt] b",), ("*c",)))
    assert latex_table(table).splitlines()[5:9] == [r"\hline", r"a \\", r"{[}2pt{]} b \\", r"{*}c \\"]


@pytest.mark.parametrize(
    ("half_width", "digits"), [(0.12, 2), (0.061, 3), (0.0101, 3), (0.0099, 4), (0.0004, 4), (0.9, 2), (0.0, 4)]
)
def test_decimals_show_two_digits_of_the_half_width(half_width, digits):
    assert decimals(half_width) == digits


@pytest.mark.parametrize(("images", "text"), [(10, "0.77"), (125, "0.769"), (20_000, "0.7692"), (0, "0.77")])
def test_a_metric_without_interval_has_what_its_images_support(images, text):
    assert metric(0.76923, images) == text
    assert metric(None, images) == "-"


def test_the_highlighted_row_says_what_it_stands_for():
    table = Table("t", ("trial",), (("a",), ("b",)), ("complete", "best"), highlight="lowest val loss")
    assert table.labelled_rows == (("a",), ("b [lowest val loss]",))
    assert "b [lowest val loss]" in markdown_table(table)


def test_no_cell_of_a_csv_file_is_a_formula():
    rows = [{"name": "=1+1", "value": -0.5}, {"name": "-x", "value": None}]
    assert csv_table(rows) == "name,value\n'=1+1,-0.5\n'-x,\n"
    assert csv_table([], ("name", "value")) == "name,value\n"


def test_a_probability_has_three_digits_that_are_not_0_or_9():
    texts = [probability_text(value) for value in (0.00042, 0.5, 0.99998, 0.0, 1.0)]
    assert texts == ["0.000420", "0.500", "0.9999800", "0.000", "1.000"]
