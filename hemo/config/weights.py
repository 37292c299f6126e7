"""Where a trial's starting weights lie: in a file, or in a checkpoint of hemo's own."""

from dataclasses import dataclass

from hemo.errors import ConfigError
from hemo.storage import exists, filesystem, join

CARD = "checkpoint.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class StartingWeights:
    """What a location given as `model.weights` means."""

    file: str  # safetensors or a state dict
    checkpoint: str = ""  # folder of a checkpoint of hemo's own, if that is what was given

    @property
    def deciding(self) -> tuple[str, ...]:
        """Files whose content decides what a model starts from: a checkpoint's card says how pixels are scaled."""
        return (self.file, join(self.checkpoint, CARD)) if self.checkpoint else (self.file,)


def find_weights(location: str) -> StartingWeights:
    """Find starting weights: a file, the folder of a checkpoint, or of a record that has one.

    A location where nothing stands counts as a file: whoever reads it says that it is missing.

    Args:
        location: Path or URI.

    Raises:
        ConfigError: If it is a folder of something else.
    """
    fs, path = filesystem(location)
    if fs.isfile(path) or not fs.isdir(path):
        return StartingWeights(location)
    for folder in (location, join(location, "checkpoint")):
        if exists(join(folder, CARD)):
            return StartingWeights(join(folder, WEIGHTS), folder)
    raise ConfigError(
        f"model.weights: {location} is a folder without {CARD}; give a record, its checkpoint folder, or a file"
    )
