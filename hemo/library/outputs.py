"""What jobs made or found, as objects that show themselves: predictions, pictures, models, pages, findings."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from html import escape
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hemo.errors import SourceError
from hemo.library.notebook import card_html, png_html
from hemo.shards.reader import frame_of
from hemo.storage import absolute, exists, join, read_bytes, read_json
from hemo.trials.status import SweepStatus, TrialStatus

if TYPE_CHECKING:
    import pandas as pd

    from hemo.cluster.doctor import Finding, NodeFacts

REMEDY = "remove the folder and run the job again"


def _require(path: str | PathLike[str], name: str, job: str) -> str:
    location = absolute(path)
    if not exists(join(location, name)):
        raise SourceError(f"{location} is no output of `hemo {job}` (it has no {name}); give its `out`")
    return location


class Predictions:
    """The output of `predict`.

    Attributes:
        path: The folder, a path or URI.
        card: Its `card.json`: checkpoint, classes, thresholds, counts.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder.

        Raises:
            SourceError: If it is no output of `predict`.
        """
        self.path = _require(path, "predictions.parquet", "predict")
        self.card: dict[str, Any] = read_json(join(self.path, "card.json"))

    @property
    def images(self) -> "pd.DataFrame":
        """Ids, and `probability_NAME` and `predicted_NAME` of each class, a row an image."""
        return frame_of(join(self.path, "predictions.parquet"), REMEDY)

    @property
    def studies(self) -> "pd.DataFrame":
        """`max_NAME` and `noisy_or_NAME` of each class over the images of a study, a row a study."""
        return frame_of(join(self.path, "studies.parquet"), REMEDY)

    @property
    def rejects(self) -> "pd.DataFrame":
        """Files that gave no image: `source_path`, `frame`, `reason`, `detail`, `scanner`."""
        return frame_of(join(self.path, "rejects.parquet"), REMEDY)

    def __repr__(self) -> str:
        """Return folder and counts."""
        return f"Predictions({self.path!r}: {self.card['rows']:,} images of {self.card['studies']:,} studies)"

    def _repr_html_(self) -> str:
        """Return card and first rows for notebooks."""
        facts = {name: str(value) for name, value in self.card.items() if name != "inputs"}
        return card_html(f"Predictions: {self.path}", facts) + self.images.head().to_html()


class Explanations:
    """The output of `explain`.

    Attributes:
        path: The folder, a path or URI.
        cases: The entries of `cases.json`, as dicts; `file` is the picture of a case.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder.

        Raises:
            SourceError: If it is no output of `explain`.
        """
        self.path = _require(path, "cases.json", "explain")
        self.cases: list[dict[str, Any]] = read_json(join(self.path, "cases.json"))["cases"]

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return folder and number of cases."""
        return f"Explanations({self.path!r}: {len(self.cases)} cases)"

    def _repr_html_(self) -> str:
        """Return the pictures for notebooks."""
        files = (PurePosixPath(case["file"]).name for case in self.cases)  # of this folder, whatever is written there
        return "".join(png_html(read_bytes(join(self.path, file))) for file in files)


class Export:
    """The output of `export`.

    Attributes:
        path: The folder, a path or URI.
        card: Its `export.json`: size, speed, largest difference from torch.
        model: The ONNX file: stored pixels in, logits and probabilities out.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder.

        Raises:
            SourceError: If it is no output of `export`.
        """
        from hemo.cluster.export import CARD, MODEL, ExportCard

        self.path = _require(path, CARD, "export")
        self.card = ExportCard.model_validate(read_json(join(self.path, CARD)))
        self.model = join(self.path, MODEL)

    def __repr__(self) -> str:
        """Return file and size."""
        return f"Export({self.model!r}: {self.card.parameters:,} parameters, {self.card.megabytes:.1f} MB)"

    def _repr_html_(self) -> str:
        """Return the card for notebooks."""
        return card_html(f"Export: {self.model}", {name: str(value) for name, value in self.card})


class Estimate:
    """The output of `plan`.

    Attributes:
        path: The file `plan.json`, a path or URI.
        content: What it holds: `workload`, `calibration`, `rejects`, `estimates`, `measured` and `steps` of what
            follows the conversion, and what is `assumed`.
    """

    def __init__(self, path: str) -> None:
        """Read the file."""
        self.path = path
        self.content: dict[str, Any] = read_json(path)

    @property
    def estimates(self) -> "pd.DataFrame":
        """Hours and cost, a row a cluster."""
        import pandas as pd

        return pd.DataFrame(self.content["estimates"])

    @property
    def steps(self) -> "pd.DataFrame":
        """Hours and cost of conversion, training, embedding and the sequence model, a row a step and cluster."""
        import pandas as pd

        return pd.DataFrame(self.content["steps"])

    def __repr__(self) -> str:
        """Return the file."""
        return f"Estimate({self.path!r})"

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return self.estimates.to_html()


class Report:
    """The output of `report`.

    Attributes:
        path: The folder, a path or URI.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder.

        Raises:
            SourceError: If it is no output of `report`.
        """
        from hemo.reporting.build import DATA_PAGE, PAGE

        of_data_only = exists(join(absolute(path), DATA_PAGE)) and not exists(join(absolute(path), PAGE))
        self.path = _require(path, DATA_PAGE if of_data_only else PAGE, "report")
        self.page = join(self.path, DATA_PAGE if of_data_only else PAGE)

    @property
    def text(self) -> str:
        """The tables as Markdown; empty of a data set alone."""
        from hemo.reporting.build import TABLE

        location = join(self.path, TABLE)
        return read_bytes(location).decode() if exists(location) else ""

    @property
    def grid(self) -> "pd.DataFrame":
        """The content of `grid.csv`: a row a trial, metrics with the ends of their intervals."""
        import io

        import pandas as pd

        from hemo.reporting.build import GRID

        return pd.read_csv(io.BytesIO(read_bytes(join(self.path, GRID))))

    def __repr__(self) -> str:
        """Return the page's location."""
        return f"Report({self.page!r})"

    def _repr_html_(self) -> str:
        """Return the page in a frame, for notebooks."""
        page = escape(read_bytes(self.page).decode(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40em;border:0"></iframe>'


class Documents:
    """The output of `document`.

    Attributes:
        path: The folder, a path or URI.
        model_card_file: Where the model card is.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder.

        Raises:
            SourceError: If it is no output of `document`.
        """
        from hemo.reporting.documents.build import MODEL_CARD

        self.path = _require(path, MODEL_CARD, "document")
        self.model_card_file = join(self.path, MODEL_CARD)

    @property
    def model_card(self) -> str:
        """The model card, Markdown with the metadata of Hugging Face above it."""
        return read_bytes(self.model_card_file).decode()

    @property
    def study_sheet(self) -> str:
        """The study sheet, Markdown."""
        from hemo.reporting.documents.build import STUDY_SHEET

        return read_bytes(join(self.path, STUDY_SHEET)).decode()

    def __repr__(self) -> str:
        """Return the folder."""
        return f"Documents({self.path!r})"

    def _repr_markdown_(self) -> str:
        """Return the model card without its metadata, for notebooks."""
        return self.model_card.split("\n---\n", 1)[1]


class Leaks:
    """The output of `leaks`.

    Attributes:
        path: The folder, a path or URI.
        card: Its `card.json`: a row for each split, with metrics, their intervals and what the leak is worth.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Open the folder.

        Raises:
            SourceError: If it is no output of `leaks`.
        """
        from hemo.reporting.leak_table import VALUES, LeaksCard

        self.path = _require(path, VALUES, "leaks")
        self.card = LeaksCard.model_validate(read_json(join(self.path, "card.json")))

    @property
    def text(self) -> str:
        """Conclusions and table as Markdown."""
        from hemo.reporting.leak_table import TABLE

        return read_bytes(join(self.path, TABLE)).decode()

    def to_pandas(self) -> "pd.DataFrame":
        """Return the content of `leaks.csv`: a row a split, metrics from 0 to 1 with the ends of their intervals."""
        import io

        import pandas as pd

        from hemo.reporting.leak_table import VALUES

        return pd.read_csv(io.BytesIO(read_bytes(join(self.path, VALUES))))

    def __fspath__(self) -> str:
        """Return the folder: a job takes this object where it takes its path."""
        return self.path

    def __repr__(self) -> str:
        """Return the folder and the first conclusion."""
        return f"Leaks({self.path!r}: {self.card.conclusions[0] if self.card.conclusions else 'nothing measured'})"

    def _repr_html_(self) -> str:
        """Return conclusions and values for notebooks."""
        lines = "".join(f"<li>{escape(line)}</li>" for line in self.card.conclusions)
        return f"<ul>{lines}</ul>{self.to_pandas().to_html()}"


class Status:
    """How far trials are.

    Attributes:
        sweeps: Each grid and search of the folder, and the trials outside of them.
        log: The last lines of the log of the last job that ran there.
    """

    def __init__(self, sweeps: Sequence[SweepStatus], log: Sequence[str] = ()) -> None:
        """Hold the status of sweeps, and the end of a log."""
        self.sweeps, self.log = tuple(sweeps), tuple(log)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a trial: name, status, epochs done and planned, losses, seconds, reason, digest."""
        import pandas as pd

        names = [field.name for field in fields(TrialStatus) if field.name != "curves"]
        return pd.DataFrame([asdict(trial) for sweep in self.sweeps for trial in sweep.trials], columns=names)

    def __str__(self) -> str:
        """Return headings and tables, and the end of the log, as `hemo status` prints them."""
        from hemo.reporting.status_table import status_text

        return "\n".join([status_text(self.sweeps), *(["", *self.log] if self.log else [])])

    def __repr__(self) -> str:
        """Return the same as text."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return self.to_pandas().to_html()


class Checkup:
    """What `doctor` found.

    Attributes:
        nodes: Facts of each node: versions, sizes, GPUs, clock.
        findings: Each check, with its cure where it failed.
    """

    def __init__(self, nodes: "Sequence[NodeFacts]", findings: "Sequence[Finding]") -> None:
        """Hold facts and findings."""
        self.nodes, self.findings = tuple(nodes), tuple(findings)

    @property
    def fatal(self) -> "tuple[Finding, ...]":
        """The findings with which jobs fail."""
        return tuple(finding for finding in self.findings if finding.severity == "fatal")

    def to_pandas(self) -> "pd.DataFrame":
        """Return a row a finding: severity, check, what, cure."""
        import pandas as pd

        return pd.DataFrame([asdict(finding) for finding in self.findings])

    def __str__(self) -> str:
        """Return a line a finding, as `hemo doctor` prints them."""
        return "\n".join(map(str, self.findings))

    def __repr__(self) -> str:
        """Return the same as text."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the table for notebooks."""
        return self.to_pandas().to_html()
