"""`embed`: vectors of shards and of training sets, resumed, and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from ray.data import ActorPoolStrategy

from hemo.cluster import predict_images
from hemo.cluster.embed import embed_images
from hemo.config.inference import EmbedConfig
from hemo.errors import ConfigError, OutputError, SourceError
from hemo.inference.predict import DeployedModel
from hemo.library.embeddings import Embeddings
from hemo.models.backbones import build_backbone
from hemo.models.checkpoint import load_checkpoint, write_checkpoint
from hemo.models.classifier import build_model
from hemo.models.encoder import checkpoint_encoder
from hemo.shards.embeddings import read_embeddings
from hemo.shards.schema import ID_COLUMNS
from hemo.training.data.dataset import read_training_set
from tests.hemo.inference.test_predict import CARD
from tests.made_shards import write_conversion

pytestmark = pytest.mark.usefixtures("ray_cluster")

SET_IMAGE = {"corpus": "phantom", "side_px": 16}


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    torch.manual_seed(0)
    model = CARD.model.model_copy(update={"backbone": "CNN(4,8)"})  # 2 x 2 positions at 16 px
    card = CARD.model_copy(update={"image": SET_IMAGE, "channels": ("brain",), "model": model})
    write_checkpoint(
        str(tmp_path / "record/checkpoint"), build_model(card.model, channels=1, sides_px=(16, 16), classes=1), card
    )
    return str(tmp_path / "record")


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "embeddings").iterdir())}


def test_a_training_set_becomes_parts_that_a_second_run_leaves_alone(
    make_training_set: Callable[..., str], checkpoint: str, tmp_path: Path
) -> None:
    """Vectors are those of the checkpoint's backbone; what is missing is made again, byte for byte."""
    source, out = make_training_set(), tmp_path / "out"
    config = EmbedConfig(source=source, checkpoint=checkpoint, out=str(out), batch_size=10)
    assert embed_images(config) == str(out)
    card = json.loads((out / "card.json").read_text())
    assert (card["rows"], card["parts"], card["dtype"], card["backbone"]) == (80, 6, "float32", "CNN(4,8)")
    made = parts(out)
    assert list(made) == [f"part-{number:06d}.parquet" for number in range(6)]
    first = pq.read_table(out / "embeddings/part-000000.parquet")
    assert first.column_names == [*ID_COLUMNS, "split", "embedding", "probabilities"]
    assert first["image_id"].to_pylist() == [f"train-{number:03d}" for number in range(24)]
    assert str(first.schema.field("embedding").type) == f"fixed_size_list<element: float>[{card['dimension']}]"
    encoder = checkpoint_encoder(f"{checkpoint}/checkpoint", "gap", "cpu")
    pixels = next(read_training_set(source).train.images.batches([np.arange(24)]))
    expected = encoder.features(torch.from_numpy(pixels)).flatten(1).numpy()
    np.testing.assert_allclose(first["embedding"].to_pylist(), expected, rtol=1e-4, atol=1e-5)
    assert (card["classes"], card["inputs"]["probabilities"]) == (["any"], ["any"])
    assert (card["trained_on"], card["inputs"]["device"]) == (CARD.training_set, "cpu")
    assert str(first.schema.field("probabilities").type) == "fixed_size_list<element: float>[1]"
    of_images = DeployedModel(*load_checkpoint(f"{checkpoint}/checkpoint")).predict(pixels)[1]
    np.testing.assert_allclose(first["probabilities"].to_pylist(), of_images, rtol=1e-4)

    stamps = {path.name: path.stat().st_mtime_ns for path in (out / "embeddings").iterdir()}
    (out / "card.json").unlink()
    for number in (1, 4):
        (out / f"embeddings/part-{number:06d}.parquet").unlink()
    embed_images(config)
    assert parts(out) == made
    again = {path.name for path in (out / "embeddings").iterdir() if path.stat().st_mtime_ns != stamps[path.name]}
    assert again == {"part-000001.parquet", "part-000004.parquet"}
    embed_images(config)
    with pytest.raises(OutputError, match="holds other embeddings"):
        embed_images(config.model_copy(update={"dtype": "float16"}))
    (out / "card.json").unlink()
    with pytest.raises(OutputError, match="holds other embeddings"):
        embed_images(config.model_copy(update={"pooling": "flatten"}))


def test_the_number_of_encoders_changes_no_byte(
    make_training_set: Callable[..., str], checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One encoder, or two that share six units and their batches."""
    source, made = make_training_set(), {}
    for count in (1, 2):
        monkeypatch.setattr(predict_images, "ActorPoolStrategy", lambda count=count, **_: ActorPoolStrategy(size=count))
        config = EmbedConfig(source=source, checkpoint=checkpoint, out=str(tmp_path / f"{count}"), batch_size=5)
        made[count] = parts(Path(embed_images(config)))
    assert len(made[1]) == 6
    assert made[1] == made[2]


def test_shards_with_a_users_weights(tmp_path: Path) -> None:
    """The backbone takes every pixel as it is: image n has 8 values n / 255, scaled by the plain normalisation."""
    source = write_conversion(tmp_path / "shards", [{"series": "S", "position_mm": float(n)} for n in range(7)])
    tensors = build_backbone("CNN(3)", 2, (4, 4)).state_dict()
    safetensors.torch.save_file(tensors, tmp_path / "cnn.safetensors")
    config = {"source": source, "backbone": "CNN(3)", "weights": str(tmp_path / "cnn.safetensors")}
    with pytest.raises(ConfigError, match=r"CNN\(3\) cannot take images of 2 x 2 px"):
        embed_images(EmbedConfig(**config, out=str(tmp_path / "out")))


def test_float16_is_within_a_thousandth_of_float32(
    make_training_set: Callable[..., str], checkpoint: str, tmp_path: Path
) -> None:
    common = {"source": make_training_set(), "checkpoint": checkpoint}
    halves = embed_images(EmbedConfig(**common, out=str(tmp_path / "half"), dtype="float16"))
    singles = embed_images(EmbedConfig(**common, out=str(tmp_path / "single"), pooling="flatten"))
    ids, half = read_embeddings(halves)
    _, single = read_embeddings(singles)
    mean = single.reshape(len(ids), -1, half.shape[1]).mean(axis=1)
    np.testing.assert_allclose(half, mean, rtol=1e-3, atol=1e-4)
    assert (half.shape[1], single.shape[1]) == (8, 2 * 2 * 8)
    assert Embeddings(halves).ids["split"].value_counts().to_dict() == {"train": 48, "val": 16, "test": 16}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": "nothing"}, SourceError, "holds no images; give an output folder of `convert` or `curate`"),
        ({"backbone": "resnet5O"}, ConfigError, "did you mean"),
        ({"weights": "missing.safetensors"}, ConfigError, "No such file"),
        ({"gpus": 9}, ConfigError, "gpus: a model takes 1 CPU, 9 GPU"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    make_training_set: Callable[..., str], tmp_path: Path, changes: dict[str, str], error: type, message: str
) -> None:
    tensors = build_backbone("test_resnet", 1, (16, 16)).state_dict()
    safetensors.torch.save_file(tensors, tmp_path / "weights.safetensors")
    given = {
        "source": make_training_set(),
        "backbone": "test_resnet",
        "weights": str(tmp_path / "weights.safetensors"),
        "out": str(tmp_path / "out"),
    }
    changes = {
        name: str(tmp_path / value) if name in ("source", "weights") else value for name, value in changes.items()
    }
    with pytest.raises(error, match=message):
        embed_images(EmbedConfig(**{**given, **changes}))
    assert not (tmp_path / "out" / "card.json").exists()


def test_images_that_the_checkpoint_was_not_trained_on_are_refused(
    make_training_set: Callable[..., str], checkpoint: str, tmp_path: Path
) -> None:
    source = make_training_set(side_px=32)
    with pytest.raises(ConfigError, match=r"source: .* holds other images than .* was trained on"):
        embed_images(EmbedConfig(source=source, checkpoint=checkpoint, out=str(tmp_path / "out")))


def test_hounsfield_units_are_refused(make_training_set: Callable[..., str], checkpoint: str, tmp_path: Path) -> None:
    source = Path(make_training_set())
    card = (source / "card.json").read_text()
    (source / "card.json").write_text(card.replace('"dtype": "uint8"', '"dtype": "int16"'))
    with pytest.raises(ConfigError, match="int16 Hounsfield units, encoders take windows of 8 bits"):
        embed_images(EmbedConfig(source=str(source), checkpoint=checkpoint, out=str(tmp_path / "out")))
