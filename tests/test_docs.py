"""The documents agree with the code: commands are accepted, code runs, modules exist, tables are complete."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

import hemo
from hemo.config.load import load_config
from hemo.imaging.image import FLAGS, REASONS
from hemo.shards.schema import ROW_SCHEMA
from tests.dicom_files import head_file
from tests.made_shards import write_conversion
from tests.test_conf import CONFIGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DATA_FLOW = (ROOT / "docs/data-flow.md").read_text()
PAGES = [README, *(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))]
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", "\n".join(PAGES), re.DOTALL)).replace("\\\n", " ")
PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-to/corpora.md").read_text(), re.DOTALL)
COMMANDS = re.findall(r"(?:^hemo|-m ray_jobs\.)\s*(\w+)(.*)$", SHELL, re.MULTILINE)


def run(code: str) -> None:
    exec(compile(code, "corpora.md", "exec"), {})


@pytest.mark.parametrize(("job", "words"), COMMANDS, ids=[job for job, _ in COMMANDS])
def test_a_command_of_the_documents_is_accepted(job: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    load_config(CONFIGS[job], shlex.split(words), job=job)


def test_every_command_to_a_cluster_has_the_token_on() -> None:
    """Each block stands alone: who copies it must not open a cluster, or be refused."""
    texts = [*PAGES, (ROOT / "cluster.yaml").read_text(), (ROOT / "deploy/kuberay/raycluster.yaml").read_text()]
    blocks = [block for text in texts[:-2] for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)] + texts[-2:]
    submitting = [block for block in blocks if "ray job" in block or "ray start" in block]
    assert len(submitting) > 4
    for block in submitting:
        assert "export RAY_AUTH_MODE=token" in block.split("ray job")[0], block


def test_servers_of_the_documents_listen_on_loopback() -> None:
    """And no secret stands in what Ray lists of a job."""
    servers = re.findall(r"^(?:tensorboard|optuna-dashboard|hemo serve) .*$", SHELL, re.MULTILINE)
    assert len(servers) > 1
    assert [line for line in servers if "127.0.0.1" not in line] == []
    assert "0.0.0.0" not in SHELL
    assert "env_vars" not in SHELL


def test_pictures_of_the_documents_exist_and_are_small() -> None:
    """Each has a text for those who cannot see it."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = [
        (alternative, (page.parent / target).resolve())
        for page in pages
        for alternative, target in re.findall(r"!\[(.*?)\]\((\S+?\.(?:png|svg))\)", page.read_text())
    ]
    assert len(shown) > 3
    assert [str(path) for _, path in shown if not path.exists() or path.stat().st_size > 150_000] == []
    assert min(len(alternative) for alternative, _ in shown) > 10


def test_a_module_named_in_the_documents_exists() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs/how-to").glob("*.md"),
    ]
    paths = {
        path for page in pages for path in re.findall(r"\b(?:hemo|ray_jobs|tests)/[\w/]+(?:\.py|/)", page.read_text())
    }
    assert len(paths) > 20
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_readme_lists_every_page() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/how-to").glob("*.md")]
    assert len(pages) > 8
    index = README.split("## Documentation")[1].split("## ")[0]
    assert [str(page.relative_to(ROOT)) for page in pages if f"({page.relative_to(ROOT)})" not in index] == []


def test_the_table_of_jobs_has_every_job() -> None:
    rows = re.findall(r"^\| `hemo (\w+)` \| .+ \| .+ \|$", (ROOT / "docs/jobs.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(CONFIGS)


def test_the_picture_shows_what_there_is() -> None:
    """Its labels are jobs and public names; what has no label is a noun."""
    picture = ElementTree.parse(ROOT / re.findall(r"!\[.*?\]\((\S+\.svg)\)", README)[0]).getroot()
    labels = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "job"]
    named = {name for label in labels for name in label.split(", ")}
    assert named >= {"convert", "curate", "tune", "report"}
    assert named <= set(hemo.__all__)


def test_the_page_on_python_lists_the_public_api() -> None:
    page = (ROOT / "docs/python.md").read_text()
    named = {name for pair in re.findall(r"\bhemo\.(\w+)|`(\w+)(?=[`(])", page) for name in pair}
    assert set(hemo.__all__) - {"__version__"} <= named
    assert set(re.findall(r"\bhemo\.(\w+)", page)) <= set(hemo.__all__)


def test_the_documents_show_every_job_but_the_synthetic_corpus() -> None:
    assert {job for job, _ in COMMANDS} >= {"convert", "curate", "train", "tune", "report", "pipeline"}


def test_the_readers_code_reads_shards_without_ray(tmp_path, monkeypatch, capsys) -> None:
    write_conversion(tmp_path / "runs/demo/converted", [{"flags": ["localizer"]}, {}])
    monkeypatch.chdir(tmp_path)
    run(PYTHON[0])
    assert capsys.readouterr().out == "2 (2, 2, 2) {'localizer': 1}\n"


def test_the_code_for_decoded_images_runs(ray_cluster, tmp_path, monkeypatch, capsys) -> None:
    corpus = tmp_path / "runs/demo/corpus"
    corpus.mkdir(parents=True)
    (corpus / "ID_a.dcm").write_bytes(head_file())
    (corpus / "ID_b.dcm").write_bytes(b"no DICOM")
    monkeypatch.chdir(tmp_path)
    run(PYTHON[1])
    shown = capsys.readouterr().out
    assert "(1, 3, 64, 64) uint8" in shown
    assert "not_dicom" in shown


def test_the_table_of_columns_lists_the_schema() -> None:
    section = DATA_FLOW.split("### A row")[1].split("### Rejects")[0]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert named == ROW_SCHEMA.names


def test_the_flags_are_those_of_the_code() -> None:
    (row,) = re.findall(r"^\| `flags` \| (.*) \|$", DATA_FLOW, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(FLAGS)


def test_the_table_of_rejects_is_that_of_the_code() -> None:
    section = DATA_FLOW.split("### Rejects")[1].split("## 2")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)) == REASONS
