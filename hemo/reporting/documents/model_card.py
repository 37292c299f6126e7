"""A model card of a trial: what the model is, what it is for, how it was evaluated, and what is not known of it.

Sources:
    Mitchell et al., Model cards for model reporting, FAT* 2019, arXiv:1810.03993: the sections.
    Hugging Face, model card metadata: the YAML above them.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from hemo.config.curate import LEAKY
from hemo.curation.card import synthetic_text
from hemo.reporting import elsewhere_tables
from hemo.reporting.documents.data_facts import acquisition, missing_data, preprocessing, sizes, sources, split_rule
from hemo.reporting.documents.model_facts import (
    calibration,
    class_table,
    confusion,
    diagnostic_accuracy,
    discrimination,
    external_test,
    format_table,
    imbalance,
    initialisation,
    internal_test,
    mistakes,
    model,
    output,
    performance_table,
    seeds,
    selection,
    software,
    technology,
    thresholds,
    training,
    uncertainty,
)
from hemo.reporting.documents.study import Study
from hemo.reporting.table_format import Table, inline, markdown_table
from hemo.trials.record import metrics_of, title_of

NOT_STATED = "Not stated by the authors."

HUGGING_FACE_METRICS = {
    "auroc": "roc_auc",
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "precision",
    "f1": "f1",
    "average_precision": "average_precision",
    "calibration_error": "expected_calibration_error",
}
"""Metric of a record -> its name on Hugging Face."""


def model_card(study: Study) -> str:
    """Return the card of a trial as Markdown with a YAML head."""
    head = yaml.safe_dump(metadata(study), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{head}---\n\n" + "\n\n".join(_sections(study)) + "\n"


def metadata(study: Study) -> dict[str, Any]:
    """Return the metadata that Hugging Face reads."""
    record, statements, dataset = study.record, study.statements, study.card.dataset if study.card else None
    name = (dataset.name if dataset else "") or f"training set {record.training_set}"
    results = [
        {"type": kind, "value": round(value, 4), "name": f"test {metric}"}
        for metric, kind in HUGGING_FACE_METRICS.items()
        if (value := metrics_of(record, "test").get(metric)) is not None
    ]
    index = {
        "name": title_of(record),
        "results": [
            {
                "task": {"type": "image-classification"},
                "dataset": {"name": name, "type": record.training_set, "split": "test"},
                "metrics": results,
            }
        ],
    }
    licence = {"license": statements.model_license} if statements.model_license else {}
    return {
        **licence,
        "library_name": "hemo",
        "pipeline_tag": "image-classification",
        "tags": ["medical-imaging", "image-classification", "hemo", record.config.model.backbone],
        "metrics": [result["type"] for result in results],
        **({"model-index": [index]} if results else {}),
    }


def _sections(study: Study) -> Iterator[str]:
    record, statements = study.record, study.statements
    yield f"# {inline(title_of(record))}"
    yield "## Model details"
    yield _terms(
        ("Model", technology(study)),
        ("Architecture", model(study)),
        ("Initial weights", initialisation(study)),
        ("Version", f"record {record.digest}, {record.finished[:10]}"),
        ("Software", software(study)),
        ("Authors", statements.authors or NOT_STATED),
        ("Licence", statements.model_license or NOT_STATED),
        ("Citation", statements.citation or NOT_STATED),
    )
    yield "## Intended use"
    yield _terms(
        ("Purpose", statements.intended_use or NOT_STATED),
        ("Users", statements.intended_users or NOT_STATED),
        ("Patients", statements.target_population or NOT_STATED),
        ("Out of scope", statements.out_of_scope or NOT_STATED),
        ("Input", preprocessing(study)),
        ("Output", output(study)),
    )
    yield "## Factors"
    yield _terms(("Pixel formats", acquisition(study)), ("Patients", statements.demographics or NOT_STATED))
    yield "## Metrics"
    yield _terms(("Thresholds", thresholds(study)), ("Uncertainty", uncertainty(study)))
    yield "## Evaluation data"
    yield _terms(("Test", internal_test(study)), ("Other data", external_test(study) or "none recorded"))
    yield "## Training data"
    yield _terms(
        ("Source", sources(study)),
        ("Splits", split_rule(study)),
        ("Sizes", sizes(study)),
        ("Missing data", missing_data(study)),
        ("Rare classes", imbalance(study)),
        ("Training", training(study)),
        ("Choice", selection(study)),
    )
    yield "## Quantitative analyses"
    yield _terms(
        ("Discrimination", discrimination(study)),
        ("At the threshold", diagnostic_accuracy(study)),
        ("Confusion matrix", confusion(study)),
        ("Calibration", calibration(study)),
        ("Seeds", seeds(study)),
        ("Mistakes", mistakes(study)),
    )
    yield from (f"### {inline(table.caption)}\n\n{markdown_table(table)}" for table in _tables(study))
    yield "## Ethical considerations"
    yield inline(statements.ethical_considerations or NOT_STATED)
    yield "## Caveats and recommendations"
    yield _terms(*_caveats(study))


def _tables(study: Study) -> list[Table]:
    tables = [performance_table(study), class_table(study), format_table(study)]
    tables += [elsewhere_tables.metrics_table(found) for found in study.elsewhere]
    return [table for table in tables if table is not None]


def _caveats(study: Study) -> Iterator[tuple[str, str]]:
    """Yield what limits the use of the model: by the record first, then by the authors."""
    record = study.record
    if leak := LEAKY.get(record.split):
        yield "Leak", f"{leak}: performance on new patients is not known"
    if synthetic := synthetic_text(record.synthetic_images):
        yield "Synthetic", synthetic
    for finding in record.findings:
        yield "Few patients", finding.text
    for reduction in record.reductions:
        yield "Reduced", reduction
    if not external_test(study):
        yield "One corpus", "not evaluated on images of another hospital or scanner: see `hemo evaluate`"
    yield "Not a medical device", "no regulatory approval is recorded; not for clinical use"
    yield "Limitations", study.statements.limitations or NOT_STATED


def _terms(*terms: tuple[str, str]) -> str:
    return "\n".join(f"- {term}: {inline(text) if text else 'not recorded'}" for term, text in terms)
