"""Config of a report: operating points and prevalence."""

from typing import Any

import pytest

from hemo.config.load import load_config
from hemo.config.report import ReportConfig
from hemo.errors import ConfigError

FLAGS = ["--records", "records", "--out", "report"]


@pytest.mark.parametrize(("text", "value"), [("0.02", 0.02), ("{any: 0.14}", {"any": 0.14}), ("observed", "observed")])
def test_a_prevalence_is_a_number_or_one_a_class(text: str, value: Any) -> None:
    assert load_config(ReportConfig, [*FLAGS, "--prevalence", text], job="report").prevalence == value


@pytest.mark.parametrize("text", ["1", "0", "-0.1", "{any: 2}", "rare"])
def test_what_is_no_prevalence_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"prevalence: must be `observed`, a number above 0 and below 1, or such a"):
        load_config(ReportConfig, [*FLAGS, "--prevalence", text], job="report")


def test_operating_points_have_their_plain_names() -> None:
    given = [*FLAGS, "--operating_points", "[cost_ratio=5.0, sensitivity=0.990]"]
    assert load_config(ReportConfig, given, job="report").operating_points == ("cost_ratio=5", "sensitivity=0.99")
    with pytest.raises(ConfigError, match=r"must be balanced_accuracy, .*, not 'recall=1'"):
        load_config(ReportConfig, [*FLAGS, "--operating_points", "[recall=1]"], job="report")
