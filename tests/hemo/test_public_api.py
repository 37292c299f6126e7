"""What `import hemo` gives."""

import json
import re
import subprocess
import sys

import pytest

import hemo
import hemo.library.outputs
from hemo.library import jobs

SLOW_PACKAGES = ("torch", "ray", "pyarrow", "pydicom", "numpy", "pandas", "pydantic")


def test_import_loads_nothing_that_is_slow() -> None:
    code = f"import json, sys, hemo; print(json.dumps([name for name in {SLOW_PACKAGES} if name in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(loaded) == []


def test_reading_an_image_needs_neither_torch_nor_ray() -> None:
    code = "import sys, hemo; hemo.read_image; print([name for name in ('torch', 'ray') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", hemo.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    assert name in dir(hemo)
    assert name.startswith("__") or getattr(hemo, name).__doc__


def test_what_jobs_return_shows_itself_in_notebooks() -> None:
    names = {hint for job in vars(jobs).values() if isinstance(job, jobs.Job) for hint in returned(job)}
    known = {**vars(hemo.library.outputs), **{name: getattr(hemo, name) for name in hemo.__all__}}
    shown = {name: known[name] for name in names | {"ReadImage"} if name in known}
    assert len(shown) > 10
    hidden = [name for name, kind in shown.items() if not {"_repr_html_", "_repr_markdown_"} & set(dir(kind))]
    assert hidden == []


def returned(job: jobs.Job) -> set[str]:
    """Return the names in the annotation of what a job returns."""
    return set(re.findall(r"\w+", str(job.run.__annotations__["return"])))


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(AttributeError, match=r"hemo has no 'konvert'; it has .*convert"):
        _ = hemo.konvert
