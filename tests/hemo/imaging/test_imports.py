"""The decoder of one file is light enough for any program."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["hemo.imaging.dicom", "hemo.imaging.dicom.read"])
def test_dicom_is_decoded_without_storage_and_tables(module: str) -> None:
    heavy = "fsspec pyarrow ray torch"
    code = f"import sys, {module}; print([name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
