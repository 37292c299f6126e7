"""ROC and precision-recall curves have a legend entry, whatever the name."""

import xml.etree.ElementTree as ElementTree

from hemo.reporting.comparison import compare_trials
from hemo.reporting.figures.evaluation import roc_and_precision_recall
from hemo.trials.record import read_records


def test_every_trial_is_in_the_legend(make_record, tmp_path):
    """Matplotlib leaves out legend entries that begin with an underscore. 3 of the 10 test images are positive."""
    for seed, name in enumerate(("_hidden", "plain")):
        make_record({"name": name, "model.dropout": seed / 10}, formats="a" * 10)
    folder = str(tmp_path / "records")
    svg = roc_and_precision_recall(compare_trials(read_records(folder), folder, samples=5, seed=0)[0])
    texts = [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    for name in ("_hidden", "plain"):
        (found,) = [text.strip() for text in texts if text.strip().startswith(f"{name}: AUROC")]
        assert found.endswith("prevalence 30.0%")
