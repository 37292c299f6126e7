"""A raw corpus to shards: plan on the driver, one Ray Data task a unit, index and card at the end."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import ray

from hemo.cluster.data import data_context
from hemo.cluster.progress import progress_bar, say
from hemo.config.convert import ConvertConfig
from hemo.config.digest import differences
from hemo.config.fields import ENVIRONMENT
from hemo.corpus.sources import Listing, list_corpus
from hemo.errors import ConfigError, OutputError, RejectLimitError, SourceError
from hemo.imaging.pseudonym import Pseudonymiser, pseudonymiser
from hemo.imaging.settings import ImageSettings, image_settings
from hemo.shards.card import ConversionCard, read_card
from hemo.shards.footer import ShardFooter, read_footer, unit_digest
from hemo.shards.index import write_derived
from hemo.shards.manifest import Unit, read_manifest, shard_path, update_manifest, write_manifest
from hemo.shards.unit import UnitTask, build_shard
from hemo.storage import exists, is_temporary, join, list_files, read_bytes, remove, require_writable, write_bytes

CPUS_A_TASK = 2 / 3
"""Three tasks on two CPUs: Ray Data starts the next a tenth of a second after one ends; another fills the gap."""

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
        OutputError: If `out` cannot be written, or holds a conversion with other settings or of other files.
        RejectLimitError: If more than `max_reject_fraction` was rejected; everything is written all the same.
    """
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = image_settings(config, pseudonyms)
    listing = list_corpus(config.source, config.corpus)
    require_writable(config.out)
    _require_own_folder(config.out)
    done = _read_footers(config.out)
    _require_same_settings(config.out, done, settings)
    units, todo = _plan(config, listing, done, pseudonyms, settings)
    others = f" ({listing.ignored} others beside them left out)" if listing.ignored else ""
    say(f"convert: {len(listing.files)} files{others} in {len(units)} units, {len(units) - len(todo)} of them done")
    task = UnitTask(config.source, settings, pseudonyms, config.read_threads)
    done |= {footer.unit: footer for footer in _convert_units(task, todo, config.out)}
    if all(exists(join(config.out, name)) for name in DERIVED):
        card = read_card(config.out)
    else:
        card = write_derived(config.out, units, [done[unit.number] for unit in units], ignored=listing.ignored)
    say(f"convert: {card.rows} rows, {card.rejects} rejects")
    _require_few_rejects(card, config)
    return config.out


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
    foreign = [name for name in _shard_files(out) if not SHARD_NAME.fullmatch(name) and not is_temporary(name)]
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
) -> tuple[list[Unit], list[Unit]]:
    """Bring the manifest up to date; return all units, and those whose shard is missing, stale or made of other files.

    What no longer holds goes first: index, rejects and card, then the shards that will be made again. A run that ends
    in between leaves a folder that says it is unfinished.
    """
    stored = {pseudonyms("path", file.path): file for file in listing.files}
    manifest = read_manifest(config.out)
    update = update_manifest(
        manifest, [replace(file, path=name) for name, file in stored.items()], unit_files=config.unit_files
    )
    if manifest.files and not update.kept:
        raise OutputError(f"out: {config.out} holds the conversion of another source; give an empty folder")
    units = [Unit(unit.number, tuple(stored[name].path for name in unit.paths)) for unit in update.manifest.by_unit()]
    plain = settings.model_dump(mode="json")
    valid = {
        unit.number
        for unit in units
        if unit.number not in update.stale
        and unit.number in done
        and done[unit.number].digest == unit_digest(unit, plain)
    }
    todo = [unit for unit in units if unit.number not in valid]
    if todo or update.manifest != manifest:
        _drop_all_but(config.out, valid)
        write_manifest(config.out, update.manifest)
    return units, todo


def _drop_all_but(out: str, valid: set[int]) -> None:
    """Remove what is derived from the shards, every shard but the valid ones, and what interrupted writes left."""
    for name in DERIVED:
        remove(join(out, name))
    keep = {shard_path(number) for number in valid}
    for name in _shard_files(out):
        if f"shards/{name}" not in keep:
            remove(join(out, "shards", name))


def _convert_units(task: UnitTask, units: Sequence[Unit], out: str) -> Iterator[ShardFooter]:
    """Convert units on the cluster and yield their footers as they are committed, with progress on standard error."""
    if not units:
        return
    total = sum(len(unit.paths) for unit in units)
    with data_context("convert"), progress_bar("convert", total=total, unit="file") as progress:
        dataset = ray.data.from_items(
            [{"number": unit.number, "paths": list(unit.paths)} for unit in units], override_num_blocks=len(units)
        ).map(partial(_convert_unit, task=task, out=out), num_cpus=CPUS_A_TASK)
        for row in dataset.iter_rows():
            footer = ShardFooter.model_validate_json(row["footer"])
            progress.update(footer.files)
            yield footer


def _convert_unit(row: dict[str, Any], *, task: UnitTask, out: str) -> dict[str, str]:
    """Convert one unit and commit its shard; runs on a worker. Running twice writes the same bytes."""
    cv2.setNumThreads(1)  # Ray gave this task no more than one CPU
    unit = Unit(int(row["number"]), tuple(row["paths"]))
    try:
        shard, footer = build_shard(task, unit)
    except OSError as error:
        if task.pseudonyms.keeps_ids:
            raise
        raise OSError(error.errno, error.strerror) from None  # without the file's name
    write_bytes(join(out, unit.shard), memoryview(shard))
    return {"footer": footer.model_dump_json()}


def _require_few_rejects(card: ConversionCard, config: ConvertConfig) -> None:
    inputs = card.rows + card.rejects
    if card.rejects > config.max_reject_fraction * inputs:
        reasons = ", ".join(f"{reason} {count}" for reason, count in list(card.reject_reasons.items())[:5])
        raise RejectLimitError(
            f"{card.rejects} of {inputs} inputs were rejected, more than max_reject_fraction "
            f"{config.max_reject_fraction}: {reasons}; {join(config.out, 'rejects.parquet')} lists them; mend the "
            "source or raise max_reject_fraction; what was converted is kept"
        )
