"""Flags over YAML over defaults, `--help`, and one line for each error."""

import re
import shlex
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml
from pydantic import Field

from hemo.config.load import load_config, read_yaml
from hemo.config.pipeline import PipelineConfig
from hemo.config.tune import TuneConfig
from hemo.config.types import Config, Groups, Location
from hemo.errors import ConfigError


class Model(Config):
    """Nested part."""

    backbone: str = "resnet18"
    dropout: float = Field(0.5, ge=0, lt=1, description="fraction of units, 50% by default")


class Job(Config):
    """A config with one field of each kind."""

    GROUPS: ClassVar[Groups] = {"output": ("out",), "images": ("side_px", "kind"), "network": ("model",)}

    out: Location = Field(description="folder")
    rate: float = 0.1
    side_px: int = Field(256, ge=8)
    names: tuple[str, ...] = ("brain",)
    kind: Literal["rsna", "dicom"] = "rsna"
    neighbours: Literal[0, 1] = 0
    keep: bool | Literal["auto"] = "auto"
    labels: Literal["source_class"] | Location = "source_class"
    space: dict[str, Model] = Field({}, description="name -> part")
    model: Model = Model()


def load(*argv: str) -> Job:
    return load_config(Job, argv, job="convert")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.yaml"


def test_flags_win_over_yaml_and_yaml_over_defaults(file: Path) -> None:
    file.write_text("out: /yaml\nside_px: 128\nmodel: {backbone: vgg16, dropout: 0.25}\n")
    config = load("--config", str(file), "--side_px", "64", "--model.backbone", "resnet50")
    assert (config.out, config.side_px, config.rate) == ("/yaml", 64, 0.1)
    assert config.model == Model(backbone="resnet50", dropout=0.25)


def test_a_number_with_an_exponent_is_a_number_in_file_and_flag(file: Path) -> None:
    file.write_text("out: a\nrate: 1e-5\n")
    assert load("--config", str(file)).rate == 0.00001
    assert load("--out", "a", "--rate", "5e-4").rate == 0.0005


def test_values_of_flags_are_read_as_yaml_but_text_stays_text() -> None:
    config = load("--out", "2024", "--names", "[a, b]", "--keep", "false", "--space", "{x.y: {dropout: 0.1}}")
    assert config.out == str(Path.cwd() / "2024")
    assert (config.names, config.keep, config.space) == (("a", "b"), False, {"x.y": Model(dropout=0.1)})


@pytest.mark.parametrize(
    ("yaml_text", "line"),
    [
        ("out: a\nsidepx: 3", r"job.yaml: sidepx: no such key \(did you mean side_px\?\); known here: out, rate, "),
        (
            "out: a\nmodel: {bakbone: x}",
            r"job.yaml: model.bakbone: no such key \(did you mean backbone\?\); known here: backbone, dropout$",
        ),
        ("out: a\nspace: {p.q: {dropuot: 0}}", r"space.p.q.dropuot: no such key .*; known here: backbone, dropout$"),
        ("out: a\nside_px: big", "job.yaml: side_px: must be a whole number, not 'big'$"),
        ("out: a\nmodel: 3", r"job.yaml: model: must be `key: value` lines or {key: value}, not 3$"),
        ("out: a\nkind: mri", "job.yaml: kind: must be 'rsna' or 'dicom', not 'mri'$"),
        ("out: a\nkeep: perhaps", "job.yaml: keep: must be true or false or 'auto', not 'perhaps'$"),
        ("out: ''", "job.yaml: out: is empty; give a folder, a file or a URI, not ''$"),
        ("side_px: 64", "job.yaml: out: is missing and has no default$"),
    ],
)
def test_an_error_in_the_file_names_file_and_key(file: Path, yaml_text: str, line: str) -> None:
    file.write_text(yaml_text)
    with pytest.raises(ConfigError, match=line):
        load("--config", str(file))


def test_an_error_in_a_flag_names_the_flag_even_with_a_file(file: Path) -> None:
    file.write_text("out: a\nside_px: 64\n")
    with pytest.raises(ConfigError, match=r"^--model.dropout: must be less than 1, not 2$"):
        load("--config", str(file), "--model.dropout", "2")


def test_every_error_has_its_own_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load("--side_px", "x", "--names", "brain,bone")
    assert str(caught.value).splitlines() == [
        "--out: is missing and has no default",
        "--side_px: must be a whole number, not 'x'",
        "--names: must be a list such as [a, b], not 'brain,bone'",
    ]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["--sidepx", "3"],
            r"^--sidepx is no flag of `hemo convert` \(did you mean --side_px\?\); `hemo convert --help`",
        ),
        (["--side"], r"^--side is no flag"),
        (["--dropout", "0.1"], r"^--dropout is no flag of `hemo convert` \(did you mean --model\.dropout\?\); `hemo"),
        (["--side_px"], r"^--side_px: expected one argument; `hemo convert --help` lists the flags$"),
        (["--names", "a", "b"], r"^'b' belongs to no flag; write --FLAG VALUE, and lists as '\[a, b\]'"),
        (["--config", "missing.yaml"], r"^--config missing.yaml: No such file or directory; give a YAML file"),
    ],
)
def test_a_wrong_command_line_is_one_line(argv: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load("--out", "a", *argv)


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--epochs", "--trial.training.epochs"),
        ("--batch_size", "--trial.training.batch_size"),
        ("--space", "--search.space"),
    ],
)
def test_the_last_part_of_a_flag_is_a_hint_where_one_flag_ends_so(flag: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(TuneConfig, [flag, "3"], job="tune")
    assert f"{flag} is no flag of `hemo tune` (did you mean {hint}?)" in str(caught.value)


def test_what_only_a_section_needs_is_not_required_of_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(TuneConfig, ["--help"], job="tune")
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "dotted field of `trial` and its values: {choices: [...]} or {low, high, log} (required with search)" in shown
    )
    assert "folder of records, one for each trial (required)" in shown


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: [1, 2", "job.yaml is no YAML: line 1: expected ',' or ']'"),
        (b"\xff\xfe\x00a", "job.yaml is no YAML"),
        (b"a: 1\nb: {c: 1, c: 2}\n", "job.yaml is no YAML: line 2: c is repeated$"),
        (b"- a\n- b\n", "job.yaml must hold `key: value` lines, not list"),
        (b"", "job.yaml must hold `key: value` lines, not NoneType"),
        (b"a: !!python/object/apply:pathlib.Path.touch [ran]", "job.yaml is no YAML: line 1: could not determine a c"),
        (b"a: !!python/name:os.system", "job.yaml is no YAML: line 1: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(
    file: Path, content: bytes, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=line) as caught:
        read_yaml(str(file))
    assert len(str(caught.value).splitlines()) == 1
    assert not Path("ran").exists()


def test_a_flag_that_would_run_code_is_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    value = "!!python/object/apply:pathlib.Path.touch [ran]"
    with pytest.raises(ConfigError, match=r"^--grid: must be `key: value` lines or \{key: value\}, not '!!python"):
        load_config(TuneConfig, ["--training_set", "s", "--out", "o", "--grid", value], job="tune")
    assert not Path("ran").exists()


def test_help_shows_words_defaults_and_nested_flags(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as exit_info:
        load("--help")
    shown = capsys.readouterr().out
    assert exit_info.value.code == 0
    assert "--kind rsna|dicom" in shown
    assert "--neighbours 0|1" in shown
    assert "--out TEXT" in shown
    assert "folder (required)" in shown
    assert '(default ["brain"])' in shown
    assert "fraction of units, 50% by default (default 0.5)" in shown
    assert "type:" not in shown


def test_help_has_a_heading_for_each_group_and_a_section_below_that_of_its_field(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        load_config(Job, ["--help"], job="convert", doc="Summary.\n\nReads a.\n\nExample:\n    hemo convert --out b\n")
    shown = capsys.readouterr().out
    assert "\n\nSummary.\n\nReads a.\n\noptions:\n" in shown
    assert shown.endswith("\n\nExample:\n    hemo convert --out b\n")
    groups = {part.split(":\n")[0]: re.findall(r"^  --(\S+)", part, re.MULTILINE) for part in shown.split("\n\n")[3:]}
    assert groups["output"] == ["out"]
    assert groups["images"] == ["side_px", "kind"]
    assert groups["network"] == ["model.backbone", "model.dropout"]


def test_a_section_may_be_given_whole_and_its_fields_change_it(file: Path) -> None:
    file.write_text("out: a\nmodel: {backbone: vgg16, dropout: 0.25}\n")
    assert load("--config", str(file), "--model", "{dropout: 0.1}").model == Model(backbone="vgg16", dropout=0.1)
    words = ("--model.dropout", "0.3", "--model", "{backbone: a, dropout: 0.1}")
    assert load("--out", "a", *words).model == Model(backbone="a", dropout=0.3)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("3", r"^--model: must be `key: value` lines or {key: value}, not 3$"),
        ("{dropuot: 0}", r"^--model.dropuot: no such key \(did you mean dropout\?\); known here: backbone, dropout$"),
        ("{dropout: 2}", r"^--model.dropout: must be less than 1, not 2$"),
        ("{dropout", r"^--model: must be `key: value` lines or {key: value}, not '{dropout'$"),
    ],
)
def test_a_wrong_section_is_one_line(value: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        load("--out", "a", "--model", value)


GRID = {"axes": {"model.backbone": ["VGG16"], "model.head": ["F-D(8)"]}, "cells": [{"training.epochs": 3}, {}]}
SPACE = {"model.backbone": {"choices": ["VGG16"]}, "model.dropout": {"low": 0, "high": 0.5}}


@pytest.mark.parametrize(
    ("kind", "flag", "value", "line"),
    [
        (
            {"grid": GRID},
            "model.backbone",
            "resnet10t",
            "--trial.model.backbone: grid.axes sets model.backbone in every trial, resnet10t is in none; "
            "give --grid.axes '{model.backbone: [resnet10t]}'",
        ),
        (
            {"grid": GRID},
            "model.dense_width",
            "32",
            "--trial.model.dense_width: grid.axes sets model.head in every trial, 32 is in none; leave it out",
        ),
        (
            {"search": {"space": SPACE}},
            "model.backbone",
            "resnet10t",
            "--trial.model.backbone: search.space sets model.backbone in every trial, resnet10t is in none; "
            "give --search.space '{model.backbone: {choices: [resnet10t]}}'",
        ),
        (
            {"search": {"space": SPACE}},
            "model.dropout",
            "0.3",
            "--trial.model.dropout: search.space sets model.dropout in every trial, 0.3 is in none; leave it out",
        ),
    ],
)
def test_a_flag_that_every_trial_overrides_is_refused(
    tmp_path: Path, kind: dict[str, Any], flag: str, value: str, line: str
) -> None:
    """In the file it is what others would start from. The way out that is named works."""
    sweep = {"training_set": "/s", "out": "/o", "trial": {"model": {flag.rpartition(".")[2]: yaml.safe_load(value)}}}
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({**sweep, **kind}))
    config = ["--config", str(file)]
    assert load_config(TuneConfig, [*config, "--trial.training.epochs", "5"], job="tune").trial.training.epochs == 5
    with pytest.raises(ConfigError, match=rf"^{re.escape(line)}$"):
        load_config(TuneConfig, [*config, f"--trial.{flag}", value], job="tune")
    if "give --" in line:
        loaded = load_config(TuneConfig, [*config, *shlex.split(line.partition("give ")[2])], job="tune")
        assert value in str(loaded.grid.axes if loaded.grid else loaded.search and loaded.search.space)


@pytest.mark.parametrize("flag", ["model.hidden_layers", "model.dense_width", "training.learning_rate", "name"])
def test_a_flag_that_every_cell_overrides_is_refused(flag: str) -> None:
    """All seven cells set these four; a seed, which none sets, is that of all seven."""
    config = ["--config", str(Path(__file__).parents[3] / "conf/grid/chest_xray_resnet50.yaml")]
    line = (
        f"--trial.{flag}: each of grid.cells sets {flag}, so that the flag changes no trial; change the cells, or "
        "leave it out"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        load_config(TuneConfig, [*config, f"--trial.{flag}", "2"], job="tune")
    assert load_config(TuneConfig, [*config, "--trial.seed", "2"], job="tune").trial.seed == 2


def test_a_flag_that_one_cell_leaves_free_is_accepted() -> None:
    """A head by its name sets all fields of the head, dropout included."""
    cells = [{"model.head": "F-D(8)"}, {"model": {"dense_width": 8, "hidden_layers": 1}}]
    flags = ["--training_set", "/s", "--out", "/o", "--grid.cells", yaml.safe_dump(cells, default_flow_style=True)]
    loaded = load_config(TuneConfig, [*flags, "--trial.model.pooling", "gap"], job="tune")
    assert loaded.trial.model.pooling == "gap"
    with pytest.raises(ConfigError, match=r"^--trial\.model\.dense_width: each of grid\.cells sets model\.dense_width"):
        load_config(TuneConfig, [*flags, "--trial.model.dense_width", "16"], job="tune")


def test_a_flag_of_a_stage_is_refused_as_that_of_its_job(tmp_path: Path) -> None:
    stages = {"out": "/o", "phantom": {}, "curate": {}, "report": {}, "tune": {"grid": GRID}}
    file = tmp_path / "pipeline.yaml"
    file.write_text(yaml.safe_dump(stages))
    config = ["--config", str(file)]
    load_config(PipelineConfig, config, job="pipeline")
    with pytest.raises(
        ConfigError, match=r"^--tune\.trial\.model\.backbone: .*--tune\.grid\.axes '{model\.backbone: \[a\]}'$"
    ):
        load_config(PipelineConfig, [*config, "--tune.trial.model.backbone", "a"], job="pipeline")
