"""The examples run, from files in the published format to metrics, on tiny corpora of their kind."""

import gzip
import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import hemo
from hemo.errors import ConfigError
from tests.idx_files import write_digits
from tests.photographs import write_photographs

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.timeout(600)


def example(name: str) -> ModuleType:
    """Load an example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits(ray_cluster: None, tmp_path: Path) -> None:
    """Ten classes: chance is 0.1. The files' own test stays test."""
    write_digits(tmp_path / "mnist", train=600, test=100)
    example("digits").main(tmp_path / "mnist", tmp_path / "out")
    (trial,) = hemo.Trials(str(tmp_path / "out/records"))
    assert trial.record.classes == tuple("0123456789")
    assert trial.record.rows["test"] == 100
    assert trial.record.metrics["test"]["accuracy"] > 0.5
    predicted = hemo.predict(
        source=str(tmp_path / "out/shards"), checkpoint=trial.path, out=str(tmp_path / "predicted")
    )
    assert len(predicted.images) == 700
    with pytest.raises(ConfigError, match="was trained on rows of a ShardWriter, which hemo does not make of files"):
        hemo.predict(
            source=str(tmp_path / "mnist"), corpus="image_folder", checkpoint=trial.path, out=str(tmp_path / "other")
        )


def test_digits_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"RIFF and more"))
    with pytest.raises(SystemExit, match="is no IDX file"):
        example("digits").write_shards(tmp_path, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def page(documents: dict[int, tuple[str, str]]) -> bytes:
    """Return an SGML file of documents: number -> topics and body."""
    texts = [
        f'<REUTERS TOPICS="YES" NEWID="{number}">\n<TOPICS>{topics}</TOPICS>\n<TEXT>&#2;\n<TITLE>OF {number}</TITLE>'
        f"<BODY>{body}\n&#3;</BODY></TEXT>\n</REUTERS>\n"
        for number, (topics, body) in documents.items()
    ]
    return ("<!DOCTYPE lewis>\n" + "".join(texts)).encode("latin-1")


def write_reuters(file: Path) -> None:
    """Write 40 documents on gold and 40 on tea, 14 on tin, and 5 without a topic, in two pages."""
    words = {"gold": "Ounces of &lt;metal&gt; mined", "tea": "Leaves by the chest", "tin": "Cans", "": "Nothing"}
    topics = ["gold"] * 40 + ["tea"] * 40 + ["tin"] * 14 + [""] * 5
    documents = {
        number: (f"<D>{topic}</D><D>other</D>" if topic else "", f"{words[topic]} {number % 7} times {number}")
        for number, topic in enumerate(topics)
    }
    with tarfile.open(file, "w:gz") as archive:
        for name, numbers in (("reut2-000.sgm", range(50)), ("reut2-001.sgm", range(50, 99))):
            content = page({number: documents[number] for number in numbers})
            entry = tarfile.TarInfo(f"reuters21578/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_newswires_of_rare_topics_and_without_one_are_left_out(tmp_path: Path) -> None:
    write_reuters(tmp_path / "reuters.tar.gz")
    documents = example("reuters").read_documents(tmp_path / "reuters.tar.gz")
    assert [document.topic for document in documents] == ["gold"] * 40 + ["tea"] * 40
    assert documents[3].words == {"of", "3", "ounces", "metal", "mined", "times"}


def test_newswires(ray_cluster: None, tmp_path: Path) -> None:
    write_reuters(tmp_path / "reuters.tar.gz")
    example("reuters").main(tmp_path / "reuters.tar.gz", tmp_path / "out")
    (trial,) = hemo.Trials(str(tmp_path / "out/records"))
    assert trial.record.classes == ("gold", "tea")
    assert trial.record.image == "1 x 1 x 10000"
    assert trial.record.metrics["test"]["accuracy"] > 0.9


def test_cats_and_dogs_of_a_zip(ray_cluster: None, tmp_path: Path) -> None:
    """Without a folder of weights VGG16 alone is a cell; the weights that are there each make one."""
    module = example("cats_dogs")
    assert [cell["name"] for cell in module.cells(None)] == ["VGG16, random weights"]
    with pytest.raises(SystemExit, match=r"has none of tf_efficientnet_lite0\.safetensors, mobilenetv1_100_notop"):
        module.cells(tmp_path)
    (tmp_path / "tf_efficientnet_lite0.safetensors").touch()
    assert [cell["model.backbone"] for cell in module.cells(tmp_path)] == ["VGG16", "tf_efficientnet_lite0"]
    for split, count in (("train", 12), ("test", 4)):
        write_photographs(tmp_path / "photographs" / split, ("cats", "dogs"), count)
    with zipfile.ZipFile(tmp_path / "cats_dogs.zip", "w") as archive:
        for file in sorted((tmp_path / "photographs").rglob("*.jpg")):
            archive.write(file, file.relative_to(tmp_path / "photographs"))
    shards = hemo.convert(
        source=str(tmp_path / "cats_dogs.zip"), corpus="image_folder", side_px=96, out=str(tmp_path / "out/shards")
    )
    assert (len(shards), shards.shape) == (32, (3, 96, 96))
