"""A raw corpus to shards: plan on the driver, units in Ray Data tasks, index and card at the end."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from hemo.cluster.convert.tasks import UnitFailure, convert_units
from hemo.cluster.ray_data import stopped
from hemo.config.convert import ConvertConfig
from hemo.config.types import ENVIRONMENT
from hemo.console import print_line, progress_bar
from hemo.corpus.source_file import Listing
from hemo.corpus.sources import list_corpus, media_of
from hemo.digest import differences
from hemo.errors import ConfigError, HemoError, OutputError, RejectLimitError, SourceError
from hemo.imaging.image import CURABLE_REASONS
from hemo.imaging.settings import ImageSettings, image_settings
from hemo.output_lock import output_lock
from hemo.pseudonym import Pseudonymiser, pseudonymiser
from hemo.shards.card import read_card, write_derived
from hemo.shards.convert_unit import UnitTask
from hemo.shards.manifest import Unit, read_manifest, shard_path, unit_digest, update_manifest, write_manifest
from hemo.shards.schema import ShardFooter, read_footer
from hemo.storage import exists, join, list_files, read_bytes, remove

MOST_FAILURES = 20
"""Units that fail before the run stops at once: the storage is not what it should be."""

FAILURES_TOLD, REASONS_TOLD = 3, 5

FOOTER_THREADS = 16
DERIVED = ("card.json", "index.parquet", "rejects.parquet")
SHARD_NAME = re.compile(r"unit-\d{6,}\.parquet")


def convert_corpus(config: ConvertConfig) -> str:
    """Convert a corpus; units that are already done are left alone.

    Call it within `connected`.

    Returns:
        The output folder: `shards/`, `index.parquet`, `rejects.parquet`, `manifest.parquet` and `card.json`.

    Raises:
        SourceError: If the source is missing or empty, or two files would share an `image_id`.
        ConfigError: On an unknown window or a bad pseudonym key.
        OutputError: If `out` cannot be written, is being written by another run, or holds a conversion with other
            settings or of other files.
        RejectLimitError: As soon as more than `max_reject_fraction` of all inputs are rejected.
        HemoError: If files could not be read, or the storage or the workers failed more often than retries mend.
            Finished units are kept whatever is raised.
    """
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = image_settings(config, media_of(config.source, config.corpus), pseudonyms)
    listing = list_corpus(config.source, config.corpus)
    try:
        with output_lock(config.out, ("shards",)):
            _convert(config, listing, pseudonyms, settings)
    except OSError as error:
        raise HemoError(stopped("convert", f"{config.out}: {error.strerror or error}")) from error
    return config.out


def _convert(config: ConvertConfig, listing: Listing, pseudonyms: Pseudonymiser, settings: ImageSettings) -> None:
    _require_own_folder(config.out)
    done = _read_footers(config.out)
    _require_same_settings(config.out, done, settings)
    units, valid = _plan(config, listing, done, pseudonyms, settings)
    others = f" ({listing.ignored} others beside them left out)" if listing.ignored else ""
    print_line(f"convert: {len(listing.files)} files{others} in {len(units)} units, {len(valid)} of them done")
    if listing.unused_columns:
        print_line(f"convert: columns of the table that are not used: {', '.join(listing.unused_columns)}")
    task = UnitTask(config.source, settings, pseudonyms, config.read_threads)
    todo = [unit for unit in units if unit.number not in valid]
    done |= _convert_units(task, todo, [done[number] for number in valid], config)
    if all(exists(join(config.out, name)) for name in DERIVED):
        card = read_card(config.out)
    else:
        card = write_derived(config.out, units, [done[unit.number] for unit in units], ignored=listing.ignored)
    print_line(f"convert: {card.rows} rows, {card.rejects} rejects")
    _require_few_rejects(card.reject_reasons, card.rows + card.rejects, config)


def read_pseudonyms(key: str) -> Pseudonymiser:
    """Return what replaces identifiers.

    Args:
        key: Where the secret is: a file, or `env:NAME` for a variable of this process; empty: identifiers are kept.

    Raises:
        ConfigError: If it cannot be read or is too short.
    """
    if not key:
        return Pseudonymiser()
    if key.startswith(ENVIRONMENT):
        secret = os.environ.get(key.removeprefix(ENVIRONMENT))
        if secret is None:
            raise ConfigError(
                f"pseudonym_key: {key}: no such variable in the job's environment; export it, or give a file"
            )
        return pseudonymiser(os.fsencode(secret))
    try:
        return pseudonymiser(read_bytes(key))
    except OSError as error:
        raise ConfigError(
            f"pseudonym_key: {key}: {error.strerror or error}; give a file with a secret in it"
        ) from error


def _require_own_folder(out: str) -> None:
    """Refuse a folder in which something else than a conversion lies: it would be overwritten or mixed up."""
    try:
        if exists(join(out, "card.json")):
            read_card(out)
    except SourceError as error:
        raise OutputError(f"out: {out} holds the card.json of another job; give another folder") from error
    foreign = [name for name in _shard_files(out) if not SHARD_NAME.fullmatch(name)]
    if foreign:
        raise OutputError(f"out: {join(out, 'shards', foreign[0])} is no shard of hemo's; give another folder")


def _shard_files(out: str) -> list[str]:
    return list_files(join(out, "shards"))


def _read_footers(out: str) -> dict[int, ShardFooter]:
    """Return the footers of the shards that are there; one that is damaged counts as not there."""
    shards = [name for name in _shard_files(out) if SHARD_NAME.fullmatch(name)]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        footers = pool.map(lambda name: read_footer(join(out, "shards", name)), shards)
    return {footer.unit: footer for footer in footers if footer is not None}


def _require_same_settings(out: str, done: dict[int, ShardFooter], settings: ImageSettings) -> None:
    for footer in done.values():
        differing = differences(footer.settings, settings.model_dump(mode="json"))
        if differing:
            raise OutputError(
                f"out: {out} holds shards made otherwise ({differing}); give another folder or remove this one"
            )


def _plan(
    config: ConvertConfig,
    listing: Listing,
    done: dict[int, ShardFooter],
    pseudonyms: Pseudonymiser,
    settings: ImageSettings,
) -> tuple[list[Unit], set[int]]:
    """Bring the manifest up to date; return all units, and the numbers of those whose shard can stay.

    What no longer holds goes first: index, rejects and card, then the shards that will be made again. A run that ends
    in between leaves a folder that says it is unfinished.
    """
    manifest = read_manifest(config.out)
    update = update_manifest(manifest, listing.files, unit_files=config.unit_files, pseudonyms=pseudonyms)
    if manifest.files and not update.kept:
        raise OutputError(f"out: {config.out} holds the conversion of another source; give an empty folder")
    plain = settings.model_dump(mode="json")
    valid = {
        unit.number
        for unit in update.units
        if unit.number not in update.stale
        and unit.number in done
        and done[unit.number].digest == unit_digest(unit, plain, pseudonyms)
        and CURABLE_REASONS.isdisjoint(reject.reason for reject in done[unit.number].rejects)
    }
    if len(valid) < len(update.units) or update.manifest != manifest:
        _drop_all_but(config.out, valid)
        write_manifest(config.out, update.manifest)
    return update.units, valid


def _drop_all_but(out: str, valid: set[int]) -> None:
    """Remove what is derived from the shards, and every shard but the valid ones."""
    for name in DERIVED:
        remove(join(out, name))
    keep = {shard_path(number) for number in valid}
    for name in _shard_files(out):
        if f"shards/{name}" not in keep:
            remove(join(out, "shards", name))


def _convert_units(
    task: UnitTask, units: Sequence[Unit], done: Iterable[ShardFooter], config: ConvertConfig
) -> dict[int, ShardFooter]:
    """Convert units, with progress on standard error, and return their footers.

    Raises:
        RejectLimitError: As soon as so much was rejected that the rest, one image a file, cannot make up for it.
        HemoError: If files could not be read; the other units are done first.
    """
    made: dict[int, ShardFooter] = {}
    failures: list[UnitFailure] = []
    rejects = Counter(reject.reason for footer in done for reject in footer.rejects)
    inputs = sum(footer.rows + len(footer.rejects) for footer in done)
    todo = sum(len(unit.paths) for unit in units)
    with progress_bar("convert", total=todo, unit="file") as progress:
        for outcome in convert_units(task, units, config.out):
            if isinstance(outcome, UnitFailure):
                failures.append(outcome)
                if len(failures) == MOST_FAILURES:
                    break
                continue
            made[outcome.unit] = outcome
            progress.update(outcome.files)
            todo -= outcome.files
            inputs += outcome.rows + len(outcome.rejects)
            rejects.update(reject.reason for reject in outcome.rejects)
            if todo:  # else index and rejects are written first
                _require_few_rejects(rejects, inputs + todo, config)
    _require_no_failures(failures)
    return made


def _require_no_failures(failures: Sequence[UnitFailure]) -> None:
    if failures:
        reasons = "; ".join(sorted({failure.reason for failure in failures})[:FAILURES_TOLD])
        units = f"{len(failures)} units have" if len(failures) > 1 else "a unit has"
        raise HemoError(stopped("convert", f"{units} files that cannot be read ({reasons}); mend the source"))


def _require_few_rejects(reasons: Mapping[str, int], inputs: int, config: ConvertConfig) -> None:
    """Refuse more rejects than `max_reject_fraction` of the inputs; `reasons` counts them."""
    rejects = sum(reasons.values())
    if rejects > config.max_reject_fraction * inputs:
        told = ", ".join(f"{reason} {count}" for reason, count in Counter(reasons).most_common(REASONS_TOLD))
        listed = join(config.out, "rejects.parquet")
        where = f"{listed} lists them" if exists(listed) else "a run with a higher one lists them"
        raise RejectLimitError(
            f"{rejects} of {inputs} inputs were rejected, more than max_reject_fraction {config.max_reject_fraction}: "
            f"{told}; {where}; mend the source or raise max_reject_fraction; what was converted is kept"
        )
