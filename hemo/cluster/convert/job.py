"""A raw corpus to Parquet shards: list files, cut them into units, convert those not done yet, write index and card."""

from collections import Counter
from collections.abc import Mapping, Sequence

from hemo.cluster.convert.tasks import UnitFailure, convert_units
from hemo.cluster.ray_data import stopped
from hemo.config.convert import ConvertConfig
from hemo.console import print_line, progress_bar
from hemo.corpus.source_file import Listing, ManifestRow, SourceFile, class_and_split
from hemo.corpus.sources import list_corpus, media_of
from hemo.errors import DISK_FULL, HemoError, OutputError, RejectLimitError, is_disk_full
from hemo.imaging.settings import image_settings
from hemo.output_lock import RequireHeld, output_lock
from hemo.pseudonym import read_pseudonyms
from hemo.shards.card import DERIVED, FileTable, read_finished_card, write_card, write_derived
from hemo.shards.convert_unit import UnitTask
from hemo.shards.manifest import Unit, read_manifest, shard_path, update_manifest, valid_shards, write_manifest
from hemo.shards.schema import ShardFooter, read_footers
from hemo.storage import WrittenFiles, join, remove

MOST_FAILURES = 20
"""Failed units after which the run stops without finishing the others: the whole storage is at fault."""

REPORTED_FAILURES, REPORTED_REASONS = 3, 5


def convert_corpus(config: ConvertConfig) -> str:
    """Convert a corpus; units that are already done are left alone.

    Call it within `connected`.

    Returns:
        The output folder: `shards/`, `index.parquet`, `rejects.parquet`, `manifest.parquet` and `card.json`.

    Raises:
        SourceError: If the source is missing or empty, or two files would share an `image_id`.
        ConfigError: On an unknown window or a bad pseudonym key.
        OutputError: If `out` cannot be written, is being written by another run, is on a disk that the nodes do not
            share, or holds a conversion with other settings or of other files.
        RejectLimitError: As soon as more than `max_reject_fraction` of all inputs are rejected.
        HemoError: If files could not be read, or the storage or the workers failed more often than they are retried.
            Finished units are kept whatever is raised.
    """
    pseudonyms = read_pseudonyms(config.pseudonym_key)
    settings = image_settings(config, media_of(config.source, config.corpus), pseudonyms)
    listing = list_corpus(config.source, config.corpus)
    task = UnitTask(config.source, settings, pseudonyms, config.read_threads)
    try:
        with output_lock(config.out, ("shards",)) as require_held:
            _convert(task, listing, config, require_held)
    except OSError as error:
        cure = f"; {DISK_FULL}" if is_disk_full(error) else ""
        raise HemoError(stopped("convert", f"{config.out}: {error.strerror or error}{cure}")) from error
    return config.out


def _convert(task: UnitTask, listing: Listing, config: ConvertConfig, require_held: RequireHeld) -> None:
    """Bring an output folder up to date. A run that ends in between leaves one without a card: it is unfinished."""
    out, max_reject_fraction = config.out, config.max_reject_fraction
    settings = task.settings.model_dump(mode="json")
    footers, manifest = read_footers(out, settings), read_manifest(out)
    card = read_finished_card(out)  # after the footers, which tell shards of another version
    update = update_manifest(manifest, listing.files, unit_files=config.unit_files, pseudonyms=task.pseudonyms)
    if manifest.files and not update.kept:
        raise OutputError(
            f"out: {out} holds the conversion of another source, or every file of the source has changed; "
            "give an empty folder, or remove this one"
        )
    done = valid_shards(update, footers, settings, task.pseudonyms)
    todo = [unit for unit in update.units if unit.number not in done]
    others = f" ({listing.ignored} others beside them left out)" if listing.ignored else ""
    print_line(f"convert: {len(listing.files)} files{others} in {len(update.units)} units, {len(done)} of them done")
    _print_classes(task, listing.files)
    table = _file_table(task, listing)
    if listing.unused_columns:
        labels = "; `curate --labels manifest` reads labels from them" if table else ""
        print_line(f"convert: columns of the table that are not used: {', '.join(listing.unused_columns)}{labels}")
    if todo or update.manifest != manifest:
        card = None
        require_held()
        for path in [*DERIVED, *(footers.keys() - {shard_path(number) for number in done})]:
            remove(join(out, path))
        write_manifest(out, update.manifest)
        if todo:
            done |= _convert_units(task, todo, list(done.values()), out, max_reject_fraction)
    if card is None or card.file_table != table:
        card = write_derived(out, update.units, [done[unit.number] for unit in update.units], listing.ignored, table)
        require_held()
        write_card(out, card)
    print_line(f"convert: {card.rows} rows, {card.rejects} rejects")
    listed = f"{join(out, 'rejects.parquet')} lists them"
    _require_few_rejects(card.reject_reasons, card.rows + card.rejects, max_reject_fraction, listed)


def _file_table(task: UnitTask, listing: Listing) -> FileTable | None:
    """Return what the card says of a table of files: under a key nothing, as its folder may be named after a patient.

    Its digest would serve to verify a guess at the names in it.
    """
    if not listing.table_sha256 or not task.pseudonyms.keeps_ids:
        return None
    return FileTable(location=task.source, sha256=listing.table_sha256)


def _print_classes(task: UnitTask, files: Sequence[SourceFile]) -> None:
    """Print how many classes keep their names under a key, and public ones that no file has: they may be misspelt."""
    if task.pseudonyms.keeps_ids or task.settings.corpus not in ("image_folder", "manifest"):
        return
    rows = (file.manifest_row or ManifestRow(source_class=class_and_split(file.path)[0]) for file in files)
    classes = {row.source_class for row in rows} - {None}
    kept, public = classes.intersection(task.settings.public_classes), task.settings.public_classes
    if len(kept) < len(classes):
        print_line(
            f"convert: {len(kept)} of {len(classes)} classes keep their names, the others become pseudonyms; "
            "--public_classes names those to keep"
        )
    if absent := [name for name in public if name not in kept]:
        print_line(f"convert: no file is of the public_classes {', '.join(absent)}")


def _convert_units(
    task: UnitTask, units: Sequence[Unit], done: Sequence[ShardFooter], out: str, max_reject_fraction: float
) -> dict[int, ShardFooter]:
    """Convert units, with progress on standard error, and return their footers.

    Raises:
        OutputError: If `out` is on a disk that a worker does not share.
        RejectLimitError: As soon as so much was rejected that the rest, one image per file, cannot make up for it.
        HemoError: If files could not be read; the other units are done first.
    """
    made: dict[int, ShardFooter] = {}
    failures: list[UnitFailure] = []
    rejects = Counter(reject.reason for footer in done for reject in footer.rejects)
    inputs = sum(footer.rows + len(footer.rejects) for footer in done)
    todo = sum(len(unit.paths) for unit in units)
    shards = WrittenFiles()
    with progress_bar("convert", total=todo, unit="file") as progress:
        for outcome in convert_units(task, units, out):
            if isinstance(outcome, UnitFailure):
                failures.append(outcome)
                if len(failures) == MOST_FAILURES:
                    break
                continue
            made[outcome.unit] = outcome
            shards.add(join(out, shard_path(outcome.unit)))
            shards.check()
            progress.update(outcome.files)
            todo -= outcome.files
            inputs += outcome.rows + len(outcome.rejects)
            rejects.update(reject.reason for reject in outcome.rejects)
            if todo:  # else index and rejects are written first
                listed = "a run with a higher one lists them"
                _require_few_rejects(rejects, inputs + todo, max_reject_fraction, listed)
    shards.wait()
    if failures:
        reasons = "; ".join(sorted({failure.reason for failure in failures})[:REPORTED_FAILURES])
        counted = f"{len(failures)} units have" if len(failures) > 1 else "a unit has"
        raise HemoError(stopped("convert", f"{counted} files that cannot be read ({reasons}); repair the source"))
    return made


def _require_few_rejects(reasons: Mapping[str, int], inputs: int, max_reject_fraction: float, listed: str) -> None:
    """Refuse more rejects than a fraction of the inputs; `reasons` counts them, `listed` is where to find them."""
    rejects = sum(reasons.values())
    if rejects > max_reject_fraction * inputs:
        commonest = ", ".join(f"{reason} {count}" for reason, count in Counter(reasons).most_common(REPORTED_REASONS))
        raise RejectLimitError(
            f"{rejects} of {inputs} inputs were rejected, more than max_reject_fraction {max_reject_fraction}: "
            f"{commonest}; {listed}; repair the source or raise max_reject_fraction; what was converted is kept"
        )
