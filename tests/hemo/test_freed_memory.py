"""Memory that a process frees is used again without asking the system for it."""

import subprocess
import sys

import pytest

ROUNDS = """
import resource
import sys
from hemo import freed_memory

def faults(rounds, blocks, mebibytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        taken = [b"x" * (mebibytes << 20) for _ in range(blocks)]
        del taken
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

setting, blocks, mebibytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
faults(4, blocks, mebibytes)
without = faults(20, blocks, mebibytes)
assert getattr(freed_memory, setting)()
faults(4, blocks, mebibytes)
print(without, faults(20, blocks, mebibytes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
@pytest.mark.parametrize(
    ("setting", "blocks", "mebibytes"),
    [("keep_buffers_of_images", 8, 1), ("keep_tensors", 8, 1), ("keep_tensors", 2, 40)],
)
def test_freed_blocks_are_used_again_without_asking_the_system(setting: str, blocks: int, mebibytes: int) -> None:
    """A MiB has 256 pages; each page that the system has to give anew counts as a fault."""
    command = [sys.executable, "-c", ROUNDS, setting, str(blocks), str(mebibytes)]
    without, kept = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert without > 20 * 0.7 * 256 * blocks * mebibytes
    assert kept < 20 * 100
