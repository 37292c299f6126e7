"""A raw corpus to shards: plan on the driver, one Ray Data task a unit, index and card at the end."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import pyarrow as pa
import ray
from pydantic import ValidationError

from hemo.cluster.data import data_context
from hemo.cluster.progress import progress_bar, say
from hemo.config.convert import ConvertConfig
from hemo.corpus.sources import Listing, list_corpus
from hemo.errors import ConfigError, OutputError, RejectLimitError
from hemo.imaging.pseudonym import Pseudonymiser, pseudonymiser
from hemo.imaging.settings import ImageSettings, image_settings
from hemo.shards.card import ConversionCard, read_card
from hemo.shards.footer import ShardFooter, read_footer, unit_digest
from hemo.shards.index import conversion_digest, write_derived
from hemo.shards.manifest import Unit, read_manifest, shard_path, update_manifest, write_manifest
from hemo.shards.unit import UnitTask, build_shard
from hemo.storage import exists, join, list_files, read_bytes, remove, require_writable, write_bytes

FOOTER_THREADS = 16


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
    done = _read_footers(config.out)
    _require_same_settings(config.out, done, settings)
    units, todo = _plan(config, listing, done, settings)
    say(f"convert: {len(listing.files)} files in {len(units)} units, {len(units) - len(todo)} of them done")
    task = UnitTask(config.source, settings, pseudonyms, config.read_threads)
    done |= {footer.unit: footer for footer in _convert_units(task, todo, config.out)}
    card = _derived(config.out, units, [done[unit.number] for unit in units], listing.ignored)
    _require_few_rejects(card, config)
    return config.out


def read_pseudonyms(key_file: str) -> Pseudonymiser:
    """Return what replaces identifiers, from the key file of a config; without one they are kept.

    Raises:
        ConfigError: If the file cannot be read or its key is too short.
    """
    if not key_file:
        return Pseudonymiser()
    try:
        return pseudonymiser(read_bytes(key_file))
    except OSError as error:
        raise ConfigError(
            f"pseudonym_key: {key_file}: {error.strerror or error}; give a file with a secret in it"
        ) from error


def _read_footers(out: str) -> dict[int, ShardFooter]:
    """Return the footers of the shards that are there; one that cannot be read counts as not there."""
    shards = [
        name for name in list_files(join(out, "shards")) if name.startswith("unit-") and name.endswith(".parquet")
    ]
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        footers = pool.map(lambda name: _footer_or_none(join(out, "shards", name)), shards)
    return {footer.unit: footer for footer in footers if footer is not None}


def _footer_or_none(shard: str) -> ShardFooter | None:
    try:
        return read_footer(shard)
    except (pa.ArrowInvalid, KeyError, ValidationError):
        return None


def _require_same_settings(out: str, done: dict[int, ShardFooter], settings: ImageSettings) -> None:
    wanted = settings.model_dump(mode="json")
    for footer in done.values():
        differing = [
            f"{key} {footer.settings.get(key)!r} there, {value!r} now"
            for key, value in wanted.items()
            if footer.settings.get(key) != value
        ]
        if differing:
            raise OutputError(
                f"out: {out} holds shards made otherwise ({'; '.join(differing)}); "
                "give another folder or remove this one"
            )


def _plan(
    config: ConvertConfig, listing: Listing, done: dict[int, ShardFooter], settings: ImageSettings
) -> tuple[list[Unit], list[Unit]]:
    """Bring the manifest up to date; return all units, and those whose shard is missing, stale or made of other files.

    Shards that will be made again go before the new manifest is written: a run that ends in between loses nothing.
    """
    manifest = read_manifest(config.out)
    update = update_manifest(manifest, listing.files, unit_files=config.unit_files)
    if manifest.files and not update.kept:
        raise OutputError(f"out: {config.out} holds the conversion of another source; give an empty folder")
    plain = settings.model_dump(mode="json")
    units = update.manifest.by_unit()
    valid = {
        unit.number
        for unit in units
        if unit.number in done
        and unit.number not in update.stale
        and done[unit.number].digest == unit_digest(unit, plain)
    }
    _drop_shards_but(config.out, valid)
    if update.manifest != manifest:
        write_manifest(config.out, update.manifest)
    return units, [unit for unit in units if unit.number not in valid]


def _drop_shards_but(out: str, valid: set[int]) -> None:
    """Remove every shard but the valid ones, and what interrupted writes left behind."""
    keep = {shard_path(number) for number in valid}
    for name in list_files(join(out, "shards")):
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
        ).map(partial(_convert_unit, task=task, out=out), num_cpus=1)
        for row in dataset.iter_rows():
            footer = ShardFooter.model_validate_json(row["footer"])
            progress.update(footer.files)
            yield footer


def _convert_unit(row: dict[str, Any], *, task: UnitTask, out: str) -> dict[str, str]:
    """Convert one unit and commit its shard; runs on a worker. Running twice writes the same bytes."""
    cv2.setNumThreads(1)  # Ray gave this task one CPU
    unit = Unit(int(row["number"]), tuple(row["paths"]))
    shard, footer = build_shard(task, unit)
    write_bytes(join(out, unit.shard), memoryview(shard))
    return {"footer": footer.model_dump_json()}


def _derived(out: str, units: Sequence[Unit], footers: Sequence[ShardFooter], ignored: int) -> ConversionCard:
    """Return the card, and write it with index and rejects unless those of the same shards are there."""
    if all(exists(join(out, name)) for name in ("card.json", "index.parquet", "rejects.parquet")):
        card = read_card(out)
        if card.digest == conversion_digest(footers) and card.ignored_files == ignored:
            return card
    remove(join(out, "card.json"))
    return write_derived(out, units, footers, ignored=ignored)


def _require_few_rejects(card: ConversionCard, config: ConvertConfig) -> None:
    inputs = card.rows + card.rejects
    if card.rejects > config.max_reject_fraction * inputs:
        reasons = ", ".join(f"{reason} {count}" for reason, count in list(card.reject_reasons.items())[:5])
        raise RejectLimitError(
            f"{card.rejects} of {inputs} inputs were rejected, more than max_reject_fraction "
            f"{config.max_reject_fraction}: {reasons}; {join(config.out, 'rejects.parquet')} lists them; "
            "what was converted is kept"
        )
