"""The page stands alone, and names cannot become markup."""

import re

from hemo.study.comparison import compared
from hemo.study.page import PageFigure, marked_up, page_html
from hemo.study.record import read_records


def page(tmp_path, figures=()):
    folder = str(tmp_path / "records")
    found = compared(read_records(folder), folder, samples=10, seed=0)
    return page_html("A <title>", found, {found[0].key: figures})


def test_text_is_escaped_and_figures_are_not(make_record, tmp_path):
    make_record({"name": "<script>alert(1)</script>"}, reductions=("<i>less</i>",))
    html = page(tmp_path, [PageFigure("f", "a & b", "c < d", "<svg><path/></svg>")])
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;i&gt;less&lt;/i&gt;" in html
    assert "<svg><path/></svg>" in html
    assert "<title>A &lt;title&gt;</title>" in html


def test_names_between_backticks_are_code_and_the_rest_is_escaped():
    assert marked_up("`by_image` < <b>one</b> `") == "<code>by_image</code> &lt; &lt;b&gt;one&lt;/b&gt; `"


def test_nothing_is_asked_of_a_server(make_record, tmp_path):
    make_record({})
    html = page(tmp_path)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    assert "default-src 'none'" in html


def test_the_chosen_row_is_marked_and_not_the_lowest_loss(make_record, tmp_path):
    make_record({"name": "lowest", "seed": 1}, quality=0.9, test=False)
    make_record(
        {"name": "picked", "seed": 2}, quality=0.5, selected_by="val_auroc", selected_among=2, formats="aaabaaabbb"
    )
    html = page(tmp_path)
    assert re.search(r'<tr class="best">\s*<td>picked', html)
    assert re.search(r'<tr class="complete">\s*<td>lowest', html)
    assert "picked by pixel format" in html


def test_best_and_failed_rows_are_marked(make_record, tmp_path):
    make_record({"name": "good", "seed": 1})
    make_record({"name": "bad", "seed": 2}, status="failed", reason="out of memory")
    html = page(tmp_path)
    assert re.search(r'<tr class="best">\s*<td>good', html)
    assert re.search(r'<tr class="failed">\s*<td>bad', html)
    assert "bad failed: out of memory" in html
