"""Trials as objects: their records in pandas, their models in torch."""

from collections.abc import Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hemo.errors import ConfigError, SourceError
from hemo.library.notebook import card_html
from hemo.storage import absolute, join
from hemo.trials.predictions import split_rows, split_scores
from hemo.trials.record import TrialRecord, read_predictions, read_record, read_records, title_of

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture
    from torch import nn

    from hemo.inference.predict import DeployedModel
    from hemo.models.checkpoint import CheckpointCard

LOWER_IS_BETTER = ("loss", "log_loss", "calibration_error", "false_negative_rate")


class Trial:
    """One trial: its record, predictions and model.

    Attributes:
        record: The content of `record.json`: settings, metrics, thresholds, versions, ...
        path: Folder of the record, a path or URI.
    """

    def __init__(self, records: str | PathLike[str], record: TrialRecord | str) -> None:
        """Open a trial.

        Args:
            records: Folder of records, a path or URI.
            record: Digest of the trial, the name of its folder; or its record, if it is read already.

        Raises:
            SourceError: If there is no such record, or it is damaged.
        """
        self._records = absolute(records)
        self.record = read_record(self._records, record) if isinstance(record, str) else record
        self.path = join(self._records, self.record.digest)

    @property
    def name(self) -> str:
        """The trial's name, or its settings if it has none."""
        return title_of(self.record)

    @property
    def metrics(self) -> "pd.DataFrame":
        """Metrics of the best epoch's weights at the chosen thresholds, a row a split."""
        import pandas as pd

        return pd.DataFrame.from_dict(self.record.metrics, orient="index")

    @property
    def history(self) -> "pd.DataFrame":
        """A row an epoch: `train_loss`, `val_loss`, `val_auroc`, ..., `learning_rate`, `seconds`."""
        import pandas as pd

        rows = [epoch.flat() for epoch in self.record.epochs]
        return pd.DataFrame(rows).set_index("epoch") if rows else pd.DataFrame()

    @property
    def predictions(self) -> "pd.DataFrame":
        """Predictions of val and test: ids, `label_NAME`, calibrated `probability_NAME` and `predicted_NAME` a class.

        Raises:
            SourceError: If the trial is not complete.
        """
        import pandas as pd

        if self.record.status == "failed":
            raise SourceError(f"{self.path}: the trial failed ({self.record.reason}); it has no predictions")
        table = read_predictions(self._records, self.record.digest)
        frames = []
        for split in ("val", "test"):
            scores = split_scores(table, split, self.record)
            if scores is None:
                continue
            rows = split_rows(table, split)
            columns = {name: rows[name].to_pandas() for name in ("split", "image_id", "patient", "pixel_format")}
            for number, name in enumerate(self.record.classes):
                columns[f"label_{name}"] = scores.labels[:, number]
                columns[f"probability_{name}"] = scores.probabilities[:, number]
                columns[f"predicted_{name}"] = scores.predicted[:, number]
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def load_model(self, device: str = "cpu") -> "nn.Module":
        """Return the trained model: stored pixels in, calibrated probabilities out.

        Its input is uint8, (images, channels, height_px, width_px), made as the training set's images; its output is
        float32, (images, classes). Normalisation and calibration are inside.

        Args:
            device: Of torch.

        Raises:
            SourceError: If the trial has no checkpoint, or it is damaged.
        """
        from hemo.inference.predict import ProbabilityModel

        return ProbabilityModel(self._deployed(device))

    def predict(self, images: ArrayLike, device: str = "cpu") -> "pd.DataFrame":
        """Return calibrated `probability_NAME` and `predicted_NAME` of each class, a row an image.

        Args:
            images: (images, channels, height_px, width_px), uint8, made as the training set's images: an array, a
                tensor on the CPU, or a list of these.
            device: Of torch.

        Raises:
            ConfigError: If the images have another shape or dtype.
            SourceError: If the trial has no checkpoint, or it is damaged.
        """
        import pandas as pd

        from hemo.inference.predict import predicted_classes

        model = self._deployed(device)
        _, probabilities = model.predict(_required_images(images, model.card))
        predicted = predicted_classes(probabilities, model.card)
        columns: dict[str, Any] = {}
        for number, name in enumerate(model.card.classes):
            columns[f"probability_{name}"] = probabilities[:, number]
            columns[f"predicted_{name}"] = predicted[:, number]
        return pd.DataFrame(columns)

    def explain(self, image: ArrayLike, target: str = "") -> "Picture":
        """Return an image beside its Grad-CAM heat map of a class; alone where nothing raises its probability.

        Args:
            image: (channels, height_px, width_px), uint8, made as the training set's images: an array, or a tensor on
                the CPU.
            target: Class; empty: the first one.

        Raises:
            ConfigError: If there is no such class, the image has another shape or dtype, or the backbone's features
                have no position in the image.
            SourceError: If the trial has no checkpoint, or it is damaged.
        """
        import io

        from PIL import Image

        from hemo.inference.explain import case_png, heat_maps

        deployed = self._deployed("cpu")
        target = target or deployed.card.classes[0]
        if target not in deployed.card.classes:
            raise ConfigError(f"target: {target!r} is no class of the trial; it has {', '.join(deployed.card.classes)}")
        number = deployed.card.classes.index(target)
        images = _required_images([image], deployed.card)
        _, probabilities = deployed.predict(images)
        (heat,) = heat_maps(deployed.model, deployed.card, images, number)
        title = f"{target}: probability {probabilities[0, number]:.3f}"
        return Image.open(io.BytesIO(case_png(images[0], heat, title)))

    def _deployed(self, device: str) -> "DeployedModel":
        if self.record.external:
            raise SourceError(f"{self.name} was not trained by hemo, which has its predictions and no model")
        from hemo.inference.predict import DeployedModel
        from hemo.models.checkpoint import load_checkpoint
        from hemo.models.weight_files import find_checkpoint

        return DeployedModel(*load_checkpoint(find_checkpoint(self.path)), device=device)

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return name and status."""
        return f"Trial({self.name!r}, {self.record.status})"

    def _repr_html_(self) -> str:
        """Return settings and metrics for notebooks."""
        settings = {key: str(value) for key, value in self.record.settings.items()}
        status = "external" if self.record.external else self.record.status
        return card_html(f"Trial: {self.name} ({status})", settings) + self.metrics.to_html()


def _required_images(given: Any, card: "CheckpointCard") -> NDArray[np.uint8]:
    """Return images as an array; refuse another shape or dtype than the checkpoint takes."""
    wanted = ", ".join(map(str, card.image_shape))
    try:
        images = np.asarray(given)
    except ValueError as error:  # a list of unlike images
        raise ConfigError(f"images: must be uint8 of shape (images, {wanted}) ({error})") from error
    if images.shape[1:] != card.image_shape or images.dtype != np.uint8:
        raise ConfigError(f"images: {images.dtype} of shape {images.shape}, must be uint8 of shape (images, {wanted})")
    return images


def _what_it_predicts(record: TrialRecord) -> str:
    """Return task, classes, and whether of images or studies, which trials that are compared have in common."""
    classes = (record.config.target,) if record.config.task == "binary" else record.classes
    return f"{record.config.task} of {', '.join(classes)} in {record.config.row_noun.many}"


class Trials(Sequence[Trial]):
    """Trials of a folder of records: all, ordered by digest, or those of one sweep.

    Attributes:
        path: The folder, a path or URI.
    """

    def __init__(self, path: str | PathLike[str], records: Sequence[TrialRecord] = ()) -> None:
        """Read the records of a folder.

        Args:
            path: Folder of records.
            records: Some of its records, if they are read already; empty: all.

        Raises:
            SourceError: If there is none.
        """
        self.path = absolute(path)
        self._trials = [Trial(self.path, record) for record in records or read_records(self.path)]

    def __len__(self) -> int:
        """Return the number of trials that ended, whatever their status."""
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials."""
        return iter(self._trials)

    def __getitem__(self, which: Any) -> Any:
        """Return a trial by number, digest or name.

        Raises:
            ConfigError: If there is no trial of that name, or several.
        """
        if not isinstance(which, str):
            return self._trials[which]
        named = [trial for trial in self._trials if which in (trial.record.digest, trial.name)]
        if len(named) != 1:
            names = ", ".join(repr(trial.name) for trial in self._trials)
            raise ConfigError(f"{which!r} is the name of {len(named)} trials of {self.path}; it has {names}")
        return named[0]

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a trial: `name`, `status`, settings by their dotted names, `SPLIT_METRIC`, `seconds`, ...

        Of external models, see `hemo.record_predictions`, settings are NaN.
        """
        import pandas as pd

        rows = {
            trial.record.digest: {
                "name": trial.name,
                "status": trial.record.status,
                "external": trial.record.external,
                **trial.record.settings,
                **{
                    f"{split}_{name}": value
                    for split, metrics in trial.record.metrics.items()
                    for name, value in metrics.items()
                },
                "best_epoch": trial.record.best_epoch,
                "seconds": trial.record.seconds,
                "parameters": trial.record.parameters,
                "training_set": trial.record.training_set,
                "split": trial.record.split,
            }
            for trial in self._trials
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("digest")

    def best(self, metric: str = "") -> Trial:
        """Return the best complete trial: the first one of the report, or that with the best value of a metric.

        Args:
            metric: `SPLIT_METRIC`, such as `val_auroc`; the highest is best, or the lowest of losses and errors.
                Choosing by test makes its value optimistic. Empty: what orders the report, the validation loss, or
                validation AUROC where trials have several losses; of a search the trial that it selected.

        Raises:
            ConfigError: If no trial is complete, trials are of several training sets or tasks, no complete trial has
                that metric, or it is a loss and the trials have several.
        """
        from hemo.reporting.comparison import grouped
        from hemo.reporting.trial_row import Row
        from hemo.reporting.trial_table import subject

        groups = [group for group in grouped([Row(trial.record) for trial in self._trials], self.path) if group.best]
        if len(groups) != 1:
            listed = ", ".join(f"{title_of(group.best.record)!r} ({subject(group)})" for group in groups if group.best)
            problem = f"has trials that cannot be compared; the best are {listed}" if groups else "has none complete"
            raise ConfigError(f"best: {self.path} {problem}")
        (group,) = groups
        if metric:
            return self._best_by(metric, one_loss=group.order == "val_loss")
        assert group.best is not None
        return Trial(self.path, group.best.record)

    def _best_by(self, metric: str, *, one_loss: bool) -> Trial:
        frame = self.to_pandas()
        complete = frame[frame["status"] == "complete"].dropna(axis="columns", how="all")
        metrics = [name for name in map(str, complete) if name.startswith(("train_", "val_", "test_"))]
        if metric not in metrics:
            raise ConfigError(f"metric: no complete trial has {metric!r}; {self.path} has {', '.join(metrics)}")
        name = metric.partition("_")[2]
        if name == "loss" and not one_loss:
            raise ConfigError(f"metric: trials of {self.path} minimise several losses, so {metric} is not comparable")
        values = complete[metric]
        trial: Trial = self[str(values.idxmin() if name in LOWER_IS_BETTER else values.idxmax())]
        return trial

    def table(self, *, bootstrap_samples: int = 1000) -> "pd.DataFrame":
        """Return the grid of the report as text, best trial first: settings that differ, metrics with their intervals.

        Args:
            bootstrap_samples: Resamples of patients, for the intervals that need them.

        Raises:
            SourceError: If predictions are missing or damaged.
        """
        import pandas as pd

        from hemo.reporting.comparison import compare_trials
        from hemo.reporting.trial_table import grid_table, subject

        records = [trial.record for trial in self._trials]
        frames = []
        for comparison in compare_trials(records, self.path, samples=bootstrap_samples, seed=0):
            table = grid_table(comparison)
            frames.append(pd.DataFrame(table.rows, columns=list(table.head)).assign(comparison=subject(comparison)))
        return pd.concat(frames, ignore_index=True)

    def compare(self, first: str, second: str, *, bootstrap_samples: int = 1000) -> "pd.DataFrame":
        """Return metrics of one trial minus those of another on the same test images, with patients as the unit.

        The two models are compared as they are: another seed may change the order, which the report of cells with
        several seeds covers. Trials that were picked because they look best on test are compared too favourably.

        Args:
            first: Name or digest.
            second: Name or digest.
            bootstrap_samples: Resamples of patients behind the intervals of average precision and log loss.

        Returns:
            Rows `auroc`, `average_precision`, `log_loss`: `difference`, `low` and `high` of its 95 % interval, `p` of
            the test of AUROC, and `reason`: why there is no interval and no p, with too few patients.

        Raises:
            ConfigError: If there is no such trial, or the two cannot be compared.
            SourceError: If they were tested on different images, or predictions are damaged.
        """
        import pandas as pd

        from hemo.reporting.cells import Cell, compare_on_test
        from hemo.reporting.trial_row import read_row

        records = [self[which].record for which in (first, second)]
        if records[0].training_set != records[1].training_set:
            raise ConfigError(f"{first} and {second} are of different training sets, and have no test images in common")
        predicted = [_what_it_predicts(record) for record in records]
        if predicted[0] != predicted[1]:
            raise ConfigError(f"{first} and {second} cannot be compared: {predicted[0]}, and {predicted[1]}")
        rows = [read_row(record, self.path, bootstrap_samples, 0) for record in records]
        tested = compare_on_test([Cell(row.record.digest, (row,)) for row in rows], 0)
        if tested is None:
            raise ConfigError(f"{first} and {second} cannot be compared: test was not read for both, or has one label")
        (found,) = tested.neighbours
        intervals = {"auroc": found.auroc, "average_precision": found.average_precision, "log_loss": found.log_loss}
        columns = ["difference", "low", "high", "p", "reason"]
        found_p = {"auroc": np.nan if found.p is None else found.p}
        lines = {
            name: [interval.value, *(interval.ends or (np.nan, np.nan)), found_p.get(name, np.nan), interval.reason]
            for name, interval in intervals.items()
        }
        return pd.DataFrame.from_dict(lines, orient="index", columns=columns)

    def summary(self) -> str:
        """Return name, losses, accuracies and status as a Markdown table, a row a trial, without intervals."""
        from hemo.reporting.status_table import summary

        return summary([trial.record for trial in self._trials])

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return folder and number of trials."""
        return f"Trials({self.path!r}: {len(self)} trials)"

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return self.to_pandas().to_html()
