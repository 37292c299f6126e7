"""From a raw medical image corpus to trained models and a statistical comparison of them.

Everything in `__all__` is loaded when it is first used: `import hemo` loads neither torch nor Ray.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hemo.library.embeddings import Embeddings as Embeddings
    from hemo.library.evaluation import Evaluation as Evaluation
    from hemo.library.external import record_predictions as record_predictions
    from hemo.library.images import ReadImage as ReadImage
    from hemo.library.images import read_image as read_image
    from hemo.library.images import read_images as read_images
    from hemo.library.images import read_rejects as read_rejects
    from hemo.library.jobs import backbones as backbones
    from hemo.library.jobs import connect as connect
    from hemo.library.jobs import convert as convert
    from hemo.library.jobs import curate as curate
    from hemo.library.jobs import doctor as doctor
    from hemo.library.jobs import document as document
    from hemo.library.jobs import embed as embed
    from hemo.library.jobs import evaluate as evaluate
    from hemo.library.jobs import explain as explain
    from hemo.library.jobs import export as export
    from hemo.library.jobs import leaks as leaks
    from hemo.library.jobs import phantom as phantom
    from hemo.library.jobs import pipeline as pipeline
    from hemo.library.jobs import plan as plan
    from hemo.library.jobs import predict as predict
    from hemo.library.jobs import report as report
    from hemo.library.jobs import status as status
    from hemo.library.jobs import train as train
    from hemo.library.jobs import tune as tune
    from hemo.library.jobs import watch as watch
    from hemo.library.shards import Shards as Shards
    from hemo.library.shards import ShardWriter as ShardWriter
    from hemo.library.training_set import TrainingSet as TrainingSet
    from hemo.library.trials import Trial as Trial
    from hemo.library.trials import Trials as Trials

__version__ = "0.1.0"

_MODULES = {
    "embeddings": ("Embeddings",),
    "evaluation": ("Evaluation",),
    "external": ("record_predictions",),
    "images": ("ReadImage", "read_image", "read_images", "read_rejects"),
    "jobs": (
        "backbones",
        "connect",
        "convert",
        "curate",
        "doctor",
        "document",
        "embed",
        "evaluate",
        "explain",
        "export",
        "leaks",
        "phantom",
        "pipeline",
        "plan",
        "predict",
        "report",
        "status",
        "train",
        "tune",
        "watch",
    ),
    "shards": ("ShardWriter", "Shards"),
    "training_set": ("TrainingSet",),
    "trials": ("Trial", "Trials"),
}

_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"hemo has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"hemo.library.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
