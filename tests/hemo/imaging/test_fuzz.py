import subprocess
import sys
from pathlib import Path

from benchmarks.damaged_files import MADE, damaged, valid_photos, valid_slices

ROOT = Path(__file__).parents[3]


def test_500_damaged_files_become_rows_or_rejects():
    """In a process of its own: a decoder that crashes must not take the suite with it."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuzz_convert",
        "--files",
        "500",
        "--seed",
        "20261120",
        "--workers",
        "1",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults: 0" in done.stdout
    for outcome in ("row", "truncated", "bad_header", "decode_failed", "not_image"):
        assert f"| {outcome} |" in done.stdout


def test_damage_is_a_function_of_seed_and_number():
    slices, photos = valid_slices(), valid_photos()
    assert len(slices) == MADE
    first, again, other = (damaged(slices, photos, seed, 7).data for seed in (1, 1, 2))
    assert first == again != other
