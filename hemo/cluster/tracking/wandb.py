"""Log a trial to Weights & Biases: curves, system metrics, and the model with the training set it was trained on."""

import functools
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import wandb
from wandb.errors import AuthenticationError
from wandb.sdk.data_types._private import MEDIA_TMP
from wandb.sdk.lib import wbauth

from hemo.config.tune import TrackingConfig
from hemo.console import print_line
from hemo.curation.card import TrainingSetCard
from hemo.digest import digest_of
from hemo.errors import ConfigError
from hemo.inference.export import to_onnx
from hemo.models.checkpoint import CheckpointCard, load_checkpoint, read_checkpoint_card
from hemo.models.weight_files import CARD, WEIGHTS
from hemo.trials.key import checkpoint_folder, weights_fingerprint
from hemo.trials.record import TrialRecord, read_records

SERVER = "https://api.wandb.ai"

BEGIN_TIMEOUT_S = 30.0
"""Then the run is kept offline; W&B itself would wait for 90 s and then end the trial."""

FINISH_TIMEOUT_S = 600.0
"""For what is not uploaded when the trial ends; the rest stays on disk for `wandb sync`. W&B waits for ever."""

Mode = Literal["online", "offline"]
MODES: dict[str, Mode] = {"online": "online", "offline": "offline"}

CARD_FIELDS = {
    "schema_version": True,
    "digest": True,
    "image": True,
    "classes": True,
    "channels": True,
    "dtype": True,
    "height_px": True,
    "width_px": True,
    "split": True,
    "splits": True,
    "findings": True,
    "reductions": True,
}
"""Fields of a training set's card that are sent; its config names folders, its audit names patients."""


class WandbTracker:
    """A W&B run in `FOLDER/wandb`; an offline one is sent later by `wandb sync`."""

    def __init__(
        self,
        tracking: TrackingConfig,
        folder: Path,
        settings: dict[str, Any],
        card: TrainingSetCard,
        print_line: Callable[[str], object],
    ) -> None:
        """Start the run, or continue that of the same trial, and log which training set it uses.

        Args:
            tracking: Project and group.
            folder: Of the trial.
            settings: Its settings by dotted names; `digest` is the run's id.
            card: Of the training set.
            print_line: Called if W&B does not answer.
        """
        self._tracking, self._folder, self._settings = tracking, folder, settings
        try:
            self._run = self._begin(print_line)
            used = training_set_artifact(card, folder / "wandb")
            # what `use_artifact` does with a new artifact; itself it refuses to work offline and waits for the server
            self._run._log_artifact(used, aliases=[card.digest], is_user_created=True, use_after_commit=True)
        except BaseException:
            wandb.teardown()
            raise

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Log one step; W&B keeps our `_timestamp` and, over resumptions, a `_runtime` of its own."""
        self._run.log(values, step=epoch)

    def conclude(self, record: TrialRecord, summary: dict[str, float | str]) -> None:
        """Set the run's summary and, of a complete trial, log its model."""
        self._run.summary.update(summary)
        if record.status != "complete":
            return
        out = str(self._folder.parent)
        aliases = [record.digest, *best_of(out, record), *(["selected"] if record.selected_by else [])]
        artifact = model_artifact(out, record, self._folder / "wandb", onnx=self._tracking.onnx)
        self._run.log_artifact(artifact, aliases=aliases)

    def close(self, *, failed: bool) -> None:
        """Finish the run, and end W&B's own process with it."""
        try:
            self._run.finish(exit_code=int(failed))
        finally:
            wandb.teardown()

    def _begin(self, print_line: Callable[[str], object]) -> wandb.Run:
        """Start a run, offline if W&B does not answer or refuses the key."""
        mode = wandb_mode()
        try:
            return self._init(mode)
        except wandb.Error as error:
            if mode == "offline":
                raise
            reason = str(error).strip().splitlines()[0]
            print_line(
                f"tracking: W&B cannot be used online ({reason}); the run is kept offline in {self._folder / 'wandb'}"
            )
            wandb.teardown()  # its process holds the run's id
            return self._init("offline")

    def _init(self, mode: Mode) -> wandb.Run:
        settings = self._settings
        self._await_new_folder()
        return wandb.init(
            project=self._tracking.project,
            group=self._tracking.group or None,
            job_type="train",
            tags=[settings["task"], settings["model.backbone"], settings["split"]],
            id=settings["digest"],
            name=settings["name"] or settings["digest"],
            resume="allow",
            mode=mode,
            dir=self._folder,
            config=settings,
            settings=private_settings(),
        )

    def _await_new_folder(self) -> None:
        """W&B names a run's folder by the second, and would overwrite that of a run begun in the same second."""
        while any((self._folder / "wandb").glob(f"*run-{time.strftime('%Y%m%d_%H%M%S')}-*")):
            time.sleep(0.05)


def private_settings() -> wandb.Settings:
    """Return W&B's settings of a run: system metrics on; no command line, paths, code, host name or printed line."""
    return wandb.Settings(
        console="off",
        silent=True,
        host="",
        disable_code=True,
        disable_git=True,  # the remote's address may hold a token; the commit is among our settings
        x_disable_meta=True,
        init_timeout=BEGIN_TIMEOUT_S,
        finish_timeout=FINISH_TIMEOUT_S,
        finish_timeout_raises=True,
    )


def check_wandb() -> None:
    """Refuse a malformed key, and print once if runs will be offline. Nothing is sent.

    Raises:
        ConfigError: Without the key.
    """
    try:
        mode = wandb_mode()
        if mode == "online" and (key := os.environ.get("WANDB_API_KEY")):
            wbauth.AuthApiKey(host=_server(), api_key=key)
    except AuthenticationError as error:
        raise ConfigError(
            f"tracking.backend: W&B's key (WANDB_API_KEY or ~/.netrc) is malformed: {str(error).rstrip('.')}; set the "
            "one that wandb.ai/authorize shows, or WANDB_MODE=offline"
        ) from error
    if mode == "offline":
        _print_offline()


@functools.cache
def _print_offline() -> None:
    """Print what becomes of offline runs, once a process: `pipeline` and `leaks` check before their jobs do."""
    print_line("tracking: W&B, offline; `wandb sync` sends the runs later")


def remove_import_folders() -> None:
    """Remove the two temporary folders that W&B makes when hemo or timm imports it, and that hemo never uses.

    It would remove them when the process ends by itself, but Ray kills its workers.
    """
    for folder in (MEDIA_TMP, wandb.Artifact._TMP_DIR):
        folder.cleanup()


def wandb_mode() -> Mode:
    """Return WANDB_MODE if it is set, else `online` where this process finds a key.

    Raises:
        AuthenticationError: If ~/.netrc has something else than a key.
        ConfigError: If WANDB_MODE is neither of the two.
    """
    configured = os.environ.get("WANDB_MODE", "")
    if configured in MODES:
        return MODES[configured]
    if configured:
        raise ConfigError(
            f"WANDB_MODE: {configured!r} is neither online nor offline; to track nowhere use backend `none`"
        )
    key = os.environ.get("WANDB_API_KEY") or wbauth.read_netrc_auth(host=_server())
    return "online" if key else "offline"


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", SERVER)


def training_set_artifact(card: TrainingSetCard, folder: Path) -> wandb.Artifact:
    """Return the training set as an artifact, the same for every trial on it: a file that counts and describes.

    Args:
        card: Of the training set.
        folder: Where the file is written, which must stay until the run is sent.
    """
    content = card.model_dump(mode="json", include=CARD_FIELDS)
    metadata = {"digest": card.digest, "split": card.split, "rows": {name: it.rows for name, it in card.splits.items()}}
    artifact = wandb.Artifact(f"training-set-{card.digest}", type="dataset", metadata=metadata)
    _add(artifact, _written(folder / "training-set.json", content), "card.json")
    return artifact


def model_artifact(out: str, record: TrialRecord, folder: Path, *, onnx: bool) -> wandb.Artifact:
    """Return a trial's model as a version of all models of its task on its training set.

    Args:
        out: Folder of records.
        record: Of a complete trial.
        folder: Where files are written that must stay until the run is sent, as the checkpoint must.
        onnx: Whether `model.onnx` goes with it.
    """
    checkpoint = checkpoint_folder(out, record.digest)
    fields = record.model_dump(include={"digest", "classes", "thresholds", "best_epoch", "metrics", "parameters"})
    metadata = {**fields, "training_set": record.training_set, "backbone": record.config.model.backbone}
    artifact = wandb.Artifact(model_name(record), type="model", metadata=metadata)
    card = _unplaced(read_checkpoint_card(checkpoint))
    _add(artifact, Path(checkpoint, WEIGHTS))
    _add(artifact, _written(folder / CARD, card.model_dump(mode="json")))
    if onnx:
        model, _ = load_checkpoint(checkpoint)
        (folder / "model.onnx").write_bytes(to_onnx(model, card).SerializeToString())
        _add(artifact, folder / "model.onnx")
    return artifact


def model_name(record: TrialRecord) -> str:
    """Return the name that all models of the same target and training set share."""
    question = record.config.target if record.config.task == "binary" else record.config.task
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', question)[:80]}-{record.training_set}"


def best_of(out: str, record: TrialRecord) -> list[str]:
    """Return the alias `best` if no complete trial in `out` with the same name has a lower validation loss.

    External models are none: the loss of their epochs is not known.
    """
    name = model_name(record)
    rivals = [
        other.best_epoch_val["loss"]
        for other in read_records(out, on_error=lambda error: None)
        if other.status == "complete" and not other.external and model_name(other) == name
    ]
    return ["best"] if record.best_epoch_val["loss"] <= min(rivals) else []


def unplaced_weights(weights: str) -> str:
    """Return `none`, `imagenet`, or of a file its SHA-256 in place of its path, which may name a person."""
    return weights if weights in ("none", "imagenet") else weights_fingerprint(weights)


def _unplaced(card: CheckpointCard) -> CheckpointCard:
    """Return a checkpoint's card without the path of the weights it started from, or of its embeddings."""
    changes: dict[str, Any] = {"weights": unplaced_weights(card.model.weights)}
    if card.embedded_by:
        made_by = digest_of(card.embedded_by.inputs)  # as `embeddings_fingerprint`
        changes["series"] = card.model.series.model_copy(update={"embeddings": made_by})
    return card.model_copy(update={"model": card.model.model_copy(update=changes)})


def _written(file: Path, content: object) -> Path:
    file.write_text(json.dumps(content, indent=1, sort_keys=True))
    return file


def _add(artifact: wandb.Artifact, file: Path, name: str | None = None) -> None:
    """Add a file where it lies: W&B would copy it to the user's home, where weights pile up until they are sent."""
    artifact.add_file(str(file.absolute()), name=name, policy="immutable", skip_cache=True)
