"""The HTML of the page: self-contained, and names cannot become markup."""

import json
import re
from html.parser import HTMLParser

import pytest

from hemo.curation.card import SplitFinding
from hemo.reporting.comparison import compare_trials
from hemo.reporting.content import Content
from hemo.reporting.page.render import Live, _script, code_marked, json_block, study_html, table_data, unbroken
from hemo.reporting.page.study_data import study_data
from hemo.reporting.table_format import Table
from hemo.trials.record import read_records

HOSTILE = "</script><script>alert(1)</script><!--"


class Scripts(HTMLParser):
    """The content of each script element, as a browser would find them."""

    def __init__(self) -> None:
        """Start without any."""
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._id: str | None = None

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self._id = dict(attrs).get("id", "")
            self.found.append((self._id, ""))

    def handle_data(self, data):
        if self._id is not None:
            self.found[-1] = (self._id, self.found[-1][1] + data)

    def handle_endtag(self, tag):
        if tag == "script":
            self._id = None


@pytest.fixture
def page(tmp_path):
    """Return a function that renders the page of the records."""

    def render(live=None):
        folder = str(tmp_path / "records")
        found = compare_trials(read_records(folder), folder, samples=10, seed=0)
        return study_html("A <title>", Content(found, study_data(found, {}, seed=0)), live)

    return render


def test_text_is_escaped_and_data_stay_what_they_are(make_record, page):
    make_record({"name": HOSTILE}, reductions=("<i>less</i>",))
    html = page()
    assert "<script>alert" not in html
    assert "&lt;i&gt;less&lt;/i&gt;" in html
    assert "<title>A &lt;title&gt;</title>" in html
    parser = Scripts()
    parser.feed(html)
    assert [name for name, _ in parser.found] == ["data", "tables-module", "plotly", "", ""]
    assert json.loads(parser.found[0][1])["comparisons"][0]["trials"][0]["name"] == HOSTILE


def test_nothing_is_loaded_from_a_server(make_record, page):
    make_record({})
    html = page()
    assert not re.search(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)
    assert "default-src 'none'" in html
    assert len(html) < 8_000_000


def test_only_a_live_page_may_ask_its_server(make_record, page):
    make_record({})
    html, live = page(), page(Live("abc", 5.0))
    assert "connect-src" not in html
    assert "hemo-watch" not in html
    assert "; connect-src 'self'" in live
    assert '"live":{"version":"abc","refresh_s":5.0}' in live


def test_findings_are_among_the_cautions_of_the_summary(make_record, page):
    """Both trials had one patient with and two without the class in validation; half of the images have a series."""
    finding = SplitFinding(split="val", patients=3, patients_with={"any": 1}, patients_without={"any": 2})
    for seed in (1, 2):
        make_record({"seed": seed}, findings=(finding,), grouped_by={"patient": 5, "series": 5}, synthetic_images=10)
    html = page()
    text = "val has too few patients to choose an epoch, a threshold or a model by"
    assert (
        html.index("<h1>")
        < html.index("10 images are synthetic, made by <code>hemo phantom</code>: the metrics show that the steps work")
        < html.index(text)
        < html.index("5 of 10 images have no patient id")
        < html.index('id="compare"')
    )


def test_names_between_backticks_are_code_and_the_rest_is_escaped():
    assert code_marked("`by_image` < <b>one</b> `") == "<code>by_image</code> &lt; &lt;b&gt;one&lt;/b&gt; `"


def test_intervals_and_exponents_stay_on_one_line_and_the_rest_is_escaped():
    span = '<span class="unbroken">{}</span>'.format
    assert unbroken("0.98 (0.97-0.99)") == "0.98 " + span("(0.97-0.99)")
    assert unbroken("<b>, lr 1.2e-05, 3 of 12") == "&lt;b&gt;, lr " + span("1.2e-05") + ", " + span("3 of 12")


def test_a_script_cannot_end_early_and_json_has_no_markup():
    assert _script("a = '</SCRIPT>' + '<!--' + '</p>'") == r"a = '<\/SCRIPT>' + '<\!--' + '</p>'"
    block = json_block({"a": "</script>&\u2028"})
    assert not set("<>&\u2028") & set(block)
    assert json.loads(block) == {"a": "</script>&\u2028"}


def test_rows_left_out_are_where_the_page_says():
    """A table of more than sixty rows is not on the page."""
    for count, place in ((11, "the table below"), (61, "grid.md")):
        table = Table("Ranking", ("cell",), tuple((str(row),) for row in range(count)))
        assert table_data(table, 10)["notes"] == [f"{count - 10} more rows are in {place}."]


def test_a_page_that_follows_its_records_says_that_report_writes_the_files(make_record, page):
    make_record({"name": "one"})
    assert "<code>hemo report</code> writes them to grid.md;" in page(live=Live("1", 1.0))
    assert "As in grid.md; every metric in full precision is in grid.csv." in page()
