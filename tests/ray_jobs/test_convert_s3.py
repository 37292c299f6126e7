"""From bucket to bucket, with nothing but environment variables to say where it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hemo.corpus.sources import list_corpus
from hemo.imaging.settings import ImageSettings
from hemo.job_log import is_job_log
from hemo.pseudonym import Pseudonymiser
from hemo.shards.card import read_card
from hemo.shards.convert_unit import UnitTask, build_shard
from hemo.shards.manifest import Manifest, update_manifest
from hemo.storage import filesystem, list_files, read_bytes, write_bytes
from tests.dicom_files import write_slices
from tests.s3 import s3_environment  # noqa: F401 (a fixture)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "corpus", 5)


def convert(variables: dict[str, str], folder: Path) -> str:
    given = ["--source", "s3://lake/raw", "--corpus", "rsna", "--out", "s3://lake/shards", "--side_px", "16"]
    cluster = ["--unit_files", "2", "--cluster.address", "local", "--cluster.cpus", "2"]
    command = [sys.executable, "-m", "ray_jobs.convert", *given, *cluster, "--cluster.temp_dir", str(folder)]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_conversion_from_s3_to_s3_gives_the_shards_of_a_folder(s3_environment, corpus, make_ray_folder):  # noqa: F811
    filesystem("s3://lake")[0].mkdir("lake")
    for file in corpus.iterdir():
        write_bytes(f"s3://lake/raw/{file.name}", file.read_bytes())
    assert convert(s3_environment, make_ray_folder()).splitlines()[-1] == "s3://lake/shards"
    card = read_card("s3://lake/shards")
    assert (card.files, card.rows, card.units) == (5, 5, 3)
    settings = ImageSettings.model_validate(card.image)
    task = UnitTask(str(corpus), settings, Pseudonymiser(), read_threads=2)
    units = update_manifest(Manifest((), ()), list_corpus(str(corpus), "rsna").files, unit_files=2).units
    for unit in units:
        assert read_bytes(f"s3://lake/shards/{unit.shard}") == build_shard(task, unit)[0].to_pybytes()
    assert [file for file in list_files("s3://lake/shards") if not is_job_log(file)] == [
        "card.json", "index.parquet", "manifest.parquet", "rejects.parquet", *(unit.shard for unit in units),
    ]  # fmt: skip
