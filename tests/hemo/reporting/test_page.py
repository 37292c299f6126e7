"""The page is self-contained, and names cannot become markup."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pyarrow as pa
import pytest

from hemo.curation.card import SplitFinding
from hemo.reporting.build import markdown
from hemo.reporting.comparison import compare_trials
from hemo.reporting.metric_tables import metric_tables
from hemo.reporting.page import PageFigure, code_marked, page_html, plot_figures
from hemo.trials.record import PREDICTION_SCHEMA, read_records, write_record

HOSTILE = "<script>alert(1)</script>"


def page(tmp_path, figures=()):
    folder = str(tmp_path / "records")
    found = compare_trials(read_records(folder), folder, samples=10, seed=0)
    return page_html("A <title>", found, {found[0].key: figures})


def test_text_is_escaped_and_figures_are_not(make_record, tmp_path):
    make_record({"name": "<script>alert(1)</script>"}, reductions=("<i>less</i>",))
    html = page(tmp_path, [PageFigure("f", "a & b", "c < d", "<svg><path/></svg>")])
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;i&gt;less&lt;/i&gt;" in html
    assert "<svg><path/></svg>" in html
    assert "<title>A &lt;title&gt;</title>" in html


def test_findings_are_at_the_head_of_page_and_markdown(make_record, tmp_path):
    """Both trials had one patient with and two without the class in validation; half of the images have a series."""
    finding = SplitFinding(split="val", patients=3, patients_with={"any": 1}, patients_without={"any": 2})
    for seed in (1, 2):
        make_record({"seed": seed}, findings=(finding,), grouped_by={"patient": 5, "series": 5})
    text = (
        "val has too few patients to choose an epoch, a threshold or a model by: "
        "3 (of at least 10), with any 1 (of at least 5), without any 2 (of at least 5)"
    )
    html = page(tmp_path)
    assert html.count(text) == 1
    assert html.index("<h1>") < html.index(text) < html.index("5 of 10 images have no patient id") < html.index("<h2")
    found = compare_trials(read_records(str(tmp_path / "records")), str(tmp_path / "records"), samples=10, seed=0)
    assert markdown("title", found, []).splitlines()[2] == (
        f"**{text}** (Binary, target any: training set 00112233aabbccdd)"
    )


def test_names_between_backticks_are_code_and_the_rest_is_escaped():
    assert code_marked("`by_image` < <b>one</b> `") == "<code>by_image</code> &lt; &lt;b&gt;one&lt;/b&gt; `"


def test_nothing_is_loaded_from_a_server(make_record, tmp_path):
    make_record({})
    html = page(tmp_path)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)
    assert "default-src 'none'" in html


def test_the_selected_row_is_marked_and_not_the_lowest_loss(make_record, tmp_path):
    make_record({"name": "lowest", "seed": 1}, quality=0.9, test=False)
    make_record(
        {"name": "picked", "seed": 2}, quality=0.5, selected_by="val_auroc", selected_among=2, formats="aaabaaabbb"
    )
    html = page(tmp_path)
    assert re.search(r'<tr class="best">\s*<td>picked <span class="label">selected by val_auroc</span>', html)
    assert re.search(r'<tr class="complete">\s*<td>lowest', html)
    assert "picked by pixel format" in html


def test_best_and_failed_rows_are_marked(make_record, tmp_path):
    make_record({"name": "good", "seed": 1})
    make_record({"name": "bad", "seed": 2}, status="failed", reason="out of memory")
    html = page(tmp_path)
    assert re.search(r'<tr class="best">\s*<td>good', html)
    assert re.search(r'<tr class="failed">\s*<td>bad', html)
    assert "bad failed: out of memory" in html


def read(tmp_path):
    folder = str(tmp_path / "records")
    (found,) = compare_trials(read_records(folder), folder, samples=50, seed=0)
    return found, {figure.name.split("-")[0]: figure for figure in plot_figures(found, seed=0)}


def words(figure):
    return {element.text for element in ElementTree.fromstring(figure.svg).iter("{http://www.w3.org/2000/svg}text")}


@pytest.fixture
def of_classes(make_record, tmp_path):
    """Return a function that writes a trial of several classes, with two FN of the last one in forty images."""

    def make(task, classes):
        labels = np.eye(len(classes), dtype=np.uint8)[np.arange(40) % len(classes)]
        logits = 4.0 * labels - 2
        logits[len(classes) - 1 :: len(classes), :][:2] = 2.0 - 4.0 * np.eye(len(classes))[-1]
        columns = [["test"] * 40, [f"i{row}" for row in range(40)], [f"p{row}" for row in range(40)], ["u8"] * 40]
        table = pa.table(
            dict(zip(PREDICTION_SCHEMA.names, [*columns, labels.tolist(), logits.tolist()], strict=True)),
            schema=PREDICTION_SCHEMA,
        )
        matrix = tuple(tuple(int(row == column) * 5 for column in range(len(classes))) for row in range(len(classes)))
        matrices = (matrix,) if task == "multi_class" else (((30, 2), (1, 7)),) * len(classes)
        thresholds = () if task == "multi_class" else (0.5,) * len(classes)
        record = make_record({"task": task, "name": "one"}, confusion={"test": matrices}, thresholds=thresholds)
        record = record.model_copy(update={"classes": tuple(classes)})
        write_record(str(tmp_path / "records"), record, table)

    return make


def test_a_binary_grid_has_training_and_test_figures(make_record, tmp_path):
    """Quality 2 predicts all ten images correctly: the areas are 1."""
    confusion = {"test": (((6, 1), (2, 1)),)}
    make_record({"name": HOSTILE, "seed": 1}, quality=2.0, confusion=confusion, formats="aaabaaabbb")
    make_record({"name": "other", "model.dense_width": 8}, quality=0.3, confusion=confusion, formats="aaabaaabbb")
    _, figures = read(tmp_path)
    assert set(figures) == {"time", "loss", "accuracy", "ranking", "confusion", "calibration", "decisions", "formats"}
    assert f"{HOSTILE}: AUROC 1.00, AP 1.00, prevalence 30.0%" in words(figures["ranking"])
    assert {"TN 6", "85.7%", "FN 2", "66.7%", HOSTILE, "other", "predicted label", "true label"} <= words(
        figures["confusion"]
    )
    assert {"a", "6 images, prevalence 50%", "1.00", "not defined: only one label"} <= words(figures["formats"])
    assert all("<script" not in figure.svg for figure in figures.values())


def test_a_search_has_its_own_figures(make_record, tmp_path):
    for number in range(9):
        changes = {"name": f"t{number}", "training.learning_rate": 10.0 ** -(1 + number % 3), "seed": number}
        chosen = {"selected_by": "val_loss", "selected_among": 9} if number == 0 else {}
        make_record(
            {**changes, "model.backbone": "VGG16" if number % 2 else "ResNet50"},
            quality=0.9 - 0.1 * number,
            test=number == 0,
            status="pruned" if number == 8 else "complete",
            **chosen,
        )
    _, figures = read(tmp_path)
    assert {"complete", "pruned", "best complete so far", "selected", "validation loss"} <= words(figures["search"])
    assert {"learning rate", "backbone", "VGG16", "ResNet50", "best", "pruned"} <= words(figures["parallel"])
    assert {"learning rate", "backbone"} <= words(figures["importance"])
    assert figures["importance"].description.startswith("fANOVA of 9 trials, compared after epoch 10,")


def test_a_small_search_has_the_reason_why_importance_is_missing(make_record, tmp_path):
    make_record({"name": "one"}, selected_by="val_loss", selected_among=1)
    _, figures = read(tmp_path)
    assert figures["importance"].svg is None
    assert figures["importance"].description.startswith("Not computed: it needs at least 8 trials")


def test_six_labels_have_a_curve_a_matrix_and_a_diagram_each(of_classes, tmp_path):
    classes = ["epidural", "subdural", "any"]
    of_classes("multi_label", classes)
    found, figures = read(tmp_path)
    assert set(classes) <= words(figures["confusion"])
    assert any(
        re.match(r"any: AUROC 0\.\d{2,3}, AP 0\.\d{2,3}, prevalence 32\.5%", word) for word in words(figures["ranking"])
    )
    table = next(table for table in metric_tables(found) if "by class" in table.caption)
    assert [row[:3] for row in table.rows] == [("epidural", "14", "14"), ("subdural", "13", "13"), ("any", "13", "11")]


def test_many_classes_are_pooled_and_their_matrix_has_no_numbers(of_classes, tmp_path):
    classes = [f"topic {number}" for number in range(20)]
    of_classes("multi_class", classes)
    _, figures = read(tmp_path)
    assert any(word.startswith("all images and classes pooled: AUROC") for word in words(figures["ranking"]))
    assert "each of 20 classes" in words(figures["ranking"])
    assert set(classes) <= words(figures["confusion"])
    assert "5" not in words(figures["confusion"])
    assert any(word.startswith("ECE") for word in words(figures["calibration"]))


def test_tables_below_the_grid(make_record, tmp_path):
    """Formats a: six images, three positive; b: four, none, so that a model may predict from the format."""
    confusion = {"test": (((6, 1), (2, 1)),)}
    make_record({"name": "one"}, quality=2.0, formats="aaabaaabbb", confusion=confusion)
    make_record({"name": "two", "model.dense_width": 8}, quality=0.1, formats="aaabaaabbb", confusion=confusion)
    found, _ = read(tmp_path)
    tables = {table.caption: table for table in metric_tables(found)}
    assert list(tables) == [
        "Cells on test",
        "one minus the others, on test",
        "Metrics of each split",
        "Confusion matrix on test",
        "one by pixel format, on test",
        "Probabilities on test",
        "Operating points on test",
        "Net benefit on test",
    ]
    assert tables["Confusion matrix on test"].rows[0] == ("one", "1", "2", "1", "6", "1.00", "1.00", "0.500")
    assert tables["one by pixel format, on test"].rows == (
        ("a", "6", "0.50", "1.00", "1.00"),
        ("b", "4", "0.00", "-", "-"),
    )
    assert tables["one by pixel format, on test"].notes[1:] == (
        "No interval of some formats: 5 patients, at least 10 are needed.",
    )
    assert [row[:2] for row in tables["Metrics of each split"].rows][:3] == [
        ("one", each) for each in ("train", "val", "test")
    ]
