import subprocess
import sys

import pytest

ROUNDS = """
import resource
import numpy as np
from hemo.cluster.process import keep_freed_memory

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [np.ones(1 << 20, np.uint8) for _ in range(8)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(4)
without = faults(20)
assert keep_freed_memory()
faults(4)
print(without, faults(20))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="an option of glibc")
def test_freed_blocks_are_used_again_without_asking_the_system():
    """A round frees 8 MiB, 2,048 pages; each page that the system has to give anew counts as a fault."""
    shown = subprocess.run([sys.executable, "-c", ROUNDS], capture_output=True, text=True, check=True).stdout
    without, kept = map(int, shown.split())
    assert without > 20 * 1500
    assert kept < 20 * 100
