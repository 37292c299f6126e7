"""The entry point of `watch`, as a process that a signal ends."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from hemo.storage import list_changes
from ray_jobs import watch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_address_then_the_page_until_a_signal(number, make_record, tmp_path):
    make_record({"name": "only"}, many=True)
    records = str(tmp_path / "records")
    before = list_changes(records)
    command = [sys.executable, "-m", "ray_jobs.watch", "--records", records, "--port", "0", "--refresh_s", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}now.json", timeout=180) as answer:
            assert json.load(answer)["trouble"] == ""
        process.send_signal(number)
        out, error = process.communicate(timeout=180)
    assert url.startswith("http://127.0.0.1:")
    assert (process.returncode, out, error) == (0, f"ended; nothing was written to {records}\n", "")
    assert list_changes(records) == before


def test_a_taken_port_is_the_users_fault(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as leaving:
        watch.main(["--records", str(tmp_path), "--port", str(taken.getsockname()[1])])
    assert leaving.value.code == 2
    assert "cannot be had (Address already in use); give another --port" in capsys.readouterr().err
