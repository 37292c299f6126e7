"""Tables of texts in Markdown and LaTeX."""

import pytest

from hemo.reporting.table_format import Table, hours, inline, latex_table, latex_text, markdown_table, number

TABLE = Table("A & B", ("name", "acc"), (("a|b", "0.5"), ("c", "-")), notes=("50 % of it",))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3610, "1:00:10"), (90000, "25:00:00")]
)
def test_hours(seconds, text):
    assert hours(seconds) == text


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
