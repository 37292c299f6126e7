"""A running trial notes how far it is beside its checkpoint, for whoever looks at the folder of records."""

from hemo.cluster.provenance import now
from hemo.config.trial import TrialConfig
from hemo.study.progress import TrialProgress, read_progress, write_progress
from hemo.training.reporting import EpochFigures, Reporter


class NotedReporter:
    """Notes each epoch, then passes it on. Of several workers only the first has one."""

    def __init__(self, reporter: Reporter, out: str, digest: str, trial: TrialConfig) -> None:
        """Go on from what an interrupted run of the same trial noted.

        Args:
            reporter: Who is told besides.
            out: Folder of records.
            digest: Of the trial.
            trial: Its config.
        """
        self._reporter, self._out, self._digest = reporter, out, digest
        self._fresh = TrialProgress(name=trial.name, epochs=trial.training.epochs, updated=now())
        self._progress = read_progress(out, digest) or self._fresh

    def begin(self) -> None:
        """Note that the trial runs, before its first epoch has ended."""
        self._note()

    def epoch(self, figures: EpochFigures) -> bool:
        """Note, then ask the reporter whether to go on."""
        before = self._progress if figures.epoch > self._progress.epoch else self._fresh
        best = [loss for loss in (before.best_val_loss, figures.val["loss"]) if loss is not None]
        done = {"epoch": figures.epoch, "val": figures.val, "best_val_loss": min(best)}
        self._progress = before.model_copy(update={**done, "seconds": before.seconds + figures.seconds})
        self._note()
        return self._reporter.epoch(figures)

    def _note(self) -> None:
        write_progress(self._out, self._digest, self._progress.model_copy(update={"updated": now()}))
