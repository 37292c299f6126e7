import json
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hemo.cluster.convert import job
from hemo.cluster.convert.tasks import convert_batch
from hemo.cluster.predict import predict_corpus, submission_csv
from hemo.cluster.predict_images import Row, decode_unit
from hemo.config.convert import ConvertConfig
from hemo.config.inference import PredictConfig
from hemo.config.trial import ModelConfig
from hemo.corpus.labels import RSNA_CLASSES
from hemo.corpus.source_file import SourceFile
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.imaging.settings import IMAGE_PATH_VERSIONS
from hemo.models.checkpoint import CheckpointCard, read_checkpoint_card, write_checkpoint
from hemo.models.classifier import build_model
from hemo.output_lock import output_lock
from hemo.shards.card import read_card
from hemo.shards.manifest import Unit
from hemo.shards.schema import ID_COLUMNS, ShardReject
from tests.dicom_files import head_file

SIDE_PX = 16


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five slices and a damaged file; a test that adds to them takes a copy."""
    folder = tmp_path_factory.mktemp("slices") / "corpus"
    folder.mkdir()
    for number in range(5):
        (folder / f"ID_{number}.dcm").write_bytes(head_file(RescaleIntercept=str(-1024 + 5 * number)))
    (folder / "ID_bad.dcm").write_bytes(head_file(PixelData=b"\0"))
    return folder


@pytest.fixture(scope="module")
def conversion(corpus: Path) -> str:
    return convert(corpus, corpus.parent / "converted", SIDE_PX)


def convert(corpus: Path, out: Path, side_px: int) -> str:
    """Convert in this process."""
    config = ConvertConfig(
        source=str(corpus), corpus="rsna", out=str(out), side_px=side_px, unit_files=2, max_reject_fraction=0.5
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "convert_units", lambda task, units, out: convert_batch(units, task=task, out=out))
        return job.convert_corpus(config)


def make_checkpoint(folder: Path, conversion: str, channels: tuple[str, ...] = ("brain", "subdural", "soft")) -> str:
    torch.manual_seed(0)
    card = CheckpointCard(
        model=ModelConfig(backbone="test_resnet"),
        task="multi_label",
        classes=RSNA_CLASSES,
        channels=channels,
        image={**read_card(conversion).image, "neighbours": len(channels) // 6},
        height_px=SIDE_PX,
        width_px=SIDE_PX,
        mean=(0.5,) * len(channels),
        std=(0.25,) * len(channels),
        thresholds=(0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
        training_set="feedface",
    )
    model = build_model(card.model, channels=len(channels), sides_px=(SIDE_PX, SIDE_PX), classes=6)
    write_checkpoint(str(folder), model, card)
    return str(folder)


@pytest.mark.usefixtures("ray_cluster")
def test_shards_and_raw_files_give_the_same_probabilities(conversion, corpus, tmp_path, capfd):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    stored = PredictConfig(source=conversion, checkpoint=str(tmp_path), out=str(tmp_path / "stored"), batch_size=2)
    raw = PredictConfig(
        source=str(corpus), corpus="rsna", checkpoint=checkpoint, out=str(tmp_path / "raw"), batch_size=2
    )
    first, second = (pq.read_table(Path(predict_corpus(config), "predictions.parquet")) for config in (stored, raw))
    assert "core_worker.cc" not in capfd.readouterr().err  # Ray Data's actors set this off in Ray
    assert first["image_id"].to_pylist() == [f"ID_{number}" for number in range(5)]
    assert first.column_names == second.column_names
    for name in RSNA_CLASSES:
        column = f"probability_{name}"
        assert first[column].to_pylist() == pytest.approx(second[column].to_pylist(), rel=1e-5)
    assert first["predicted_any"].to_pylist() == [value > 0.5 for value in first["probability_any"].to_pylist()]
    assert len({round(value, 6) for value in first["probability_any"].to_pylist()}) == 5
    (study,) = pq.read_table(tmp_path / "raw" / "studies.parquet").to_pylist()
    slices = first["probability_any"].to_numpy()
    assert (study["images"], study["max_any"]) == (5, pytest.approx(slices.max(), rel=1e-5))
    assert study["noisy_or_any"] == pytest.approx(1 - np.prod(1 - slices.astype(float)), rel=1e-5)
    rejects = pq.read_table(tmp_path / "raw" / "rejects.parquet").to_pylist()
    assert [(reject["source_path"], reject["reason"]) for reject in rejects] == [("ID_bad.dcm", "truncated")]
    submission = (tmp_path / "raw" / "submission.csv").read_text().splitlines()
    assert len(submission) == 1 + 5 * 6
    before = (tmp_path / "raw" / "predictions.parquet").stat().st_mtime_ns
    predict_corpus(raw)
    assert (tmp_path / "raw" / "predictions.parquet").stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="holds other predictions"):
        predict_corpus(stored.model_copy(update={"out": raw.out}))
    with pytest.raises(OutputError, match="holds other predictions"):
        predict_corpus(raw.model_copy(update={"test_time_augmentation": "flip"}))


@pytest.mark.usefixtures("ray_cluster")
def test_a_localizer_is_a_row_but_no_slice_of_its_study(conversion, corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "corpus")
    scout = head_file(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "corpus/ID_scout.dcm").write_bytes(scout)
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    config = PredictConfig(
        source=str(tmp_path / "corpus"), corpus="rsna", checkpoint=checkpoint, out=str(tmp_path / "out")
    )
    predictions = pq.read_table(Path(predict_corpus(config), "predictions.parquet"))
    assert predictions["flags"].to_pylist()[-1] == ["localizer"]
    (study,) = pq.read_table(tmp_path / "out/studies.parquet").to_pylist()
    slices = predictions["probability_any"].to_pylist()[:5]
    assert (len(predictions), study["images"], study["max_any"]) == (6, 5, max(slices))
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert (card["rows"], card["rows_without_study"], card["rows_that_are_no_slices"]) == (6, 0, 1)


def test_images_of_another_kind_are_refused(conversion, corpus, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    other = convert(corpus, tmp_path / "other", 32)
    with pytest.raises(ConfigError, match="side_px 32 in the source, 16 in the checkpoint"):
        predict_corpus(PredictConfig(source=other, checkpoint=checkpoint, out=str(tmp_path / "out")))


def test_a_photograph_is_no_ct(conversion, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    with pytest.raises(ConfigError, match="was trained on rsna images"):
        predict_corpus(
            PredictConfig(source=str(tmp_path), corpus="image_folder", checkpoint=checkpoint, out=str(tmp_path / "out"))
        )


def test_a_checkpoint_of_neighbours_is_refused(conversion, tmp_path):
    nine = tuple(f"{name}_{place}" for place in ("previous", "own", "next") for name in ("brain", "subdural", "soft"))
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion, nine)
    with pytest.raises(ConfigError, match="neighbouring slices"):
        predict_corpus(PredictConfig(source=conversion, checkpoint=checkpoint, out=str(tmp_path / "out")))


def test_each_batch_has_images_of_one_unit_in_order_and_the_last_one_the_rejects():
    """Five images in batches of two: 2, 2, 1; of six 2, 2, 2 and one without images."""
    reject = ShardReject(source_path="ID_bad.dcm", frame=0, reason="truncated", detail="")

    def read(count: int, _: Unit) -> Iterator[Row]:
        yield reject
        for number in range(count):
            row = {"image_id": f"ID_{number}", "position_mm": 1.0, "image": np.full((3, 2, 2), number, np.uint8)}
            yield {**dict.fromkeys(ID_COLUMNS), **row}

    for count, sizes in ((5, [2, 2, 1]), (6, [2, 2, 2, 0])):
        unit = Unit(7, tuple(SourceFile(f"ID_{number}.dcm", 1, "1") for number in range(count + 1)))
        row = {"unit": pickle.dumps(unit)}
        batches = list(decode_unit(row, read=partial(read, count), batch_size=2))
        assert [(batch["unit"], batch["number"]) for batch in batches] == [(7, number) for number in range(len(sizes))]
        assert [batch["files"] for batch in batches] == [0] * (len(sizes) - 1) + [count + 1]
        assert [len(pickle.loads(batch["rejects"])) for batch in batches] == [0] * (len(sizes) - 1) + [1]
        ids = [pickle.loads(batch["table"])["image_id"].to_pylist() for batch in batches]
        assert [len(names) for names in ids] == sizes
        pixels = [image[0, 0, 0] for batch in batches for image in pickle.loads(batch["images"])]
        assert pixels == list(range(count))


def test_a_second_run_in_a_folder_is_refused(conversion, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    out = str(tmp_path / "out")
    with output_lock(out), pytest.raises(OutputError, match=r"another run is writing in .*/out \(process"):
        predict_corpus(PredictConfig(source=conversion, checkpoint=checkpoint, out=out))


def test_what_is_no_checkpoint_is_refused(conversion, tmp_path):
    with pytest.raises(SourceError, match="is no checkpoint"):
        predict_corpus(PredictConfig(source=conversion, checkpoint=str(tmp_path), out=str(tmp_path / "out")))


def test_damaged_weights_are_refused_in_one_line(conversion, tmp_path):
    """By the driver: an actor that met them would end the job with Ray's error."""
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    weights = tmp_path / "checkpoint" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SourceError, match=r"weights\.safetensors does not fit checkpoint\.json; train again$"):
        predict_corpus(PredictConfig(source=conversion, checkpoint=checkpoint, out=str(tmp_path / "out")))


@pytest.mark.usefixtures("ray_cluster")
def test_more_gpus_than_this_machine_has_are_refused(conversion, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    config = PredictConfig(source=conversion, checkpoint=checkpoint, out=str(tmp_path / "out"), gpus=9)
    with pytest.raises(
        ConfigError, match=r"gpus: a model takes 1 CPU, 9 GPU, this machine .* cannot grow; give --gpus 0"
    ):
        predict_corpus(config)


def test_a_submission_has_six_lines_an_image():
    columns = {f"probability_{name}": [place / 10] for place, name in enumerate(RSNA_CLASSES)}
    lines = submission_csv(pa.table({"image_id": ["ID_a"], **columns})).decode().splitlines()
    assert lines[0] == "ID,Label"
    assert lines[1:3] == ["ID_a_any,0.000000", "ID_a_epidural,0.100000"]
    assert len(lines) == 7


def test_a_checkpoint_of_an_older_image_path_is_refused_for_raw_files(conversion, corpus, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "checkpoint", conversion)
    card = tmp_path / "checkpoint/checkpoint.json"
    card.write_text(card.read_text().replace(f'"version": {IMAGE_PATH_VERSIONS["windows"]}', '"version": 1'))
    with pytest.raises(ConfigError, match=r"images of version 1, this hemo makes version 2"):
        predict_corpus(
            PredictConfig(source=str(corpus), corpus="rsna", checkpoint=checkpoint, out=str(tmp_path / "out"))
        )


@pytest.mark.usefixtures("ray_cluster")
def test_under_a_key_the_card_names_no_folder_and_a_changed_table_is_noticed(conversion, corpus, tmp_path):
    """What the table gives of a file counts as part of it."""
    shutil.copytree(corpus, tmp_path / "corpus")
    (tmp_path / "secret.key").write_text("a secret of sixteen bytes")
    (tmp_path / "secret.key").chmod(0o600)
    table = tmp_path / "corpus" / "list.csv"
    table.write_text("path,patient\nID_0.dcm,JANE\nID_1.dcm,JOHN\n")
    config = PredictConfig(
        source=str(table), corpus="manifest", checkpoint=make_checkpoint(tmp_path / "checkpoint", conversion),
        out=str(tmp_path / "predictions"), pseudonym_key=str(tmp_path / "secret.key"),
    )  # fmt: skip
    out = Path(predict_corpus(config))
    assert str(tmp_path / "corpus") not in (out / "card.json").read_text()
    table.write_text("path,patient\nID_0.dcm,JANE\nID_1.dcm,JANE\n")
    with pytest.raises(OutputError, match="holds other predictions"):
        predict_corpus(config)


def test_predictions_of_another_checkpoint_or_operating_point_are_refused(conversion, tmp_path):
    """Both checkpoints have the same card."""
    card = read_checkpoint_card(make_checkpoint(tmp_path / "checkpoint", conversion))
    card = card.model_copy(update={"operating_points": {"sensitivity=0.95": (0.5,) * 6}})
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = build_model(card.model, channels=3, sides_px=(SIDE_PX, SIDE_PX), classes=6)
        write_checkpoint(str(tmp_path / f"seed-{seed}"), model, card)
    config = PredictConfig(source=conversion, checkpoint=str(tmp_path / "seed-0"), out=str(tmp_path / "out"))
    predict_corpus(config)
    for changes in ({"checkpoint": str(tmp_path / "seed-1")}, {"operating_point": "sensitivity=0.95"}):
        with pytest.raises(OutputError, match="holds other predictions"):
            predict_corpus(config.model_copy(update=changes))
