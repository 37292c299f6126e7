"""Guidelines item by item, from records, cards and the authors' statements."""

import re

import pytest

from hemo.config.document import Statements
from hemo.reporting.documents.model_facts import calibration, thresholds, uncertainty
from hemo.reporting.documents.study_sheet import FACTS, GUIDELINES, entries, guideline, study_sheet
from hemo.stats.calibration import Calibration
from tests.evaluations import write_made_evaluation

TRIPOD = (
    *(
        "1",
        "2",
        "3a",
        "3b",
        "3c",
        "4",
        "5a",
        "5b",
        "6a",
        "6b",
        "6c",
        "7",
        "8a",
        "8b",
        "8c",
        "9a",
        "9b",
        "9c",
        "10",
        "11",
    ),
    *("12a", "12b", "12c", "12d", "12e", "12f", "12g", "13", "14", "15", "16", "17", "18a", "18b", "18c", "18d", "18e"),
    *("18f", "19", "20a", "20b", "20c", "21", "22", "23a", "23b", "24", "25", "26", "27a", "27b", "27c"),
)
STARD_AI = (
    *(str(number) for number in range(1, 15)),
    *("15a", "15b", "15c", "15d", "16a", "16b", "16c", "17a", "17b"),
    *(str(number) for number in range(18, 26)),
    *("26a", "26b"),
    *(str(number) for number in range(27, 40)),
    *("40a", "40b"),
)


def entry(study, name, number):
    return next(each.text for each in entries(study, name) if each.item.number == number)


def test_every_item_is_there_once_and_in_order():
    numbers = {name: tuple(item.number for item in guideline(name).items) for name in GUIDELINES}
    assert numbers["claim_2024"] == tuple(str(number) for number in range(1, 45))
    assert numbers["stard_ai_2025"] == STARD_AI
    assert numbers["tripod_ai_2024"] == TRIPOD


def test_items_use_known_facts_and_statements_and_leave_none_out():
    items = [item for name in GUIDELINES for item in guideline(name).items]
    assert {fact for item in items for fact in item.facts} == set(FACTS)
    unused = {"authors", "citation", "model_license", "out_of_scope"}  # of the model card
    assert {field for item in items for field in item.statements} == set(Statements.model_fields) - unused


def test_flow_of_inclusion_has_files_rejects_flags_and_splits(documented):
    sheet = study_sheet(documented())
    table = sheet.split("## Flow of inclusion")[1].split("## ")[0]
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    rows = {line[0]: line[1:] for line in lines}
    assert rows["files of the corpus"][0] == "100"
    assert (rows["rejected files or frames"][1], rows["rejected files or frames"][-1]) == ("4", "truncated 4")
    assert rows["without the flags left out"] == ["86", "4", "43", "43", "blank 3, noise 2"]
    assert rows["split test"][:3] == ["16", "", "9"]


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("claim_2024", "8", "4 of 90 images by step `clean` (blank 3, noise 2)"),
        ("claim_2024", "11", "ids and paths are those of the corpus"),
        ("claim_2024", "20", "patient (linked by equal pixels too); in two splits: 0 linked patients"),
        ("stard_ai_2025", "30", "test, any: TP 17, FN 3, FP 5, TN 15"),
        ("stard_ai_2025", "31", "sensitivity 1.000 (0.820-1.000), specificity 1.000 (0.820-1.000)"),
        ("tripod_ai_2024", "7", "3 groups of equal pixels, 1 with conflicting labels, link 4 patients"),
        ("tripod_ai_2024", "11", "6 images without labels are left out"),
        ("tripod_ai_2024", "12a", "fractions 0.15 for val and 0.2 for test, seed 3"),
        ("tripod_ai_2024", "21", "test 40 images of 20 patients, any 20"),
    ],
)
def test_an_item_has_what_hemo_knows(documented, name, number, text):
    assert text in entry(documented(), name, number)


def test_statements_of_the_authors_are_marked_and_the_rest_is_not_recorded(documented):
    study = documented({"statements": {"funding": "a foundation | none", "eligibility": "adults"}})
    assert entry(study, "claim_2024", "44") == "Authors: a foundation | none"
    assert entry(study, "claim_2024", "8").startswith("Authors: adults; left out, in this order")
    assert entry(study, "claim_2024", "34") == "not recorded"
    sheet = study_sheet(study)
    assert "| 44 | Other | funding and the role of funders | Authors: a foundation \\| none |" in sheet
    counts = re.findall(
        r"^\| (CLAIM 2024|STARD-AI|TRIPOD\+AI) +\| (\d+) +\| (\d+) +\| (\d+) +\| (\d+)", sheet, re.MULTILINE
    )
    assert [(int(items), sum(map(int, rest))) for _, items, *rest in counts] == [(44, 44), (48, 48), (52, 52)]


def test_names_of_patients_and_folders_stay_out(documented):
    sheet = study_sheet(documented())
    assert "patient-7" not in sheet
    assert "doe_john" not in sheet


def test_without_the_card_of_its_set_a_sheet_says_so(make_record, read):
    make_record({"name": "alone"}, many=True)
    study = read()
    assert study.card is None
    assert entry(study, "claim_2024", "35") == "not recorded"
    assert "Flow of inclusion" not in study_sheet(study)


def test_evaluations_elsewhere_are_external_data(documented, tmp_path, read):
    study = documented()
    checkpoint = {"record": study.record.digest}
    write_made_evaluation(tmp_path / "records", checkpoint=checkpoint, data={"name": "another hospital"})
    write_made_evaluation(tmp_path / "records", digest="0" * 16, data={"name": "of another trial"})
    study = read()
    expected = "another hospital: 40 images of 20 patients, AUROC 0.90 (0.57-0.98), sensitivity 0.90 (0.62-0.98)"
    assert entry(study, "claim_2024", "33").startswith(expected)
    assert entry(study, "tripod_ai_2024", "12f") == "none: the evaluated weights are those of training"
    assert "## mine on another hospital" in study_sheet(study)
    assert "of another trial" not in study_sheet(study)


def test_a_leaky_split_is_called_leaky(documented):
    assert "may be in several splits (leaky)" in entry(documented(split="by_image"), "claim_2024", "19")


def test_seeds_are_listed_where_there_are_several(make_record, read):
    for seed in range(3):
        make_record({"seed": seed}, quality=0.2 + seed / 10, many=True)
    study = read(trial=make_record({"seed": 0}, quality=0.2, many=True).digest)
    assert entry(study, "stard_ai_2025", "21").startswith("3 seeds: test AUROC 0.")


def test_the_test_of_models_names_seeds_where_their_variance_is_added(make_record, read):
    make_record({"name": "one"}, quality=1.0, many=True)
    make_record({"name": "two", "model.dense_width": 8}, quality=0.5, many=True)
    assert "seed" not in uncertainty(read())
    make_record({"name": "one", "seed": 1}, quality=1.2, many=True)
    assert uncertainty(read()).endswith(
        "models compared by DeLong's test with patients as clusters, to whose variance that over seeds is added "
        "(Obuchowski and Rockette 1995), Holm-adjusted"
    )


def test_thresholds_of_rare_classes_have_digits(make_record, read):
    make_record({"name": "one"}, many=True, thresholds=(0.00042,))
    assert thresholds(read()).startswith("any 0.000420; chosen on validation")


def test_a_reason_of_calibration_is_stated(make_record, read):
    reason = "validation contradicts the prior correction: log loss 0.312 with it, 0.300 without"
    make_record({"name": "one"}, many=True, calibration=Calibration("platt", reason, (0.5,), (1.0,), None, 40, 40))
    assert f"any: Platt: slope 0.50, intercept +1.00 ({reason})" in calibration(read())


def test_the_sheet_of_a_sequence_model_has_its_input(make_sequence_record, read):
    make_sequence_record("study")
    study = read()
    assert entry(study, "tripod_ai_2024", "9a") == (
        "embeddings of the slices of a study, series by series in order of position, by the encoder resnet18 (weights "
        "sha256:0123456789ab), 512 numbers a slice, the mean over positions; its probabilities of any; differences of "
        "a slice to those below and above, its height in the series and its distances to them; no clinical data"
    )
    assert entry(study, "stard_ai_2025", "17a").startswith(
        "the model is given embeddings of slices and their positions"
    )
    assert entry(study, "claim_2024", "14").startswith(
        "a label table gives 0, 1 or blank for any of each image (task binary); a study has a class if one of its "
    )
    assert "`predictions.parquet` (label and logits of each validation and test study)" in entry(
        study, "claim_2024", "42"
    )
    sheet = study_sheet(study)
    splits = sheet.split("## Splits")[1].split("## ")[0]
    assert re.search(r"\| split +\| studies +\| patients", splits)
    assert "pooling" not in sheet


def test_the_calibration_error_of_the_record_has_its_bins(make_record, read):
    make_record(
        {"name": "one"}, many=True, metrics={"test": {"auroc": 0.9, "calibration_error": 0.018}}, rows={"test": 786}
    )
    assert calibration(read()).endswith("; expected calibration error on test (15 bins of equal width) 0.018")
