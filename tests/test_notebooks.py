"""The notebooks run, from the first cell to the last, on the phantom; so does the code of the pages on Python."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(path.name for path in (ROOT / "examples").glob("*.ipynb"))
CONNECT = "hemo.connect()"

RayFolder = Callable[[], Path]


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where all notebooks run: later ones find the corpus and the shards of the first, as with their readers."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(
    name: str, make_ray_folder: RayFolder, shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "examples" / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit notebooks without outputs"
    assert CONNECT in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace(CONNECT, connect_in(make_ray_folder()))
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(shared_folder)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert "text/html" in kinds or "image/png" in kinds


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", ["docs/python.md", "docs/how-to/other-libraries.md"])
def test_the_code_of_a_page_runs(page: str, make_ray_folder: RayFolder, tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
    assert code.count(CONNECT) == 1
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    body = code.replace(CONNECT, connect_in(make_ray_folder()))
    (tmp_path / "page.py").write_text(f"def main():\n{indent(body, '    ')}\nif __name__ == '__main__':\n    main()\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hf")}
    ran = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    for line in re.findall(r"^# prints (.*)$", code, re.MULTILINE):
        assert line in ran.stdout


def connect_in(folder: Path) -> str:
    return f"hemo.connect(address='local', cpus=2, temp_dir={str(folder)!r})"
