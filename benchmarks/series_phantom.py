"""Slices alone against a sequence model on synthetic studies in which a neighbour decides, over seeds.

Each seed has a slice model, its embeddings by `hemo embed`, and two sequence models on them: one that reads vectors and
probabilities, as `hemo embed --checkpoint` stores them, and one that reads the same vectors without (`--backbone
--weights`). All are tested on the same patients. Differences of AUROC are paired by patient and seed; their 95 %
intervals contain the variation over patients and over seeds, that of the slice model included.

    python benchmarks/series_phantom.py --training_set runs/series/training_set --out runs/series/compared --seeds 3
"""

import argparse

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

import hemo
from hemo.config.curate import SPLITS
from hemo.config.trial import AugmentConfig, ModelConfig, SeriesConfig, TrainingConfig, TrialConfig
from hemo.curation.card import read_card
from hemo.inference.studies import study_probabilities
from hemo.stats.auroc import Auroc, auroc, mean_over_seeds
from hemo.stats.crossed import Measured, measured_auroc, seed_variance
from hemo.stats.intervals import combined_degrees, difference_interval
from hemo.training.data.dataset import read_training_set, stored_rows
from hemo.training.distributed import Worker
from hemo.training.reporting import run_to_end
from hemo.trials.checks import check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.predictions import matrix
from hemo.trials.record import STUDY_PREDICTIONS, TrialRecord, read_predictions
from hemo.trials.run import run_trial

BACKBONE = "resnet10t"
READS = {"vectors": "the vectors alone", "probabilities": "vectors and probabilities"}
Pairs = dict[str, tuple[list[Auroc], list[Auroc]]]
"""Row of a table -> AUROC of both sides, one a seed."""


def slice_trial(seed: int) -> TrialConfig:
    """Return a small network of one slice at a time."""
    training = TrainingConfig(epochs=10, batch_size=16, learning_rate=1e-3, loss="rsna", patience=10)
    model, augment = ModelConfig(backbone=BACKBONE, dropout=0.2), AugmentConfig(horizontal_flip=0.5)
    return TrialConfig(
        name="slices alone", task="multi_label", model=model, training=training, augment=augment, seed=seed
    )


def sequence_trial(seed: int, embeddings: str, backbone: str) -> TrialConfig:
    """Return a sequence model on its embeddings."""
    training = TrainingConfig(
        epochs=40, batch_size=4, learning_rate=1e-3, loss="rsna", patience=40, schedule="cosine", optimizer="adamw"
    )
    model = ModelConfig(backbone=backbone, dropout=0.3, series=SeriesConfig(embeddings=embeddings))
    return TrialConfig(name=backbone, task="multi_label", model=model, training=training, seed=seed)


def run(config: TrialConfig, training_set: str, records: str) -> tuple[TrialKey, TrialRecord]:
    """Run a trial to its record in this process."""
    card = read_card(training_set)
    check_trials({"": config}, card)
    key = TrialKeys(records, card.digest).key(config)
    worker = Worker(threads=torch.get_num_threads())
    data = read_training_set(training_set, streaming=config.model.is_sequence)
    return key, run_to_end(run_trial(key, training_set, worker=worker, data=data))


def embed(training_set: str, checkpoint: str, folder: str, reads: str) -> str:
    """Write the slice model's vectors of all images, with its probabilities or without, by the job `embed`."""
    encoder = {"checkpoint": checkpoint} if reads == "probabilities" else {"backbone": BACKBONE, "weights": checkpoint}
    return hemo.embed(source=training_set, out=folder, **encoder).path


def of_test(key: TrialKey, name: str = "predictions.parquet") -> pa.Table:
    """Return the predictions of test, by image."""
    table = read_predictions(key.records, key.digest, name)
    return table.filter(pc.equal(table["split"], "test")).sort_by("image_id")


def area(rows: pa.Table, scores: NDArray[np.floating], columns: list[int]) -> Auroc:
    """Return the mean AUROC of some classes."""
    patients = np.unique(rows["patient"].to_pylist(), return_inverse=True)[1]
    found = auroc(scores[:, columns], matrix(rows, "labels")[:, columns], patients)
    assert found is not None
    return found


def pooled(key: TrialKey, record: TrialRecord, places: pa.Table, studies: pa.Table, way: str) -> NDArray[np.float64]:
    """Return max or noisy-or of the slices of each study, (studies, classes), in the order of `studies`."""
    rows = of_test(key)
    study = places["study"].take(pc.index_in(rows["image_id"], value_set=places["image_id"]))
    table = rows.select(["image_id", "patient"]).append_column("study", study)
    probabilities = 1 / (1 + np.exp(-matrix(rows, "logits").astype(np.float64)))
    for column, name in enumerate(record.classes):
        table = table.append_column(f"probability_{name}", pa.array(probabilities[:, column]))
    found = study_probabilities(table, record.classes)
    found = found.take(pc.index_in(studies["image_id"], value_set=found["study"]))
    return np.stack([found[f"{way}_{name}"].to_numpy() for name in record.classes], axis=1)


def line(what: str, first: list[Auroc], second: list[Auroc]) -> str:
    """Return a row of a table: both means over seeds with intervals, and the paired difference of `second`."""
    sides = [measured_auroc(each) for each in (first, second)]
    paired = Measured(
        sides[1].values - sides[0].values,
        sides[1].deviations - sides[0].deviations,
        sides[0].at_limit + sides[1].at_limit,
    )
    means = [mean_over_seeds(each) for each in (first, second)]
    shown = [f"{mean.value:.3f} ({text_of(mean, side)})" for mean, side in zip(means, sides, strict=True)]
    mean, from_seeds, noise, seed_degrees = over_seeds(paired)
    variance = float(mean.variances[0])
    degrees = Auroc(0.0, means[1].contributions - means[0].contributions, means[0].fractions).degrees
    if seed_degrees:
        degrees = float(combined_degrees(variance, degrees, from_seeds, noise, seed_degrees))
    difference = difference_interval(float(mean.values[0]), variance + from_seeds, degrees)
    by_seed = ", ".join(f"{value:+.3f}" for value in paired.values)
    ends = " to ".join(f"{end:+.3f}" for end in difference.ends or ())
    return f"| {what} | {shown[0]} | {shown[1]} | {difference.value:+.3f} ({ends}) | {by_seed} |"


def over_seeds(measured: Measured) -> tuple[Measured, float, float, float]:
    """Return the mean over seeds, its variance over them, the noise subtracted from that, and degrees of freedom."""
    one_cell = np.zeros(len(measured.values), np.int64)
    seeds = seed_variance(measured, one_cell)
    return measured.means(one_cell), float(seeds.of_means[0]), float(seeds.noise[0] / seeds.seeds[0]), seeds.degrees


def text_of(mean: Auroc, side: Measured) -> str:
    """Return the interval of a mean over seeds."""
    return "-".join(f"{end:.3f}" for end in mean.interval(*over_seeds(side)[1:]).ends or ())


def main() -> None:
    """Run all trials that have no record yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training_set", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="BiGRU(64)")
    given = parser.parse_args()
    card = read_card(given.training_set)
    places = stored_rows(given.training_set, "test", card, ("study",))[1]
    hemo.connect()
    against_slices: Pairs = {}
    against_vectors: Pairs = {}
    for seed in range(given.seeds):
        slices, record = run(slice_trial(seed), given.training_set, f"{given.out}/records")
        sequences = {}
        for reads in READS:
            folder = embed(given.training_set, slices.checkpoint, f"{given.out}/{reads}-{seed}", reads)
            sequences[reads] = run(sequence_trial(seed, folder, given.backbone), given.training_set, slices.records)
        print_seed(seed, {"slices": record, **{READS[reads]: trial[1] for reads, trial in sequences.items()}})
        keys = {reads: trial[0] for reads, trial in sequences.items()}
        compare_with_slices(against_slices, slices, record, keys["probabilities"], places)
        compare_inputs(against_vectors, record, keys)
    print_table("slices alone", "sequence model", against_slices)
    print_table("from vectors alone", "with probabilities", against_vectors)
    counts = ", ".join(f"{name} {card.splits[name].rows:,}" for name in SPLITS)
    print(f"\nimages: {counts}; patients: {', '.join(f'{name} {card.splits[name].patients}' for name in SPLITS)}")


def print_seed(seed: int, records: dict[str, TrialRecord]) -> None:
    """Print what the trials of a seed took and reached."""
    for name, record in records.items():
        loss = record.metrics["test"]["log_loss"]
        ways = {way: each.metrics["auroc"] for way, each in record.study_metrics.get("test", {}).items()}
        studies = "".join(f", {way} {value:.3f}" for way, value in ways.items())
        print(
            f"seed {seed}, {name}: {record.seconds:.0f} s, best epoch {record.best_epoch}, log loss of test {loss:.3f}"
            f"{studies}",
            flush=True,
        )


def columns_of(classes: tuple[str, ...]) -> dict[str, list[int]]:
    """Return which classes are averaged: name -> columns."""
    extra = [k for k, name in enumerate(classes) if name in ("epidural", "subdural")]
    return {"any": [classes.index("any")], "epidural and subdural": extra, "all classes": list(range(len(classes)))}


def compare_with_slices(
    pairs: Pairs, slices: TrialKey, record: TrialRecord, sequence: TrialKey, places: pa.Table
) -> None:
    """Append the AUROC of slices alone and of the sequence model, of one seed."""
    rows, studies = of_test(slices), of_test(sequence, STUDY_PREDICTIONS)
    of_slices = [matrix(of_test(key), "logits") for key in (slices, sequence)]
    own = matrix(studies, "logits")
    by_way = {way: pooled(slices, record, places, studies, way) for way in ("max", "noisy_or")}
    for what, columns in columns_of(record.classes).items():
        append(pairs, f"slice, {what}", [area(rows, scores, columns) for scores in of_slices])
        for way, scores in by_way.items():
            both = [area(studies, each, columns) for each in (scores, own)]
            append(pairs, f"study, {what}; slices alone by {way}", both)


def compare_inputs(pairs: Pairs, record: TrialRecord, keys: dict[str, TrialKey]) -> None:
    """Append the AUROC of the sequence models without and with probabilities, of one seed."""
    for name, file in {"slice": "predictions.parquet", "study": STUDY_PREDICTIONS}.items():
        tables = [of_test(keys[reads], file) for reads in READS]
        for what, columns in columns_of(record.classes).items():
            append(pairs, f"{name}, {what}", [area(rows, matrix(rows, "logits"), columns) for rows in tables])


def append(pairs: Pairs, row: str, both: list[Auroc]) -> None:
    """Append one seed to a row."""
    for values, value in zip(pairs.setdefault(row, ([], [])), both, strict=True):
        values.append(value)


def print_table(first: str, second: str, pairs: Pairs) -> None:
    """Print a table of AUROC on test."""
    print(f"\n| AUROC on test | {first} | {second} | difference | by seed |\n| --- | --- | --- | --- | --- |")
    for what, both in pairs.items():
        print(line(what, *both))


if __name__ == "__main__":
    main()
