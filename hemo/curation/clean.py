"""Which flagged images are left out."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hemo.curation.rows import has_flag
from hemo.errors import ConfigError
from hemo.imaging.quality import FLAGS


def unflagged(index: pa.Table, drop_flags: tuple[str, ...]) -> NDArray[np.bool_]:
    """Tell for each row whether it has none of `drop_flags`; shape (rows,).

    Raises:
        ConfigError: If a flag is none that `convert` sets.
    """
    unknown = [flag for flag in drop_flags if flag not in FLAGS]
    if unknown:
        raise ConfigError(f"drop_flags: {', '.join(unknown)} is no flag of an image; known are {', '.join(FLAGS)}")
    return ~has_flag(index, drop_flags)
