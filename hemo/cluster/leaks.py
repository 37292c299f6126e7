"""The `leaks` job: one cell trained under leaky and clean splits of the same images, tested on the same patients."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from hemo.cluster.capacity import gpus_per_trial_worker
from hemo.cluster.curate import AUDIT
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import check_tracking
from hemo.cluster.tuning.sweep import tune_models
from hemo.cluster.tuning.trainable import trial_worker
from hemo.config.curate import SPLITS
from hemo.config.leaks import LeaksConfig
from hemo.config.tune import GridConfig, TuneConfig, flattened, title
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard, read_card
from hemo.curation.leak_arms import PARTS, Arm, arm_card, arm_rows, make_arms, require_patients, require_splittable
from hemo.curation.leak_splits import POOL_COLUMNS, Pool, nothing_to_leak, read_pool
from hemo.curation.resplit import write_resplit
from hemo.digest import differences, digest_of
from hemo.errors import HemoError, OutputError, SourceError, TrialError
from hemo.models.checkpoint import load_checkpoint
from hemo.output_lock import output_lock
from hemo.reporting.leak_table import (
    LEAKS_SCHEMA_VERSION,
    TABLE,
    VALUES,
    LeakRow,
    LeaksCard,
    SeedScores,
    conclusions,
    csv_text,
    markdown,
    measured,
)
from hemo.shards.reader import CURATE_AGAIN, checked_parquet
from hemo.storage import exists, join, read_json, write_bytes, write_json
from hemo.training.data.dataset import read_split, select_examples, task_classes, with_target
from hemo.training.data.streaming import read_parts
from hemo.training.distributed import Worker, use_processors
from hemo.training.evaluate import predict_logits
from hemo.training.reporting import report_out_of_memory
from hemo.trials.checks import check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.make_record import split_predictions
from hemo.trials.predictions import Scores, split_rows, split_scores
from hemo.trials.record import TrialRecord, now, read_predictions, versions, write_predictions

RECORDS, SETS = "records", "sets"
"""Folders below `out`: of the trials, and of the splits."""

UNSEEN = "holdout.parquet"
"""Beside a trial's record: its predictions of the patients whom no split uses."""


def measure_leaks(config: LeaksConfig) -> str:
    """Train one cell under each split and write what its leak is worth; what is finished is not done again.

    No image is copied: a split is a list of rows of the training set. Ray is connected to only for training.

    Returns:
        The folder: `leaks.md`, `leaks.csv`, `card.json`, `sets/SPLIT` and `records`.

    Raises:
        UserError: If the images cannot be split anew by patient, there is nothing to leak, patients are too few for
            intervals, or the trial cannot work.
        HemoError: If a trial failed.
    """
    base = read_card(config.training_set)
    require_splittable(base)
    config = config.model_copy(update={"trial": with_target(config.trial, base)})
    check_tracking(config.tracking, join(config.out, RECORDS))
    check_trials({"": config.trial}, base)
    settings = _deciding(config, base)
    digest = digest_of({"schema": LEAKS_SCHEMA_VERSION, **settings})
    if _is_complete(config.out, settings, digest):
        print_line(f"leaks: {config.out} is complete")
        return config.out
    with output_lock(config.out) as require_held:
        rows = _measure(config, base)
        classes = task_classes(config.trial, base)
        card = LeaksCard(
            digest=digest,
            config=settings,
            training_set=base.digest,
            trial=title(config.trial),
            classes=classes,
            rows=tuple(rows),
            conclusions=conclusions(rows),
            versions=versions(),
            finished=now(),
        )
        require_held()
        write_bytes(join(config.out, TABLE), markdown("What each leak is worth", _facts(card, base), rows).encode())
        write_bytes(join(config.out, VALUES), csv_text(rows).encode())
        write_json(join(config.out, "card.json"), card.model_dump(mode="json"))
    return config.out


def _deciding(config: LeaksConfig, base: TrainingSetCard) -> dict[str, Any]:
    """Return all that decides the result, dotted; of starting weights in a file their content."""
    key = TrialKeys(config.out, base.digest).key(config.trial)
    fields = ("holdout_fraction", "val_fraction", "test_fraction", "split_seed", "seeds", "shuffled_labels")
    trial = {f"trial.{name}": value for name, value in flattened(config.trial.deciding())}
    return {
        "training_set": base.digest,
        **{name: getattr(config, name) for name in fields},
        **trial,
        "trial.model.weights": key.weights,
    }


def _is_complete(out: str, settings: dict[str, Any], digest: str) -> bool:
    """Tell whether `out` has this table already.

    Raises:
        OutputError: If it has that of other settings, or the card of something else.
    """
    if not exists(join(out, "card.json")):
        return False
    card = read_json(join(out, "card.json"))
    if not isinstance(card, dict) or card.get("schema_version") != LEAKS_SCHEMA_VERSION or "rows" not in card:
        raise OutputError(f"out: {out} holds the card of something else; give another folder")
    if differing := differences(card["config"], settings):
        raise OutputError(f"out: {out} holds leaks measured otherwise ({differing}); give another folder")
    return bool(card["digest"] == digest)


def _facts(card: LeaksCard, base: TrainingSetCard) -> list[tuple[str, str]]:
    seeds = card.config["seeds"]
    return [
        ("Trial", card.trial),
        ("Classes", ", ".join(card.classes)),
        ("Training set", f"{base.digest}, all its splits together"),
        ("Trainings of each split", str(seeds)),
        ("Reductions", "; ".join(base.reductions) or "none"),
        ("Finished", card.finished[:10]),
    ]


def _measure(config: LeaksConfig, base: TrainingSetCard) -> list[LeakRow]:
    """Split, train what is not trained yet, and evaluate."""
    classes = task_classes(config.trial, base)
    pool = _pool_of(config.training_set, base, classes)
    skipped = nothing_to_leak(pool)
    arms = make_arms(config, pool, tuple(skipped))
    for arm in arms:
        if not arm.shuffled:
            require_patients(pool, arm, classes)
    images = {part: len(arms[0].images(part)) for part in ("train", "holdout")}
    print_line(
        f"leaks: {len(arms)} splits x {config.seeds} trainings on {images['train']:,} of {len(pool.group):,} images; "
        f"{images['holdout']:,} images of patients whom none of them meets"
    )
    cards = {arm.name: arm_card(base, config, pool, arm, classes) for arm in arms}
    for arm in arms:
        write_resplit(join(config.out, SETS, arm.name), cards[arm.name], arm_rows(pool, arm, classes))
    with connected(config.cluster):
        rows = [_measure_arm(config, pool, arm, cards[arm.name]) for arm in arms]
    true = [row for row in rows if not row.shuffled]
    unmeasured = [LeakRow(rule=rule, reason=reason) for rule, reason in skipped.items()]
    return [*unmeasured, *true, *(row for row in rows if row.shuffled)]


def _pool_of(training_set: str, base: TrainingSetCard, classes: tuple[str, ...]) -> Pool:
    """Return the images of all splits of a training set."""
    tables = [read_parts(training_set, split, base, POOL_COLUMNS)[1] for split in SPLITS]
    table = pa.concat_tables(tables)
    if not exists(join(training_set, AUDIT)):
        raise SourceError(f"{training_set} has no {AUDIT}; {CURATE_AGAIN}")
    with checked_parquet(join(training_set, AUDIT), CURATE_AGAIN) as file:
        audit = file.read()
    return read_pool(table.append_column("row", pa.array(np.arange(len(table)))), audit, classes)


def _measure_arm(config: LeaksConfig, pool: Pool, arm: Arm, card: TrainingSetCard) -> LeakRow:
    """Train an arm's seeds, predict the unseen patients with each, and compare."""
    folder, records_folder = join(config.out, SETS, arm.name), join(config.out, RECORDS)
    print_line(f"leaks: {arm.name}")
    shared = config.model_dump(include={"concurrent", "retries", "feed", "workers", "tracking", "cluster"})
    grid = GridConfig(cells=({"name": arm.name},), repeats=config.seeds)
    job = TuneConfig(training_set=folder, out=records_folder, trial=config.trial, grid=grid, **shared)
    records = tune_models(job)
    if failed := [record for record in records if record.status != "complete"]:
        raise TrialError(
            f"{len(failed)} of {len(records)} trials of {arm.name} failed; the first: {failed[0].reason}; run it again"
        )
    keys = TrialKeys(records_folder, card.digest)
    _predict_unseen([(keys.key(record.config), record) for record in records], job, folder)
    seeds = [_scores(records_folder, record, pool) for record in records]
    learned = np.concatenate([arm.images("train"), arm.images("val")])
    tested, pixels = arm.images("test"), pool.pixels
    return LeakRow(
        rule=arm.rule,
        shuffled=arm.shuffled,
        seeds=tuple(record.config.seed for record in records),
        records=tuple(record.digest for record in records),
        images={part: len(arm.images(part)) for part in PARTS},
        patients={part: len(np.unique(pool.group[arm.images(part)])) for part in PARTS},
        positives={part: tuple(arm.labels[arm.images(part)].sum(axis=0).tolist()) for part in PARTS},
        patients_of_train=len(np.intersect1d(pool.group[tested], pool.group[learned])),
        equal_images=int(np.isin(pixels[tested], np.setdiff1d(pixels[learned], [-1])).sum()),
        **measured(seeds),
    )


def _predict_unseen(trials: Sequence[tuple[TrialKey, TrialRecord]], job: TuneConfig, folder: str) -> None:
    """Predict the hold-out with each trial's checkpoint, beside its record, unless that was done before.

    Raises:
        UserError: If a checkpoint or the images are gone or damaged.
        TrialError: If a batch does not fit into memory.
    """
    missing = [(key, record) for key, record in trials if not exists(join(key.folder, UNSEEN))]
    if not missing:
        return
    gpus = gpus_per_trial_worker(job)
    task = ray.remote(num_cpus=job.workers.cpus, num_gpus=gpus)(_predict_holdout)
    worker = trial_worker(job, gpus)
    for problem in ray.get([task.remote(key, record, folder, worker) for key, record in missing]):
        if problem is not None:
            raise problem


def _predict_holdout(key: TrialKey, record: TrialRecord, folder: str, worker: Worker) -> HemoError | None:
    """Write one trial's predictions of the hold-out; raised, an error would come with a traceback in its text."""
    try:
        card = read_card(folder)
        examples = select_examples(read_split(folder, "holdout", card, streaming=True), record.config, card)
        module, checkpoint = load_checkpoint(key.checkpoint)
        batch_size = record.config.training.images_at_once(worker.count)
        use_processors(worker)
        with report_out_of_memory(batch_size, TrialError):
            model = module.to(torch.device(worker.device))
            logits = predict_logits(model, examples, checkpoint.normalisation, batch_size, worker)
    except HemoError as error:
        return error
    write_predictions(join(key.folder, UNSEEN), split_predictions("holdout", examples, logits.cpu().numpy()))
    return None


def _scores(folder: str, record: TrialRecord, pool: Pool) -> SeedScores:
    """Return a trial's predictions of its own test and of the unseen patients, by linked patient."""
    own = read_predictions(folder, record.digest)
    unseen = read_predictions(folder, record.digest, UNSEEN)
    return SeedScores(_by_group(own, "test", record, pool), _by_group(unseen, "holdout", record, pool))


def _by_group(predictions: pa.Table, split: str, record: TrialRecord, pool: Pool) -> Scores:
    scores = split_scores(predictions, split, record)
    assert scores is not None  # `require_patients` has seen its images
    image = pc.index_in(split_rows(predictions, split)["image_id"].combine_chunks(), value_set=pool.image_ids)
    return replace(scores, patients=np.unique(pool.group[image.to_numpy()], return_inverse=True)[1])
