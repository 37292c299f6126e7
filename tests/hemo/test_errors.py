"""Texts of errors."""

import subprocess
import sys

import pytest

from hemo.errors import ConfigError, first_names, require_extra, without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:sesame@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("not 'mysql+pymysql://u:ses@me/a:b@h/db', but", "not 'mysql+pymysql://u:***@h/db', but"),
        ("postgresql://h/db?user=u&password=sesame&a=1", "postgresql://h/db?user=u&password=***&a=1"),
        ("user:sesame@host/db", "user:***@host/db"),
        ("mysql://:sesame@host/db", "mysql://:***@host/db"),
        ("postgresql://user@host/studies", "postgresql://user@host/studies"),
        ("sqlite:////shared/study.db cannot be opened", "sqlite:////shared/study.db cannot be opened"),
        ("s3://bucket/x: mail me@host", "s3://bucket/x: mail me@host"),
    ],
)
def test_passwords_of_database_urls_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert without_passwords(text) == shown


def test_first_names_and_how_many_more() -> None:
    assert (first_names(["a", "b"]), first_names(list("abcdefg"))) == ("a, b", "a, b, c, d, e and 2 more")


def test_an_extra_that_is_not_installed_is_named() -> None:
    require_extra("export", "json", "re")
    with pytest.raises(ConfigError, match=r"export needs no_such_package, .* `pip install 'hemo\[export\]'`"):
        require_extra("export", "json", "no_such_package")


@pytest.mark.slow  # a process that loads torch
def test_without_an_extra_its_job_says_so_and_the_others_work() -> None:
    """Before anything is read: the config is not even looked at."""
    code = """
import sys
missing = {"captum", "onnx"}
sys.modules |= dict.fromkeys(missing)
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in missing else find(name, *more)
import hemo.cluster.tracking.trial_tracker
from hemo.cluster.export import export_checkpoint
from hemo.inference.explain import explain_cases
for run in (explain_cases, export_checkpoint):
    try:
        run(None)
    except hemo.errors.ConfigError as error:
        print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    explain, export = ran.stdout.splitlines()
    assert "explain needs captum" in explain
    assert "export needs onnx" in export
