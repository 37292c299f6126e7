from pathlib import Path

import pytest

from ray_jobs.plan import main
from tests.dicom_files import head_file


def test_it_takes_the_file_of_convert_and_prints_the_path_of_the_result(ray_cluster, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"ID_{number}.dcm").write_bytes(head_file())
    words = ["--source", str(corpus), "--out", str(tmp_path / "out"), "--side_px", "16", "--nodes", "[2, 4]"]
    main(["--config", "conf/convert/rsna.yaml", *words])
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [str(tmp_path / "out/plan.json")]
    assert "4 files in 1 units" in shown.err
    assert Path(shown.out.strip()).is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--nodes", "[0]"], "--nodes.0: must be greater than 0"),
        (["--nodes", "[]"], "--nodes: "),
        (["--price_per_node_hour", "-1"], "--price_per_node_hour: "),
        (["--cpus_per_node", "many"], "--cpus_per_node: "),
        (["--files_per_cpu", "2"], "--files_per_cpu: must be greater than or equal to 8"),
    ],
)
def test_a_mistake_is_one_line(words, line, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--source", str(tmp_path / "in"), "--corpus", "rsna", "--out", str(tmp_path / "out"), *words])
    shown = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(shown) == 1
    assert line in shown[0]
