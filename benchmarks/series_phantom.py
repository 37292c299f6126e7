"""Slices alone against a sequence model on synthetic studies in which a neighbour decides, over seeds.

One slice model, its embeddings, and a sequence model on them from each seed; all are tested on the same patients.
Differences of AUROC are paired and have 95 % intervals over patients, of the mean over seeds of the sequence model.

    python benchmarks/series_phantom.py --training_set runs/series/training_set --out runs/series/compared --seeds 3
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from hemo.config.curate import SPLITS
from hemo.config.trial import AugmentConfig, ModelConfig, SeriesConfig, TrainingConfig, TrialConfig
from hemo.curation.card import TrainingSetCard, read_card
from hemo.inference.studies import study_probabilities
from hemo.models.encoder import checkpoint_encoder
from hemo.shards.embeddings import VECTOR, EmbeddingsCard, part_name
from hemo.stats.auroc import Auroc, auroc, mean_over_seeds
from hemo.stats.intervals import difference_interval
from hemo.storage import write_json
from hemo.training.data.dataset import read_training_set, stored_rows
from hemo.training.distributed import Worker
from hemo.training.reporting import run_to_end
from hemo.trials.checks import check_trials
from hemo.trials.key import TrialKey, TrialKeys
from hemo.trials.predictions import matrix
from hemo.trials.record import STUDY_PREDICTIONS, TrialRecord, read_predictions
from hemo.trials.run import run_trial

BATCH = 128


def slice_trial() -> TrialConfig:
    """Return a small network of one slice at a time."""
    training = TrainingConfig(epochs=10, batch_size=16, learning_rate=1e-3, loss="rsna", patience=10)
    model, augment = ModelConfig(backbone="resnet10t", dropout=0.2), AugmentConfig(horizontal_flip=0.5)
    return TrialConfig(name="slices alone", task="multi_label", model=model, training=training, augment=augment)


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
    return key, run_to_end(run_trial(key, training_set, worker=Worker(threads=torch.get_num_threads())))


def embed(training_set: str, checkpoint: str, folder: str, digest: str) -> str:
    """Write the slice model's vectors of all images as `hemo embed` does, a part a split, without Ray."""
    encoder, card = checkpoint_encoder(checkpoint, "gap", "cpu"), read_card(training_set)
    data, rows = read_training_set(training_set), 0
    Path(folder, "embeddings").mkdir(parents=True, exist_ok=True)
    for number, images in enumerate((data.train, data.val, data.test)):
        pixels = images.images.pixels
        batches = [encoder.features(torch.from_numpy(pixels[k : k + BATCH])) for k in range(0, len(pixels), BATCH)]
        vectors = torch.cat(batches).flatten(1).numpy().astype(np.float32)
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        pq.write_table(
            pa.table({"image_id": pa.array(images.image_id), VECTOR: values}), Path(folder, part_name(number))
        )
        rows += len(vectors)
    write_json(f"{folder}/card.json", _embeddings_card(card, digest, rows, vectors.shape[1]).model_dump(mode="json"))
    return folder


def _embeddings_card(card: TrainingSetCard, digest: str, rows: int, dimension: int) -> EmbeddingsCard:
    return EmbeddingsCard(
        source=card.digest,
        inputs={"training_set": card.digest, "record": digest},
        backbone="resnet10t",
        pooling="gap",
        channels=card.channels,
        height_px=card.height_px,
        width_px=card.width_px,
        side_px=0,
        mean=(0.5,) * len(card.channels),
        std=(0.25,) * len(card.channels),
        dimension=dimension,
        dtype="float32",
        rows=rows,
        parts=len(SPLITS),
    )


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
    """Return a row of the table: both means over seeds with intervals, and the paired difference of `second`."""
    means = [mean_over_seeds(each) for each in (first, second)]
    paired = Auroc(means[1].value - means[0].value, means[1].contributions - means[0].contributions, means[0].fractions)
    difference = difference_interval(paired.value, paired.variance, paired.degrees)
    shown = [f"{mean.value:.3f} ({'-'.join(f'{end:.3f}' for end in mean.interval().ends or ())})" for mean in means]
    by_seed = ", ".join(f"{b.value - a.value:+.3f}" for a, b in zip(first, second, strict=True))
    ends = " to ".join(f"{end:+.3f}" for end in difference.ends or ())
    return f"| {what} | {shown[0]} | {shown[1]} | {paired.value:+.3f} ({ends}) | {by_seed} |"


def main() -> None:
    """Run all trials that have no record yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training_set", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="BiGRU(64)")
    given = parser.parse_args()
    records, card = f"{given.out}/records", read_card(given.training_set)
    places = stored_rows(given.training_set, "test", card, ("study",))[1]
    pairs: dict[str, tuple[list[Auroc], list[Auroc]]] = {}
    slices, record = run(slice_trial(), given.training_set, records)
    folder = f"{given.out}/embeddings"
    if not Path(folder, "card.json").exists():
        embed(given.training_set, slices.checkpoint, folder, slices.digest)
    for seed in range(given.seeds):
        sequence, learned = run(sequence_trial(seed, folder, given.backbone), given.training_set, records)
        print(f"seed {seed}: slices {record.seconds:.0f} s, sequence {learned.seconds:.0f} s of training", flush=True)
        rows, studies = of_test(slices), of_test(sequence, STUDY_PREDICTIONS)
        logits = [matrix(of_test(key), "logits") for key in (slices, sequence)]
        own, extra = (
            matrix(studies, "logits"),
            [k for k, name in enumerate(record.classes) if name in ("epidural", "subdural")],
        )
        for what, columns in {
            "any": [record.classes.index("any")],
            "epidural and subdural": extra,
            "all classes": list(range(len(record.classes))),
        }.items():
            of_slices = pairs.setdefault(f"slice, {what}", ([], []))
            for aucs, scores in zip(of_slices, logits, strict=True):
                aucs.append(area(rows, scores, columns))
            for way in ("max", "noisy_or"):
                of_studies = pairs.setdefault(f"study, {what}; slices alone by {way}", ([], []))
                of_studies[0].append(area(studies, pooled(slices, record, places, studies, way), columns))
                of_studies[1].append(area(studies, own, columns))
    print("| AUROC on test | slices alone | sequence model | difference | by seed |\n| --- | --- | --- | --- | --- |")
    for what, (first, second) in pairs.items():
        print(line(what, first, second))
    counts = ", ".join(f"{name} {card.splits[name].rows:,}" for name in SPLITS)
    print(f"images: {counts}; patients: {', '.join(f'{name} {card.splits[name].patients}' for name in SPLITS)}")


if __name__ == "__main__":
    main()
