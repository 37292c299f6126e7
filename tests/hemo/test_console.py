"""What standard error shows, and what is kept out of it."""

import os
import re
import subprocess
import sys

import pytest

from hemo.console import print_line, stderr_without

NOISE = re.compile(rb"\[noise\] [^\n]*\n")


def test_lines_that_match_are_left_out_whoever_writes_them(capfd: pytest.CaptureFixture[str]) -> None:
    """In the middle of a progress bar too; afterwards nothing is left out."""
    with stderr_without(NOISE):
        print_line("first")
        os.write(2, b"bar 10%[noise] of a library\n")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'[noise] of a process\\nkept\\n')"], check=True)
        os.write(2, b"bar 20%\n")
    os.write(2, b"[noise] afterwards\n")
    assert capfd.readouterr().err == "first\nbar 10%kept\nbar 20%\n[noise] afterwards\n"


def test_more_than_a_pipe_holds_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    with stderr_without(NOISE):
        for number in range(40):
            os.write(2, bytes([65 + number % 26]) * 10_000)
    shown = capfd.readouterr().err
    assert len(shown) == 400_000
    assert shown[390_000] == "N"  # of the last, number 39


def test_an_error_within_restores_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        os.write(2, b"[noise] before\n")
        raise KeyError

    with pytest.raises(KeyError), stderr_without(NOISE):
        fail()
    os.write(2, b"[noise] after\n")
    assert capfd.readouterr().err == "[noise] after\n"
