"""The `pipeline` job: phantom, convert, curate, tune and report one after the other, from one config."""

import time
from collections.abc import Callable
from typing import TypeVar

from hemo.cluster.convert.job import convert_corpus
from hemo.cluster.curate import curate_corpus
from hemo.cluster.phantom import make_phantom
from hemo.cluster.session import connected
from hemo.cluster.tracking.trial_tracker import check_tracking
from hemo.cluster.tuning.searchers import check_storage
from hemo.cluster.tuning.sweep import tune_models
from hemo.config.pipeline import PipelineConfig
from hemo.config.trial import TrialConfig
from hemo.config.tune import TuneConfig
from hemo.console import print_line
from hemo.corpus.sources import media_of
from hemo.errors import ConfigError, SourceError
from hemo.imaging.settings import image_settings
from hemo.pseudonym import read_pseudonyms
from hemo.reporting.build import write_report
from hemo.storage import exists, require_writable
from hemo.sweeps.grid import grid_trials
from hemo.sweeps.space import search_space, searched_trials
from hemo.training.option_checks import check_models

R = TypeVar("R")


def run_pipeline(config: PipelineConfig) -> str:
    """Run every stage on one Ray; each leaves alone what it finds complete.

    Each stage and its duration are printed on standard error.

    Returns:
        Where the report's page is.

    Raises:
        UserError: Before any stage runs where that can be known, see `check_inputs`.
        HemoError: What a stage raised; the stages before it are kept.
    """
    check_inputs(config)
    phantom = config.phantom
    first = [] if phantom is None else [("phantom", lambda: make_phantom(phantom))]
    stages: list[tuple[str, Callable[[], object]]] = [
        *first,
        ("convert", lambda: convert_corpus(config.convert)),
        ("curate", lambda: curate_corpus(config.curate)),
        ("tune", lambda: tune_models(config.tune)),
    ]
    total = len(stages) + 1
    with connected(config.cluster):
        for number, (name, run) in enumerate(stages, start=1):
            _timed(f"[{number}/{total}] {name}", run)
    return _timed(f"[{total}/{total}] report", lambda: write_report(config.report))


def check_inputs(config: PipelineConfig) -> None:
    """Refuse what no stage could work with, before the first one runs.

    Raises:
        OutputError: If `out` cannot be written.
        SourceError: If there is no source or no label file.
        ConfigError: On an unknown window or backbone, Hounsfield units, a bad pseudonym key, a cell or space that is
            no trial, images too small for a backbone, weights that cannot be read, options that suit no trial, or a
            tracker or a study that cannot lie where it is configured.
    """
    if config.phantom is None:
        _require_source(config)
    settings = image_settings(
        config.convert,
        media_of(config.convert.source, config.convert.corpus),
        read_pseudonyms(config.convert.pseudonym_key),
    )
    if settings.dtype != "uint8":
        raise ConfigError("convert.pixels: hu16 stores Hounsfield units, which training does not take; use windows")
    channels = len(settings.channels) * (1 + 2 * config.curate.neighbours)
    check_models(_trials(config.tune), channels, (settings.side_px, settings.side_px))
    check_tracking(config.tune.tracking, config.tune.out)
    check_storage(config.tune)
    require_writable(config.out)  # last: it makes the folder


def _require_source(config: PipelineConfig) -> None:
    if not exists(config.convert.source):
        raise SourceError(f"convert.source: {config.convert.source} does not exist; give the folder of the corpus")
    labels, convert = config.curate.labels, config.convert
    if labels == "manifest" and (convert.corpus != "manifest" or convert.pseudonym_key):
        raise SourceError("curate.labels: `manifest` needs convert.corpus manifest without pseudonym_key; give a file")
    if labels not in ("source_class", "manifest") and not exists(labels):
        raise SourceError(f"curate.labels: {labels} does not exist; give a CSV or Parquet file, or source_class")


def _trials(config: TuneConfig) -> dict[str, TrialConfig]:
    """Return the cells of a grid; of a search, trials that together have every choice of its space."""
    if config.grid is not None:
        return {f"grid: {trial.name}": trial for trial in grid_trials(config.trial, config.grid)}
    assert config.search is not None  # TuneConfig has one of the two
    search_space(config.trial, config.search)
    return dict(searched_trials(config.trial, config.search))


def _timed(title: str, run: Callable[[], R]) -> R:
    print_line(title)
    started = time.monotonic()
    result = run()
    print_line(f"{title}: done in {time.monotonic() - started:.1f} s")
    return result
