"""Training curves and the scatter of training time have the names and values of the records."""

import xml.etree.ElementTree as ElementTree

from hemo.reporting.comparison import compare_trials
from hemo.reporting.figures.training import curves, time_against_accuracy
from hemo.trials.record import read_records


def comparison(tmp_path):
    folder = str(tmp_path / "records")
    return compare_trials(read_records(folder), folder, samples=10, seed=0)[0]


def test_one_panel_a_trial_and_all_its_words(make_record, tmp_path):
    """Names come out as text, whatever characters they hold, and the SVG is well-formed."""
    make_record({"name": "cost $5 & <b>", "seed": 1})
    make_record({"name": "other", "seed": 2}, status="pruned", test=False)
    make_record({"name": "broken", "seed": 3}, status="failed")
    svg = curves(comparison(tmp_path), "loss")
    texts = {element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {"cost $5 & <b>", "other (pruned)", "train", "validation", "best epoch", "loss", "epoch"} <= texts
    assert "broken" not in texts


def test_scatter_names_each_trial_and_split(make_record, tmp_path):
    make_record({"name": "one", "seed": 1}, seconds=600.0)
    make_record({"name": "two", "seed": 2}, quality=0.5, seconds=60.0)
    svg = time_against_accuracy(comparison(tmp_path))
    texts = {element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    assert {"one", "two", "train", "validation", "test", "training time (minutes)", "accuracy"} <= texts


def test_figures_are_the_same_bytes_each_time_and_take_the_pages_ink(make_record, tmp_path):
    make_record({"name": "one"})
    once, again = (time_against_accuracy(comparison(tmp_path)) for _ in range(2))
    assert once == again
    assert "currentColor" in once
    assert "#010203" not in once


def test_no_figure_without_figures(make_record, tmp_path):
    make_record({}, status="failed")
    assert curves(comparison(tmp_path), "loss") is None
    assert time_against_accuracy(comparison(tmp_path)) is None
