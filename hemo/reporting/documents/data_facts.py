"""What records and cards know of the data of a study: each a text for a document, empty where nothing is recorded."""

from collections.abc import Callable, Mapping
from typing import Any

from hemo.config.curate import SPLITS
from hemo.curation.card import Count, Step, TrainingSetCard, grouping_text
from hemo.reporting.documents.study import Study
from hemo.reporting.table_format import Table
from hemo.reporting.trial_row import counts_text, image_of, join_with_counts
from hemo.stats import MIN_PATIENTS, MIN_PATIENTS_EACH
from hemo.trials.record import TrialRecord

Fact = Callable[[Study], str]

SPLIT_RULES = {
    "by_patient": "each patient falls into one split by a hash of their name: added patients move nobody",
    "by_patient_stratified": "patients are spread so that labels are as frequent in each split",
    "by_image": "images are assigned one by one: images of one patient may be in several splits (leaky)",
    "by_study": "studies are assigned as a whole: studies of one patient may be in several splits (leaky)",
    "by_patient_id": "patient ids are assigned as a whole: an image may be in several splits under two ids (leaky)",
    "official": "the split that came with the corpus",
}

FINGERPRINT_DIGITS = 12
"""Of the SHA-256 of an encoder's weights."""

FLOW_TABLE, SPLIT_TABLE, MISSING_TABLE = "Flow of inclusion", "Splits", "Missing labels"

STEP_NAMES = {
    "converted": "images read",
    "labelled": "with a row in the label table",
    "clean": "without the flags left out",
    "balance": "after balancing train",
    "subset": "after taking a subset",
}


def sources(study: Study) -> str:
    """Return corpus, files, and the name and licence of the data set."""
    if (card := study.card) is None:
        return ""
    corpus = card.image.get("corpus", "unknown")
    parts = [f"corpus `{corpus}`, {card.conversion.files:,} files, training set {card.digest}"]
    dataset = card.dataset
    named = {"data set": dataset.name, "at": dataset.url, "licence": dataset.license, "cite": dataset.cite_as}
    return "; ".join([*parts, *(f"{word} {text}" for word, text in named.items() if text)])


def exclusions(study: Study) -> str:
    """Return what was left out, in the order in which it was."""
    if (card := study.card) is None:
        return ""
    rejected = f"{card.conversion.rejects:,}{_listed(card.conversion.reject_reasons)}"
    left_out = [f"files or frames rejected by `convert`: {rejected}"]
    for before, step in zip(card.steps, card.steps[1:], strict=False):
        if step.removed:
            left_out.append(f"{step.removed:,} of {before.left.rows:,} images by step `{step.name}`{_reason(step)}")
    return "left out, in this order: " + "; ".join(left_out)


def _reason(step: Step) -> str:
    return _listed(step.reasons) or (f" ({step.detail})" if step.detail else "")


def _listed(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {count:,}' for name, count in counts.items())})" if counts else ""


def flow(study: Study) -> str:
    """Return the flow of inclusion in one line; the table has all of it."""
    if (card := study.card) is None:
        return ""
    steps = [
        f"{card.conversion.files:,} files",
        *(f"{step.left.rows:,} {STEP_NAMES[step.name]}" for step in card.steps),
    ]
    splits = ", ".join(f"{split} {card.splits[split].rows:,}" for split in SPLITS)
    return f"{' -> '.join(steps)} -> {splits}; table `{FLOW_TABLE}`"


def flow_table(card: TrainingSetCard) -> Table:
    """Return the flow of inclusion: files, rejects, images after each step and in each split, patients, labels."""
    conversion, blank = card.conversion, ("",) * (1 + len(card.classes))
    rows = [
        ("files of the corpus", f"{conversion.files:,}", "", *blank, _ignored(conversion.ignored_files)),
        (
            "rejected files or frames",
            "",
            f"{conversion.rejects:,}",
            *blank,
            _listed(conversion.reject_reasons).strip(" ()"),
        ),
    ]
    for step in card.steps:
        removed = f"{step.removed:,}" if step.removed else ""
        rows.append((STEP_NAMES[step.name], *_counted(step.left, card, removed), _reason(step).strip(" ()")))
    rows += [(f"split {split}", *_counted(card.splits[split], card, ""), "") for split in SPLITS]
    head = ("step", "images", "left out", "patients", *(f"{name} positive" for name in card.classes), "why")
    return Table(FLOW_TABLE, head, tuple(rows), notes=("An image with two flags counts for both.",))


def _ignored(files: int) -> str:
    return f"{files:,} others of the source are of no kind that the corpus has" if files else ""


def _counted(count: Count, card: TrainingSetCard, removed: str) -> tuple[str, ...]:
    positives = (f"{count.positives[name]:,}" for name in card.classes)
    return f"{count.rows:,}", removed, f"{count.patients:,}", *positives


def preprocessing(study: Study) -> str:
    """Return how a file becomes the network's input."""
    received = f"the network receives {image_of(study.record)}" if study.record.image else ""
    if study.record.config.model.is_sequence:
        received = f"{encoder(study)} gives each image its vector; the network receives those of all slices of a study"
    return "; ".join(text for text in (image_path(study.card) if study.card else "", received) if text)


def encoder(study: Study) -> str:
    """Return what made the embeddings of a sequence model: backbone and weights."""
    if study.embedded_by is None:
        return "an encoder that is not known (the trial has no checkpoint)"
    inputs = study.embedded_by.inputs
    weights = str(inputs["weights"])
    shown = weights[: len("sha256:") + FINGERPRINT_DIGITS] if weights.startswith("sha256:") else weights
    return f"the encoder {inputs['backbone']} (weights {shown})"


def image_path(card: TrainingSetCard) -> str:
    """Return how images were made of files."""
    image: dict[str, Any] = card.image
    size = f"resized to {card.height_px} x {card.width_px} px by area"
    if windows := image.get("windows"):
        named = ", ".join(f"{each['name']} {each['centre_hu']:g}/{each['width_hu']:g}" for each in windows)
        crop = "cropped to the head, " if image.get("crop") == "head" else ""
        beside = "; the slices before and after as further channels" if image.get("neighbours") else ""
        units = "stored values to Hounsfield units"
        return f"{units}, {crop}windows (centre/width in HU) {named} to 8 bits, then {size}{beside}"
    return f"decoded, channels {', '.join(card.channels)}, {size}"


def quality_checks(study: Study) -> str:
    """Return flags and duplicates that were found."""
    if (card := study.card) is None:
        return ""
    audit = card.audit
    found = f"flags of `convert`{_listed(card.conversion.flags) or ': none'}"
    groups = audit.get("equal_pixel_groups")
    if groups is None:
        return found
    conflicts, linked = audit.get("equal_pixel_conflicts", 0), audit.get("linked_patients", 0)
    return (
        f"{found}; {groups:,} groups of equal pixels, {conflicts:,} with conflicting labels, link {linked:,} patients"
    )


def subsets(study: Study) -> str:
    """Return how train was balanced and which subsets were taken."""
    if (card := study.card) is None:
        return ""
    taken = [
        f"{step.detail}: {step.removed:,} images left out" for step in card.steps if step.name in ("balance", "subset")
    ]
    return "; ".join(taken) or "none: all images that were not excluded are used"


def identifiers(study: Study) -> str:
    """Return which names the data set has."""
    if (card := study.card) is None:
        return ""
    if card.ids_are_public:
        return "ids and paths are those of the corpus; other tags are not kept"
    return "ids, paths and digests of pixels are keyed pseudonyms (HMAC-SHA-256); other tags are not kept"


def missing_data(study: Study) -> str:
    """Return how many labels and ids are missing, and what was done."""
    if (card := study.card) is None:
        return ""
    without = card.audit.get("images_without_labels", 0)
    blanks = {name: sum(card.splits[split].blanks[name] for split in SPLITS) for name in card.classes}
    listed = _listed({name: count for name, count in blanks.items() if count})
    parts = [
        f"{without:,} images without labels are left out",
        f"blank labels{listed} are left out of losses and metrics of a task that needs them"
        if listed
        else "no blank labels",
        grouping_text(card.grouped_by) or "every image has a patient id",
        f"files or frames that gave no image: {card.conversion.rejects:,}",
    ]
    return "; ".join(parts)


def missing_table(card: TrainingSetCard) -> Table | None:
    """Return blank labels by class and split; None where there are none."""
    rows = [
        (name, *(f"{card.splits[split].blanks[name]:,} of {card.splits[split].rows:,}" for split in SPLITS))
        for name in card.classes
        if any(card.splits[split].blanks[name] for split in SPLITS)
    ]
    return Table(MISSING_TABLE, ("class", *SPLITS), tuple(rows)) if rows else None


def acquisition(study: Study) -> str:
    """Return the pixel formats of each split."""
    if (card := study.card) is None:
        return ""
    names = sorted({name for count in card.splits.values() for name in count.pixel_formats})
    counts = [
        f"{name} {' / '.join(f'{card.splits[split].pixel_formats.get(name, 0):,}' for split in SPLITS)}"
        for name in names
    ]
    return f"images by pixel format ({' / '.join(SPLITS)}): {', '.join(counts)}" if counts else ""


def classes(study: Study) -> str:
    """Return the classes, and how labels enter."""
    record, config = study.record, study.record.config
    known = f"a label table gives 0, 1 or blank for {', '.join(record.classes)} of each image (task {config.task})"
    of_study = "; a study has a class if one of its images has, and no label where none is known to and one is blank"
    return f"{known}{of_study if config.model.is_sequence else ''}"


def split_rule(study: Study) -> str:
    """Return how images were assigned to splits."""
    split = study.record.split
    rule = SPLIT_RULES.get(split, "folds of whole patients, stratified by labels; each is test once")
    if (card := study.card) is None:
        return f"`{split}`: {rule}"
    config = card.config
    fractions = f", fractions {config['val_fraction']:g} for val and {config['test_fraction']:g} for test"
    seed = f", seed {config['seed']}" if "seed" in config else ""
    return f"`{split}`: {rule}{fractions if split.startswith('by_') and 'val_fraction' in config else ''}{seed}"


def disjoint_level(study: Study) -> str:
    """Return what no two splits share, and which leaks were counted."""
    split = study.record.split
    level = {
        "by_image": "image",
        "by_study": "study",
        "by_patient_id": "patient id",
        "official": "as the corpus has it",
    }.get(split, "patient (linked by equal pixels too)")
    if (card := study.card) is None or "linked_patients_in_two_splits" not in card.audit:
        return level
    patients, pixels = (card.audit[f"{what}_in_two_splits"] for what in ("linked_patients", "equal_pixels"))
    return f"{level}; in two splits: {patients:,} linked patients, {pixels:,} groups of equal pixels"


def sizes(study: Study) -> str:
    """Return images or studies, patients and positives of each split, of this task."""
    return "; ".join(f"{split} {_size(study.record, split)}" for split in SPLITS if split in study.record.rows)


def _size(record: TrialRecord, split: str) -> str:
    positives = zip(record.classes, record.positives.get(split, ()), strict=False)
    return ", ".join([counts_text(record, split), *(f"{name} {count:,}" for name, count in positives)])


def split_table(record: TrialRecord) -> Table:
    """Return images or studies, patients and prevalence of each split."""
    rows = []
    for split in (split for split in SPLITS if split in record.rows):
        counted, positives = record.rows[split], record.positives.get(split, ())
        prevalences = (f"{count:,} ({count / counted:.1%})" for count in positives)
        patients = record.patients.get(split)
        rows.append((split, f"{counted:,}", "-" if patients is None else f"{patients:,}", *prevalences))
    prevalent = (f"{name} (prevalence)" for name in (record.classes if record.positives else ()))
    return Table(SPLIT_TABLE, ("split", record.config.row_noun.many, "patients", *prevalent), tuple(rows))


def small_splits(study: Study) -> str:
    """Return which splits have too few patients to conclude from."""
    texts = [finding.text for finding in study.record.findings]
    enough = f"val and test have at least {MIN_PATIENTS} patients, {MIN_PATIENTS_EACH} with and without each class"
    return "; ".join(texts) or enough


def prevalence(study: Study) -> str:
    """Return the fraction of positives of each split."""
    record = study.record
    texts = []
    for split in (split for split in SPLITS if record.positives.get(split)):
        pairs = zip(record.classes, record.positives[split], strict=True)
        texts.append(f"{split} {', '.join(f'{name} {count / record.rows[split]:.1%}' for name, count in pairs)}")
    return "prevalence: " + "; ".join(texts) if texts else ""


def rejects(study: Study) -> str:
    """Return how many inputs gave no image, by reason."""
    if (card := study.card) is None:
        return ""
    reasons = _listed(card.conversion.reject_reasons)
    return f"files or frames that gave no image: {card.conversion.rejects:,}{reasons}; `predict` lists them as rejects"


def split_files(study: Study) -> str:
    """Return the files by which others can check data and split."""
    if (card := study.card) is None or not card.split_digest:
        return ""
    manifest = f"`split_manifest.csv` (SHA-256 {card.split_digest}) has hashes of all images with their splits"
    return f"{manifest}; `croissant.json` describes the set"


def reductions(study: Study) -> str:
    """Return what was made smaller than the full study."""
    made = join_with_counts([study.record.reductions])
    return f"made smaller than the full study: {made}" if made else ""


DATA_FACTS: dict[str, Fact] = {
    fact.__name__: fact
    for fact in (
        *(sources, exclusions, flow, preprocessing, quality_checks, subsets, identifiers, missing_data, acquisition),
        *(classes, split_rule, disjoint_level, sizes, small_splits, prevalence, rejects, split_files, reductions),
    )
}
