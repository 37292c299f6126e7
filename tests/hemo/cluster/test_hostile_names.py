"""Names in a corpus are data: image, patient, class and split of a stranger's table become no path."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import hemo
from hemo.config.trial import ModelConfig, TrainingConfig, TrialConfig
from tests.photographs import write_photographs
from tests.trial_runs import run_to_record

pytestmark = pytest.mark.usefixtures("ray_cluster")

UP = "../" * 12
PATIENTS = 24


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A table of pictures; each name in it would lead out of any folder, or is absolute."""
    write_photographs(tmp_path / "pictures", ["a", "b"], PATIENTS)
    lines = ["path,image_id,patient,source_class"]
    for bright, folder in enumerate("ab"):
        for number in range(PATIENTS):
            escape = f"{UP}{tmp_path}/escaped"
            names = f"{escape}-image-{bright}-{number},/escaped/patient-{bright}-{number},{escape}-class-{bright}"
            lines.append(f"pictures/{folder}/{number}.jpg,{names}")
    file = tmp_path / "list.csv"
    file.write_text("\n".join(lines))
    return str(file)


def files_below(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_no_name_of_a_corpus_becomes_a_path(table: str, tmp_path: Path) -> None:
    """From the table to the report; `hemo document` puts such names into its documents as text."""
    before, out = set(files_below(tmp_path)), tmp_path / "out"
    shards = hemo.convert(
        source=table, corpus="manifest", public_ids=True, out=str(out / "shards"), side_px=16, unit_files=16
    )
    training_set = hemo.curate(
        shards=shards.path, labels="source_class", out=str(out / "set"), val_fraction=0.3, test_fraction=0.3
    )
    target = f"{UP}{tmp_path}/escaped-class-1"
    assert target in training_set.card.classes
    trial = TrialConfig(
        name=f"{UP}{tmp_path}/escaped-trial",
        target=target,
        model=ModelConfig(backbone="test_resnet"),
        training=TrainingConfig(epochs=1, batch_size=8),
    )
    record = run_to_record(trial, training_set.path, out / "records")
    assert record.status == "complete"
    checkpoint = str(out / "records" / record.digest)
    predictions = hemo.predict(source=shards.path, checkpoint=checkpoint, out=str(out / "predictions"))
    assert all("escaped-image" in name for name in predictions.images["image_id"])
    hemo.explain(checkpoint=checkpoint, images=training_set.path, out=str(out / "explained"), highest_loss=2)
    hemo.report(records=str(out / "records"), out=str(out / "report"), bootstrap_samples=10)
    hemo.document(records=str(out / "records"), out=str(out / "documents"))
    made = set(files_below(tmp_path)) - before
    assert [name for name in made if not (name == "out" or name.startswith("out/"))] == []
    assert [name for name in made if "escaped" in name] == []
    assert not Path("/escaped").exists()
