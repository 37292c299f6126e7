"""The page of the trials that follows their records: what changed is read again, and nothing is written there."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hemo.config.report import WatchConfig
from hemo.digest import digest_of
from hemo.errors import HemoError, without_passwords
from hemo.reporting.content import Content, read_content
from hemo.reporting.page.data_set import read_data_set
from hemo.reporting.page.render import Live, study_html
from hemo.reporting.page.study_data import curves_data
from hemo.reporting.status_table import CURVES_HEAD, heading, row_with_curve
from hemo.storage import is_local, join, list_changes, read_bytes
from hemo.trials.evaluation import EVALUATIONS
from hemo.trials.progress import PLANS, PROGRESS
from hemo.trials.record import PREDICTIONS
from hemo.trials.status import ENDED, SweepStatus, TrialStatus, read_status

OF_TRIAL = ("record.json", PREDICTIONS, "evaluation.json")
"""Files of a trial that ended, and of an evaluation on other images."""
MOST_WAITING = 20
"""Waiting trials of a sweep that the page lists."""
MOST_CURVES = 12
"""Running trials whose curves the page draws."""
READERS = 16
"""Files of a bucket that are read at the same time."""
NOTHING = Content((), {"comparisons": [], "elsewhere": []})
"""Before the first trial has ended."""


@dataclass(frozen=True)
class Shown:
    """What the server gives out, replaced as a whole."""

    page: bytes  # HTML in UTF-8
    now: bytes  # JSON in UTF-8: version of the page, what changed with it, sweeps and their running trials


class LiveStudy:
    """A page and the progress beside it, up to date as of the last `look`.

    Of a bucket it keeps copies of records, predictions and progress in a temporary folder, so that each file is
    fetched once; `close` removes them.
    """

    def __init__(self, config: WatchConfig) -> None:
        """Show an empty page; the first `look` reads.

        Raises:
            SourceError: If `config.data` is no training set and no shards.
        """
        self._config = config
        self._data = read_data_set(config.data) if config.data else None
        self._copies = "" if is_local(config.records) else tempfile.mkdtemp(prefix="hemo-watch-")
        self._local = config.model_copy(update={"records": self._copies or config.records})
        self._marks: dict[str, str] = {}  # of all files that matter, as last read
        self._ended: dict[str, TrialStatus] = {}
        self._content, self._version, self._changed = NOTHING, "", list[str]()
        self._page, self._sweeps = b"", list[SweepStatus]()
        self.shown = self._shown("")

    def look(self) -> None:
        """Read what changed since; if it cannot be read, the page stays as it was and says why."""
        try:
            self._read()
        except (HemoError, OSError) as error:
            reason = without_passwords(str(error))
            if self._copies:
                reason = reason.replace(self._copies, self._config.records)
            self.shown = self._shown(reason)
            return
        self.shown = self._shown("")

    def close(self) -> None:
        """Remove the copies."""
        if self._copies:
            shutil.rmtree(self._copies, ignore_errors=True)

    def _read(self) -> None:
        marks = {file: mark for file, mark in list_changes(self._config.records).items() if _matters(file)}
        trials = {file.partition("/")[0] for file, _ in marks.items() ^ self._marks.items()}
        if self._copies:
            marks = self._copy(marks)
        known = {digest: each for digest, each in self._ended.items() if digest not in trials}
        begun = any(not file.startswith(f"{EVALUATIONS}/") for file in marks)
        self._sweeps = read_status(self._local.records, datetime.now(UTC), known) if begun else []
        ended = {each.digest: each for sweep in self._sweeps for each in sweep.trials if each.status in ENDED}
        selected = [(sweep.plan.name, sweep.plan.selected) for sweep in self._sweeps if sweep.plan]
        version = digest_of([sorted(item for item in marks.items() if _is_result(item[0])), selected])
        if version != self._version:
            results = any(map(_is_result, marks))
            content = read_content(self._local, self._data, self._content, trials) if results else NOTHING
            self._changed = [f"{each.name} {each.status}" for digest, each in ended.items() if digest not in known]
            self._content, self._page, self._version = self._with_places(content), b"", version
        self._marks, self._ended = marks, ended

    def _copy(self, marks: Mapping[str, str]) -> dict[str, str]:
        """Fetch the files that are new or were written again, remove others; return the marks of those that are there.

        A file that was removed after it was listed is left out.
        """
        stale = [file for file, mark in self._marks.items() if marks.get(file) != mark]
        for file in stale:
            (Path(self._copies) / file).unlink(missing_ok=True)
        self._marks = {file: mark for file, mark in self._marks.items() if file not in stale}
        missing = [file for file in marks if file not in self._marks]
        with ThreadPoolExecutor(READERS) as pool:
            there = [file for file in pool.map(self._fetch, missing) if file]
        fetched = {*self._marks, *there}
        return {file: mark for file, mark in marks.items() if file in fetched}

    def _fetch(self, file: str) -> str:
        try:
            content = read_bytes(join(self._config.records, file))
        except FileNotFoundError:
            return ""
        place = Path(self._copies) / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return file

    def _with_places(self, content: Content) -> Content:
        """Return content whose lines name the files of the bucket, not their copies."""
        if not self._copies:
            return content
        lines = [line.replace(self._copies, self._config.records) for line in content.unreadable]
        return replace(content, unreadable=lines)

    def _shown(self, trouble: str) -> Shown:
        if not self._page:
            live = Live(self._version, self._config.refresh_s)
            self._page = study_html(self._config.title, self._content, live).encode()
        now = {
            "version": self._version,
            "changed": self._changed,
            "trouble": trouble,
            "waits": "" if self._sweeps else f"{self._config.records} holds no trials yet; this page waits for them.",
            "read": datetime.now(UTC).isoformat(timespec="seconds"),
            "sweeps": [sweep_data(each) for each in self._sweeps],
        }
        return Shown(self._page, json.dumps(now, allow_nan=False).encode())


def _matters(file: str) -> bool:
    """Return whether the page depends on a file: checkpoints, cards and logs are not looked at."""
    return _is_result(file) or file.startswith(f"{PLANS}/") or file.endswith(f"/{PROGRESS}")


def _is_result(file: str) -> bool:
    """Return whether more than the progress depends on a file."""
    return file.rpartition("/")[2] in OF_TRIAL


def sweep_data(sweep: SweepStatus) -> dict[str, Any]:
    """Return a sweep as JSON can hold it: heading, rows of the trials that have not ended, and curves of running ones.

    Of the waiting trials there are `MOST_WAITING` rows at most; `more` is how many are left out.
    """
    rows = [each for each in sweep.trials if each.status not in (*ENDED, "waiting")]
    waiting = [each for each in sweep.trials if each.status == "waiting"]
    return {
        "heading": heading(sweep),
        "head": CURVES_HEAD,
        "rows": [row_with_curve(each) for each in [*rows, *waiting[:MOST_WAITING]]],
        "more": len(waiting[MOST_WAITING:]),
        "reasons": [f"{each.name} {each.status}: {each.reason}" for each in rows if each.reason],
        "curves": _curves(rows),
    }


def _curves(trials: Iterable[TrialStatus]) -> list[dict[str, Any]]:
    curves = [
        {"name": each.name, "values": curves_data(each.curves)["val loss"]}
        for each in trials
        if each.curves.get("val loss")
    ]
    return curves[:MOST_CURVES]
