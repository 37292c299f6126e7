"""An evaluation on other images as an object: its record, metrics, subgroups and predictions in pandas."""

from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING

from hemo.library.notebook import card_html
from hemo.storage import absolute
from hemo.trials.evaluation import EVALUATIONS, SUBGROUP, read_evaluated_images, read_evaluation

if TYPE_CHECKING:
    import pandas as pd

    from hemo.reporting.elsewhere import Elsewhere
    from hemo.reporting.table_format import Table


class Evaluation:
    """The output of `evaluate`.

    Attributes:
        path: The folder, a path or URI.
        record: The content of `evaluation.json`: checkpoint, images, recalibration, versions.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder of an evaluation, `RECORDS/evaluations/DIGEST`.

        Raises:
            SourceError: If it is none, or damaged.
        """
        self.path = absolute(path)
        self.record = read_evaluation(self.path)
        self._records = self.path.removesuffix(f"/{EVALUATIONS}/{self.record.digest}")

    @cached_property
    def _found(self) -> "Elsewhere":
        from hemo.reporting.elsewhere import read_elsewhere

        return read_elsewhere(self._records, self.record)

    @property
    def metrics(self) -> "pd.DataFrame":
        """Metrics with the ends of their intervals, a row a part: as is, and with a recalibration the others twice."""
        import pandas as pd

        from hemo.reporting.elsewhere_tables import csv_rows

        return pd.DataFrame(list(csv_rows(self._found))).set_index("part")

    @property
    def tables(self) -> "dict[str, pd.DataFrame]":
        """The tables of the report as text: caption -> metrics, probabilities, classes, subgroups, studies."""
        import pandas as pd

        return {table.caption: pd.DataFrame(table.rows, columns=list(table.head)) for table in self._tables}

    @property
    def predictions(self) -> "pd.DataFrame":
        """Ids, part and groups, and `label_NAME`, `probability_NAME`, `predicted_NAME` of each class, as is."""
        rows, scores = read_evaluated_images(self._records, self.record), self._found.parts[0].scores
        shown = ["image_id", "patient", "study", "part", *(f"{SUBGROUP}{name}" for name in self.record.subgroups)]
        frame: pd.DataFrame = rows.select(shown).to_pandas()
        for number, name in enumerate(self.record.checkpoint.classes):
            frame[f"label_{name}"] = scores.labels[:, number]
            frame[f"probability_{name}"] = scores.probabilities[:, number]
            frame[f"predicted_{name}"] = scores.predicted[:, number]
        return frame

    @property
    def text(self) -> str:
        """Heading and tables as Markdown."""
        from hemo.reporting.build import evaluation_markdown

        return evaluation_markdown(self._found)

    @property
    def _tables(self) -> "list[Table]":
        from hemo.reporting.elsewhere_tables import metrics_table, tables

        return [metrics_table(self._found), *tables(self._found)]

    def __repr__(self) -> str:
        """Return checkpoint, data and size."""
        data = self.record.data
        return f"Evaluation({self.record.checkpoint.name!r} on {data.name!r}: {data.images:,} images)"

    def _repr_html_(self) -> str:
        """Return heading and tables for notebooks."""
        from hemo.reporting.elsewhere_tables import heading, title

        shown = [card_html(title(self._found), dict(heading(self._found)))]
        for caption, frame in self.tables.items():
            shown += [card_html(caption, {}), frame.to_html(index=False)]
        return "".join(shown)
