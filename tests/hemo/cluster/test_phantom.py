import json
from pathlib import Path

import pytest

from hemo.cluster import phantom
from hemo.cluster.phantom import make_phantom
from hemo.config.convert import PhantomConfig
from hemo.corpus.labels import parse_labels
from hemo.errors import HemoError, OutputError
from hemo.synthetic.plan import plan_corpus
from hemo.synthetic.slice_file import make_slice_file

pytestmark = pytest.mark.usefixtures("ray_cluster")


def config(out: Path, **changes) -> PhantomConfig:
    return PhantomConfig.model_validate({"out": str(out), "slices": 30, **changes})


@pytest.fixture(scope="module")
def corpus(ray_cluster, tmp_path_factory) -> Path:
    return Path(make_phantom(config(tmp_path_factory.mktemp("phantom") / "corpus")))


def test_files_are_those_of_the_plan_whoever_wrote_them(corpus):
    plans = plan_corpus(slices=30, seed=0, positive_fraction=0.4, faults=True)
    files = sorted((corpus / "stage_2_train").iterdir())
    assert [file.stem for file in files] == sorted(plan.identity.image for plan in plans)
    for plan in plans[::7]:
        written = (corpus / "stage_2_train" / f"{plan.identity.image}.dcm").read_bytes()
        assert written == make_slice_file(plan).data


def test_labels_and_card_agree(corpus):
    table = parse_labels((corpus / "stage_2_train.csv").read_bytes(), "stage_2_train.csv")
    card = json.loads((corpus / "phantom.json").read_text())
    assert len(table.keys) == card["slices"] == 30
    assert table.repeated > 0
    for name, count in card["positive"].items():
        assert table.values[:, table.classes.index(name)].sum() == count
    assert 8 <= card["positive"]["any"] <= 16
    assert card["faults"] == {"constant": 1, "noise": 1, "photographed": 1, "truncated": 1}


def test_files_on_the_disks_of_other_nodes_are_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(phantom, "_write_slices", lambda plans, folder: {})  # as where workers have another disk
    out = tmp_path / "corpus"
    missing = rf"30 of 30 files, such as ID_\w+\.dcm, are not in {out}/stage_2_train after writing; give a location"
    with pytest.raises(OutputError, match=missing):
        make_phantom(config(out))
    assert not (out / "phantom.json").exists()


def test_a_complete_corpus_is_left_alone(corpus, capsys):
    file = next((corpus / "stage_2_train").iterdir())
    before = file.stat().st_mtime_ns
    assert make_phantom(config(corpus)) == str(corpus)
    assert file.stat().st_mtime_ns == before
    assert capsys.readouterr().err == f"phantom: {corpus} is complete\n"


def test_an_interrupted_corpus_is_completed_with_the_same_bytes(corpus):
    file = sorted((corpus / "stage_2_train").iterdir())[3]
    before, card = file.read_bytes(), (corpus / "phantom.json").read_bytes()
    file.unlink()
    left = file.with_name(f".{file.name}.0123456789abcdef.tmp")  # of a process that was killed
    left.write_bytes(before[:99])
    (corpus / "phantom.json").unlink()
    make_phantom(config(corpus))
    assert file.read_bytes() == before
    assert not left.exists()
    assert (corpus / "phantom.json").read_bytes() == card


def test_a_folder_of_another_config_is_refused_with_the_fields_that_differ(corpus):
    with pytest.raises(OutputError, match=r"another config \(slices 30 there, 40 now; seed 0 there, 7 now\)"):
        make_phantom(config(corpus, slices=40, seed=7))


@pytest.mark.parametrize("content", ["[]", "{}", '{"config": 3}'])
def test_another_file_of_the_cards_name_is_refused(tmp_path, content):
    (tmp_path / "phantom.json").write_text(content)
    with pytest.raises(OutputError, match=r"phantom.json is no card of a phantom; give another folder"):
        make_phantom(config(tmp_path))


def test_a_storage_error_in_a_task_is_reported(tmp_path):
    taken = plan_corpus(slices=30, seed=0, positive_fraction=0.4, faults=True)[0].identity.image
    (tmp_path / "stage_2_train" / f"{taken}.dcm").mkdir(parents=True)
    with pytest.raises(HemoError, match=r"^phantom stopped: IsADirectoryError: Is a directory; run it again"):
        make_phantom(config(tmp_path))


def test_a_folder_with_images_of_its_own_is_refused(tmp_path):
    (tmp_path / "stage_2_train").mkdir()
    (tmp_path / "stage_2_train" / "ID_real.dcm").write_bytes(b"")
    with pytest.raises(OutputError, match=r"holds 1 files of another corpus, such as ID_real.dcm; give another folder"):
        make_phantom(config(tmp_path))


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write in"):
        make_phantom(config(tmp_path / "file" / "corpus"))
