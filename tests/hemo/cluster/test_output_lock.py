import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hemo.cluster.output_lock import claimed
from hemo.errors import OutputError

HOLDER = """
import sys, time
from hemo.cluster.output_lock import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_holds_a_folder_no_longer(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run is writing in"), claimed(str(tmp_path)):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    with claimed(str(tmp_path)):
        pass


def test_temporary_files_go_before_and_after_and_nothing_else(tmp_path):
    def leave(name: str) -> None:
        (tmp_path / "shards").mkdir(exist_ok=True)
        for folder in (tmp_path, tmp_path / "shards"):
            (folder / name).touch()

    def names() -> set[str]:
        return {path.name for path in Path(tmp_path).rglob("*") if path.is_file()}

    leave(".card.json.0123456789abcdef.tmp")
    leave(".hidden.tmp")
    with claimed(str(tmp_path)):
        assert names() == {".hidden.tmp"}
        leave(".card.json.fedcba9876543210.tmp")
    assert names() == {".hidden.tmp"}


def test_a_bucket_has_no_lock_and_needs_none(tmp_path):
    with claimed("memory://bucket/out"), claimed("memory://bucket/out"):
        pass
