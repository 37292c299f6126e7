"""Which slices carried a sequence model's decision on a study: probability and support by position."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hemo.config.inference import ExplainConfig
from hemo.errors import ConfigError, SourceError, first_names
from hemo.imaging.image import displayed
from hemo.inference.explain import CASES, DOTS_PER_INCH, class_index, log_loss, require_own
from hemo.inference.predict import StoredImages, checkpoint_digest, find_images, stored_batches, stored_columns
from hemo.inference.sequence import predict_studies, require_same_encoder
from hemo.models.checkpoint import CheckpointCard, load_sequence_checkpoint
from hemo.models.weight_files import find_checkpoint
from hemo.output_lock import output_lock
from hemo.shards.embeddings import read_card, read_sequence_inputs
from hemo.shards.schema import ID_COLUMNS
from hemo.storage import join, write_bytes, write_json

LEADING = 6
"""Slices of a study that are shown: those of the largest support, for or against."""

WIDTH_INCHES = 9.0
FOR, AGAINST = "#b2182b", "#2166ac"
"""Colours of support, which the colour-blind see as different; signs differ as well."""

Study = tuple[str, str | None]
"""Name, and patient or None: patients may have studies of the same name."""


def explain_studies(config: ExplainConfig) -> list[dict[str, Any]]:
    """Write one picture per study, and `cases.json` below `out`.

    A study is the slices of it that `images` has; each needs a vector.

    Returns:
        The cases as `cases.json` lists them: `file`, `image_id` (the study's name), `patient`, `class`, `label`,
        `probability` (the model's own of the study), `loss`, and `slices`: `image_id`, `series`, `position_mm`,
        `label`, `probability` and `support` (see `hemo.inference.sequence.support`) of those shown, from the lowest
        position.

    Raises:
        SourceError: If checkpoint, images or embeddings are missing, a slice has no vector, or no study has a label.
        ConfigError: If images or embeddings are not those the checkpoint takes, or a class or study is not known.
        OutputError: If `out` cannot be written, holds other explanations, or another run is writing there.
    """
    checkpoint = find_checkpoint(config.checkpoint)
    model, card, embedded_by = load_sequence_checkpoint(checkpoint)
    target = card.classes[class_index(card, config.target)]
    stored = find_images(config.images, card, config.from_split)
    embeddings = config.embeddings or card.model.series.embeddings
    require_same_encoder(f"embeddings: {embeddings}", read_card(embeddings), embedded_by)
    fields = {"images", "from_split", "target", "image_ids", "highest_loss"}
    inputs = {
        "checkpoint": checkpoint_digest(checkpoint),
        "embeddings": read_card(embeddings).inputs,
        **config.model_dump(mode="json", include=fields),
    }
    with output_lock(config.out):
        require_own(config.out, inputs)
        rows = _labelled_rows(stored, target)
        vectors = _vectors(rows, embeddings, stored.folder)
        slices, studies, _ = predict_studies(model, card, rows.select(ID_COLUMNS), vectors, config.batch_size)
        places = pc.index_in(slices["image_id"], value_set=rows["image_id"].combine_chunks())
        slices = slices.append_column("label", rows["label"].take(places))
        chosen, study_of = _chosen(slices, studies, target, config), _studies(slices)
        own = [slices.filter(pa.array([each == study for each in study_of])) for study, _ in chosen]
        cases = [_case(of_study, *each, target) for of_study, each in zip(own, chosen, strict=True)]
        images = _images(stored, card, {each["image_id"] for case in cases for each in case["slices"]})
        for number, (case, of_study) in enumerate(zip(cases, own, strict=True), start=1):
            case["file"] = f"case-{number:03d}.png"
            write_bytes(join(config.out, case["file"]), study_png(of_study, case, images))
        write_json(join(config.out, CASES), {"inputs": inputs, "cases": cases})
    return cases


def _labelled_rows(stored: StoredImages, target: str) -> pa.Table:
    """Return `ID_COLUMNS` of all images, and their `label`, null where it is unknown."""
    name = f"label_{target}"
    if target not in stored.classes:
        rows = stored_columns(stored.folder, ID_COLUMNS)
        return rows.append_column("label", pa.nulls(len(rows), pa.int8()))
    return stored_columns(stored.folder, (*ID_COLUMNS, name)).rename_columns([*ID_COLUMNS, "label"])


def _vectors(rows: pa.Table, embeddings: str, folder: str) -> NDArray[np.float32]:
    """Return the vector of each row."""
    known, vectors = read_sequence_inputs(embeddings)
    found = pc.index_in(rows["image_id"], value_set=known["image_id"].combine_chunks())
    if found.null_count:
        lacking = rows["image_id"].filter(pc.is_null(found)).to_pylist()
        raise SourceError(
            f"embeddings: {embeddings} has no vector of {len(lacking):,} of {len(rows):,} images of {folder} "
            f"({first_names(lacking)}); embed these images"
        )
    taken: NDArray[np.float32] = vectors[found.to_numpy()]
    return taken


def _studies(slices: pa.Table) -> list[Study]:
    """Return the study of each slice."""
    names = pc.coalesce(slices["study"], slices["series"])
    return list(zip(names.to_pylist(), slices["patient"].to_pylist(), strict=True))


def _chosen(slices: pa.Table, studies: pa.Table, target: str, config: ExplainConfig) -> list[tuple[Study, float]]:
    """Return the studies that are named, of every patient, or those with the highest loss, and their probability.

    Raises:
        ConfigError: If a study is not there.
        SourceError: If none has a label.
    """
    keys = zip(studies["study"].to_pylist(), studies["patient"].to_pylist(), strict=True)
    probability: dict[Study, float] = dict(zip(keys, studies[f"probability_{target}"].to_pylist(), strict=True))
    if config.image_ids:
        names = {name for name, _ in probability}
        missing = [name for name in config.image_ids if name not in names]
        if missing:
            raise ConfigError(f"image_ids: {missing[0]!r} is no study of {config.images} ({len(missing)} missing)")
        return [(study, probability[study]) for name in config.image_ids for study in probability if study[0] == name]
    labels: dict[Study, list[int | None]] = {}
    for study, label in zip(_studies(slices), slices["label"].to_pylist(), strict=True):
        labels.setdefault(study, []).append(label)
    known = {study: label for study, of_slices in labels.items() if (label := label_of_study(of_slices)) is not None}
    if not known:
        raise SourceError(f"images: no study of {config.images} has a label of {target}; give image_ids, their names")
    losses = log_loss(np.array([probability[study] for study in known]), np.array(list(known.values())))
    hardest = sorted(zip(-losses, known, strict=True), key=lambda pair: (pair[0], pair[1][0], pair[1][1] or ""))
    return [(study, probability[study]) for _, study in hardest[: config.highest_loss]]


def label_of_study(of_slices: list[int | None]) -> int | None:
    """Return 1 if a slice has the class, 0 if all slices are known not to, None otherwise."""
    return 1 if 1 in of_slices else (None if None in of_slices else 0)


def _case(slices: pa.Table, study: Study, probability: float, target: str) -> dict[str, Any]:
    """Return the entry of a study in `cases.json`, without its file."""
    label = label_of_study(slices["label"].to_pylist())
    support = slices[f"support_{target}"].to_numpy()
    leading = np.sort(np.argsort(-np.abs(support), kind="stable")[:LEADING])
    shown = slices.take(leading)
    names = {"probability": f"probability_{target}", "support": f"support_{target}"}
    columns = {name: shown[names.get(name, name)] for name in ("image_id", "series", "position_mm", "label", *names)}
    loss = None if label is None else float(log_loss(np.array([probability]), np.array([label]))[0])
    return {
        "file": "",
        "image_id": study[0],
        "patient": study[1],
        "class": target,
        "label": label,
        "probability": probability,
        "loss": loss,
        "slices": pa.table(columns).to_pylist(),
    }


def _images(stored: StoredImages, card: CheckpointCard, wanted: set[str]) -> dict[str, NDArray[np.uint8]]:
    """Return the images with these ids."""
    found = {}
    for rows, images in stored_batches(stored.folder, card, ["image_id"]):
        for row, name in enumerate(rows["image_id"].to_pylist()):
            if name in wanted:
                found[name] = images[row].copy()
    return found


def study_png(slices: pa.Table, case: dict[str, Any], images: dict[str, NDArray[np.uint8]]) -> bytes:
    """Draw probability and support of a study's slices by position, a colour a series, and its leading slices below.

    Args:
        slices: `series`, `position_mm`, `label`, and `probability_NAME` and `support_NAME` of the case's class.
        case: As in `cases.json`.
        images: Of the slices to show, by id, (channels, height_px, width_px).

    Returns:
        PNG.
    """
    figure = Figure(figsize=(WIDTH_INCHES, 6.4), dpi=DOTS_PER_INCH, layout="constrained")
    label = "no label" if case["label"] is None else f"label {case['label']}"
    patient = "not known" if case["patient"] is None else case["patient"]
    title = f"{case['class']}: {label}, probability of the study {case['probability']:.3f}"
    figure.suptitle(f"{case['image_id']}\npatient {patient}, {title}", fontsize=10, parse_math=False)
    curves, shown_slices = figure.subfigures(2, 1, height_ratios=(3.2, 2.2), squeeze=False)[:, 0]
    above, below = curves.subplots(2, 1, sharex=True)
    _draw_series(above, below, slices, case["class"])
    shown = shown_slices.subplots(1, LEADING, squeeze=False)[0]
    for each in shown:
        each.set_axis_off()
    for axes, leading in zip(shown, case["slices"], strict=False):
        axes.imshow(displayed(images[leading["image_id"]]), cmap="gray", vmin=0, vmax=255)
        known = "" if leading["label"] is None else f", label {leading['label']}"
        text = (
            f"{leading['position_mm']:.1f} mm{known}\np {leading['probability']:.2f}, support {leading['support']:+.2f}"
        )
        axes.set_title(text, fontsize=7, color=FOR if leading["support"] > 0 else AGAINST)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw_series(above: Axes, below: Axes, slices: pa.Table, target: str) -> None:
    """Draw probabilities as lines, a line a series, labelled slices as triangles at the top, support as bars."""
    series, position = (
        pc.fill_null(slices["series"], "").to_numpy(zero_copy_only=False),
        slices["position_mm"].to_numpy(),
    )
    probability, support = (slices[f"{kind}_{target}"].to_numpy() for kind in ("probability", "support"))
    positive = pc.fill_null(pc.equal(slices["label"], 1), fill_value=False).to_numpy(zero_copy_only=False)
    width_mm = 0.7 * _smallest_gap_mm(position)
    for name in dict.fromkeys(series.tolist()):
        own = series == name
        above.plot(position[own], probability[own], marker=".", linewidth=1, label=name)
    above.scatter(position[positive], np.full(positive.sum(), 1.06), marker="v", color="black", s=18, clip_on=False)
    above.set_ylim(0, 1.1)
    above.set_ylabel(f"probability\n(▼ label {target})", fontsize=8, parse_math=False)
    if len(set(series.tolist())) > 1:
        above.legend(fontsize=7, title="series", title_fontsize=7)
    below.bar(position, support, width=width_mm, color=np.where(support > 0, FOR, AGAINST))
    below.axhline(0, color="black", linewidth=0.6)
    below.set_ylabel("support\n(logit of the study)", fontsize=8)
    below.set_xlabel("position along the normal of the slices (mm)", fontsize=8)
    for axes in (above, below):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)


def _smallest_gap_mm(position: NDArray[np.float32]) -> float:
    """Return the smallest distance of two positions, 1 where there is one position."""
    gaps = np.diff(np.unique(position))
    return float(gaps.min()) if len(gaps) else 1.0
