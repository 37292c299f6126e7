"""The whole line, small: corpus to page by one command, and nothing done twice."""

from pathlib import Path

import pytest

from ray_jobs.pipeline import main

CONFIG = """
phantom: {slices: 120, positive_fraction: 0.5}
convert: {side_px: 32, unit_files: 60}
curate: {split: by_patient_stratified, val_fraction: 0.2, test_fraction: 0.2}
tune:
  concurrent: 1
  trial: {training: {epochs: 1, batch_size: 32}}
  grid: {axes: {model.backbone: [resnet10t], model.hidden_layers: [0, 1]}}
report: {title: Small line, bootstrap_samples: 50}
"""


@pytest.mark.timeout(600)
def test_from_nothing_to_a_page_and_again_without_work(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "line.yaml").write_text(CONFIG)
    command = ["--config", str(tmp_path / "line.yaml"), "--out", str(tmp_path / "out")]
    main(command)
    first = capsys.readouterr()
    page = tmp_path / "out" / "report" / "index.html"
    assert first.out.splitlines()[-1] == str(page)
    assert sum(line.startswith("|") and "resnet10t" in line for line in first.out.splitlines()) >= 2
    assert "Small line" in page.read_text()
    assert "images are synthetic, made by <code>hemo phantom</code>" in page.read_text()
    assert "[5/5] report: done in" in first.err

    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if is_result(file)}
    main(command)
    assert capsys.readouterr().out == first.out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if is_result(file)} == kept


def is_result(file: Path) -> bool:
    """Tell files that a second run must leave alone; the report is computed from records each time."""
    return file.is_file() and not {"report", "log"} & set(file.parts)


def test_a_mistake_in_the_file_ends_it_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "line.yaml").write_text(CONFIG.replace("side_px", "side_pix"))
    with pytest.raises(SystemExit) as exit_info:
        main(["--config", str(tmp_path / "line.yaml"), "--out", str(tmp_path / "out")])
    assert exit_info.value.code == 2
    line = "line.yaml: convert.side_pix: no such key (did you mean side_px?); known here: source, corpus, pixels"
    assert line in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
