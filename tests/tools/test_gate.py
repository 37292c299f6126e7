"""The gate on length and names."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def gate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gate", Path(__file__).parents[2] / "tools" / "gate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function_of(lines: int) -> str:
    return "def f():\n" + "    x = 1\n" * (lines - 1)


def test_a_function_of_50_lines_passes_and_one_of_51_fails(gate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(function_of(50))
    (tmp_path / "bad.py").write_text("\n" + function_of(51))
    assert list(gate.faults(tmp_path / "good.py")) == []
    assert list(gate.faults(tmp_path / "bad.py")) == [f"{tmp_path}/bad.py:2: f has 51 lines, at most 50 in a function"]


def test_a_file_of_400_lines_passes_and_one_of_401_fails(gate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("x = 1\n" * 400)
    (tmp_path / "bad.py").write_text("x = 1\n" * 401)
    assert list(gate.faults(tmp_path / "good.py")) == []
    assert list(gate.faults(tmp_path / "bad.py")) == [f"{tmp_path}/bad.py:1: 401 lines, at most 400 in a file"]


@pytest.mark.parametrize("name", ["utils.py", "helpers/x.py"])
def test_rooms_without_a_name_fail(gate: ModuleType, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    assert [fault.split(": ")[1] for fault in gate.faults(file)] == [
        "say what is in it; none of base, common, helpers, misc, util, utils does"
    ]


def test_faults_are_counted_over_folders(gate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "long.py").write_text(function_of(51))
    assert gate.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert capsys.readouterr().out.endswith("gate: 2 files, 2 faults\n")
