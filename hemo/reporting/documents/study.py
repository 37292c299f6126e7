"""What the documents on a trial are made from: record, comparison, predictions, card of the training set."""

from collections.abc import Sequence
from dataclasses import dataclass

from hemo.config.document import DocumentConfig, Statements
from hemo.curation.card import TrainingSetCard, read_card
from hemo.errors import ConfigError
from hemo.models.weight_files import EmbeddedBy, read_embedded_by
from hemo.reporting.comparison import Comparison, compare_trials
from hemo.reporting.elsewhere import Elsewhere, read_elsewhere
from hemo.reporting.trial_row import Row, read_test
from hemo.reporting.trial_table import subject
from hemo.trials.evaluation import read_evaluations
from hemo.trials.key import checkpoint_folder
from hemo.trials.predictions import Scores
from hemo.trials.record import TrialRecord, read_records, read_training_set_card, title_of


@dataclass(frozen=True, eq=False)
class Study:
    """A trial that ran to its end, and what is known of it."""

    row: Row
    comparison: Comparison  # of all trials that it was chosen among
    scores: Scores | None  # on test; None where that was not read
    card: TrainingSetCard | None  # without ids; None where the records do not have it
    statements: Statements
    elsewhere: tuple[Elsewhere, ...] = ()  # evaluations of its checkpoint on other images
    embedded_by: EmbeddedBy | None = None  # of a sequence model: its embeddings; None without a checkpoint too

    @property
    def record(self) -> TrialRecord:
        """The trial's record."""
        return self.row.record

    @property
    def seeds(self) -> list[Row]:
        """The trials that differ from this one by seed only, itself included."""
        cells = [cell for cell in self.comparison.cells if self.row in cell.rows]
        return list(cells[0].rows) if cells else [self.row]


def read_study(config: DocumentConfig) -> Study:
    """Read a trial and what it was compared with.

    Raises:
        SourceError: If there are no records, or predictions or the training set cannot be read.
        ConfigError: If there is no such trial, it is not complete, or the training set is another one.
    """
    records = read_records(config.records)
    comparisons = compare_trials(records, config.records, samples=config.bootstrap_samples, seed=config.seed)
    comparison, row = _named(comparisons, config.trial) if config.trial else _best(comparisons)
    record = row.record
    if record.status != "complete":
        raise ConfigError(f"trial: {title_of(record)} is {record.status}; give one that is complete")
    if record.external:
        raise ConfigError(f"trial: {title_of(record)} was not trained by hemo, which has its predictions only")
    card = read_training_set_card(config.records, record.training_set)
    if config.training_set:
        card = read_card(config.training_set)
        if card.digest != record.training_set:
            raise ConfigError(
                f"training_set: {config.training_set} is {card.digest}, {title_of(record)} was trained on "
                f"{record.training_set}; give that one"
            )
    elsewhere = [each for each in read_evaluations(config.records) if each.checkpoint.record == record.digest]
    found = tuple(read_elsewhere(config.records, each) for each in elsewhere)
    embedded_by = read_embedded_by(checkpoint_folder(config.records, record.digest))
    return Study(row, comparison, read_test(record, config.records), card, config.statements, found, embedded_by)


def _best(comparisons: Sequence[Comparison]) -> tuple[Comparison, Row]:
    found = [(comparison, comparison.best) for comparison in comparisons if comparison.best]
    if len(found) != 1:
        listed = "; ".join(f"{title_of(row.record)} ({subject(comparison)})" for comparison, row in found)
        raise ConfigError(f"trial: give one: {listed or 'no trial is complete'}")
    return found[0]


def _named(comparisons: Sequence[Comparison], name: str) -> tuple[Comparison, Row]:
    rows = [(comparison, row) for comparison in comparisons for row in comparison.rows]
    found = [pair for pair in rows if name in (pair[1].record.digest, title_of(pair[1].record))]
    if len(found) != 1:
        listed = ", ".join(f"{title_of(row.record)} ({row.record.digest})" for _, row in found or rows)
        raise ConfigError(f"trial: {name!r} is the name of {len(found)} trials; give the digest of one: {listed}")
    return found[0]
