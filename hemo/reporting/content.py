"""What a report or a live page shows of a folder of records: comparisons, evidence, evaluations, published tables."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hemo.config.report import StudyConfig
from hemo.errors import ConfigError, SourceError
from hemo.reporting.comparison import Comparison, Known, compare_trials
from hemo.reporting.elsewhere import Elsewhere, read_elsewhere
from hemo.reporting.page.data_set import DataSet
from hemo.reporting.page.evidence import add_scanners, read_evidence
from hemo.reporting.page.gallery import add_mistakes
from hemo.reporting.page.study_data import study_data
from hemo.reporting.probabilities import DecisionSettings
from hemo.reporting.published.source import published_table
from hemo.reporting.published.table import PublishedComparison, compare_with_published
from hemo.reporting.selection import Resampled
from hemo.trials.evaluation import read_evaluations
from hemo.trials.record import TrialRecord, has_records, read_records


@dataclass(frozen=True, eq=False)
class Content:
    """Records, evaluated and compared."""

    comparisons: Sequence[Comparison]  # in the order of the page
    data: Mapping[str, Any]  # what the page shows of them, as `study_data` returns it
    published: Sequence[PublishedComparison] = ()
    elsewhere: Sequence[Elsewhere] = ()  # evaluations on other images
    unreadable: Sequence[str] = ()  # a line for each record that is left out because it cannot be read

    def known(self, changed: Collection[str]) -> Known:
        """Return what was computed of the trials whose digests are not `changed`."""
        rows = {row.record.digest: row for comparison in self.comparisons for row in comparison.rows}
        resampled: dict[str, dict[str, Resampled]] = defaultdict(dict)
        for choice in (choice for comparison in self.comparisons for choice in comparison.choices):
            resampled[choice.metric] |= _unchanged(choice.resampled, changed)
        return Known(_unchanged(rows, changed), resampled)

    @property
    def evidence(self) -> dict[str, Any]:
        """Digest -> evidence of the trials that have any."""
        trials = [trial for comparison in self.data["comparisons"] for trial in comparison["trials"]]
        return {trial["digest"]: trial["evidence"] for trial in trials if trial["evidence"]}


def read_content(
    config: StudyConfig,
    data: DataSet | None,
    before: Content | None = None,
    changed: Collection[str] = (),
) -> Content:
    """Read and compare the records of `config.records`.

    Args:
        config: Which records, and by which statistics.
        data: The training set or shards of `config.data`.
        before: What was read before by the same config.
        changed: Digests of trials whose files have changed since; others are taken from `before`.

    Raises:
        SourceError: If there are no records, or none can be read.
        ConfigError: If a prevalence is given of a class that no trial has.
    """
    errors: list[SourceError] = []
    known = before.known(changed) if before else Known()
    found = _unchanged(before.evidence, changed) if before else {}
    evaluations, given = read_evaluations(config.records, errors.append), has_records(config.records)
    records = (
        []
        if evaluations and not given
        else read_records(config.records, errors.append, {digest: row.record for digest, row in known.rows.items()})
    )
    if not records and not evaluations:
        raise errors[0]
    _require_known_classes(config, records)
    decisions = DecisionSettings(config.operating_points, config.prevalence)
    comparisons = compare_trials(
        records,
        config.records,
        samples=config.bootstrap_samples,
        seed=config.seed,
        decisions=decisions,
        known=known,
    )
    evidence: dict[str, Any] = {}
    for comparison in comparisons:
        evidence |= read_evidence(comparison, config.records, decisions, found)
    if data:
        add_scanners(evidence, comparisons, config.records, data)
    elsewhere = [read_elsewhere(config.records, each) for each in evaluations]
    shown = study_data(comparisons, evidence, config.seed, elsewhere)
    if data:
        add_mistakes(shown, comparisons, config.records, data, config.heat_maps)
    compared = [row for comparison in comparisons for row in comparison.rows]
    published = [each for name in config.published for each in compare_with_published(published_table(name), compared)]
    return Content(comparisons, shown, published, elsewhere, [f"Left out, unreadable: {error}" for error in errors])


def _unchanged(known: Mapping[str, Any], changed: Collection[str]) -> dict[str, Any]:
    return {digest: value for digest, value in known.items() if digest not in changed}


def _require_known_classes(config: StudyConfig, records: Sequence[TrialRecord]) -> None:
    """Refuse a prevalence of a class that no trial has."""
    if not isinstance(config.prevalence, dict):
        return
    known = list(dict.fromkeys(name for record in records for name in record.classes))
    for name in config.prevalence:
        if name not in known:
            raise ConfigError(f"prevalence: {name!r} is no class of these trials; they have {', '.join(known)}")
