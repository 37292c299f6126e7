"""A user's mistake ends every job with one line that names the cure, exit code 2, and nothing written."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dicom_files import head_file
from tests.made_shards import write_conversion

pytestmark = pytest.mark.usefixtures("ray_cluster")

ROWS = [{"image_id": f"ID_{number}", "patient": f"P{number}"} for number in range(40)]


def refused(job: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line a job leaves on standard error when it refuses its input."""
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"ray_jobs.{job}").main(words)
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert len(lines) == 1, shown.err
    return lines[0]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "ID_a.dcm").write_bytes(head_file())
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Callable[[Callable[[int], int]], str]:
    def written(label: Callable[[int], int], *, more: str = "") -> str:
        lines = "".join(f"ID_{number},{label(number)}\n" for number in range(len(ROWS)))
        (tmp_path / "labels.csv").write_text(f"image_id,any\n{lines}{more}")
        return str(tmp_path / "labels.csv")

    return written


CONVERT_MISTAKES = {
    "unknown flag": (["--side", "64"], r"--side is no flag of `hemo convert` \(did you mean --side_px\?\)"),
    "wrong type": (["--side_px", "large"], r"--side_px: must be a whole number, not 'large'"),
    "unknown window": (["--windows", "[brain, lung]"], r"'lung' is not a known window \(brain, subdural"),
    "missing folder": (["--source", "/no/such/folder"], r"/no/such/folder does not exist; give"),
    "missing config file": (["--config", "nowhere.yaml"], r"nowhere\.yaml: No such file .*; give a YAML file"),
    "no write access": (["--out", "/proc/hemo"], r"cannot write in /proc/hemo .*; give a folder you may write to"),
    "names not settled": (["--corpus", "dicom"], r"give --pseudonym_key FILE .* or --public_ids true"),
    "shards of another config": (["--side_px", "32"], r"side_px 16 there, 32 now\); give another folder"),
}


@pytest.mark.parametrize("mistake", CONVERT_MISTAKES)
def test_convert_names_the_cure(mistake, corpus, tmp_path, capsys):
    right = {"--source": str(corpus), "--corpus": "rsna", "--out": str(tmp_path / "out"), "--side_px": "16"}
    words = [word for pair in right.items() for word in pair]
    if mistake == "shards of another config":
        importlib.import_module("ray_jobs.convert").main(words)
        capsys.readouterr()
    wrong, line = CONVERT_MISTAKES[mistake]
    assert re.search(line, refused("convert", [*words, *wrong], capsys))


def test_convert_refuses_an_empty_folder(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    words = ["--source", str(tmp_path / "empty"), "--corpus", "rsna", "--out", str(tmp_path / "out")]
    assert re.search(r"empty is empty; give the folder", refused("convert", words, capsys))
    assert not (tmp_path / "out").exists()


def curate_words(tmp_path: Path, labels: str) -> list[str]:
    shards = write_conversion(tmp_path / "converted", ROWS)
    return ["--shards", shards, "--labels", labels, "--out", str(tmp_path / "set")]


def test_curate_refuses_labels_that_contradict_each_other(tmp_path, labels, capsys):
    words = curate_words(tmp_path, labels(lambda number: number % 2, more="ID_4,1\n"))
    assert re.search(
        r"labels\.csv has conflicting rows for ID_4; keep one row of each$", refused("curate", words, capsys)
    )


def test_curate_refuses_a_set_with_one_class_only(tmp_path, labels, capsys):
    assert re.search(
        r"31 images of train are all alike \(any: .*\); take more images",
        refused("curate", curate_words(tmp_path, labels(lambda _: 0)), capsys),
    )


def test_curate_refuses_labels_of_other_images(tmp_path, labels, capsys):
    words = curate_words(tmp_path, labels(lambda number: number % 2))
    (tmp_path / "labels.csv").write_text("image_id,any\nother_1,0\nother_2,1\n")
    assert re.search(
        r"labels: none matches an image: image ids are like 'ID_0', .* label keys like 'other_1', 'other_2'; give a",
        refused("curate", words, capsys),
    )


def test_images_without_labels_and_labels_without_images_are_counted_not_fatal(tmp_path, labels, capsys):
    words = curate_words(tmp_path, labels(lambda number: number % 2, more="ID_nowhere,1\n"))
    text = Path(words[3]).read_text().replace("ID_0,0\n", "").replace("ID_1,1\n", "")
    Path(words[3]).write_text(text)
    importlib.import_module("ray_jobs.curate").main(words)
    card = (tmp_path / "set" / "card.json").read_text()
    assert re.search(r'"images_without_labels": 2', card)
    assert re.search(r'"labels_without_images": 1', card)


def test_an_unknown_key_at_any_depth_is_named_with_those_known(tmp_path, capsys):
    config = tmp_path / "tune.yaml"
    config.write_text(
        f"training_set: {tmp_path}\nout: {tmp_path}/out\ntrial: {{model: {{bakbone: x}}}}\n"
        "grid: {axes: {seed: [0, 1]}}\n"
    )
    line = refused("tune", ["--config", str(config)], capsys)
    assert re.search(
        r"tune\.yaml: trial\.model\.bakbone: no such key \(did you mean backbone\?\); known here: backbone", line
    )


@pytest.mark.parametrize("job", ["train", "tune"])
def test_an_unknown_backbone_is_refused_before_any_work(job, make_training_set, tmp_path, capsys):
    words = ["--training_set", make_training_set(), "--out", str(tmp_path / "out")]
    wrong = {"train": ["--trial.model.backbone", "resnet5O"], "tune": ["--grid.axes", "{model.backbone: [resnet5O]}"]}
    assert re.search(r"'resnet5O'.*did you mean", refused(job, [*words, *wrong[job]], capsys))
    assert not list(Path(tmp_path).glob("out/*/record.json"))


@pytest.mark.parametrize(
    ("job", "words", "line"),
    [
        (
            "train",
            ["--training_set", "{}", "--out", "{}/out"],
            r"is no finished training set .*`hemo curate` makes one",
        ),
        ("report", ["--records", "{}", "--out", "{}/out"], r"holds no trial records; `hemo train` and `hemo tune`"),
        ("predict", ["--source", "{}", "--checkpoint", "{}", "--out", "{}/out"], r"is no checkpoint"),
        ("curate", ["--shards", "{}", "--labels", "source_class", "--out", "{}/out"], r"is no finished conversion"),
    ],
)
def test_an_input_of_the_wrong_kind_is_named_with_what_makes_it(job, words, line, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert re.search(line, refused(job, [word.replace("{}", str(tmp_path / "empty")) for word in words], capsys))
