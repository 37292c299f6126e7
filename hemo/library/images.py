"""Decode images without writing anything: one file, or a whole corpus as a Ray Dataset."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from hemo.config.convert import Corpus, ImagesConfig, ReadConfig
from hemo.config.types import ClusterConfig
from hemo.config.validation import validated
from hemo.errors import ConfigError, SourceError
from hemo.imaging.image import Reject

if TYPE_CHECKING:
    import ray.data

    from hemo.cluster.read_images import Tables

PICTURE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"II*\x00", b"MM\x00*", b"RIFF")

NOT_FACTS = ("pixels", "frame", "frames")


@dataclass(frozen=True)
class ReadImage:
    """One image of a file, and what is known about it."""

    pixels: NDArray[Any]  # (channels, height_px, width_px), uint8, or int16 HU with `pixels="hu16"`
    channels: tuple[str, ...]
    frame: int  # 0 in files of a single image
    facts: dict[str, Any]  # patient, study, series, scanner, position_mm, spacing_mm, source_rows, flags, ...

    def _repr_html_(self) -> str:
        """Return channels and facts for notebooks."""
        from hemo.library.notebook import card_html, contact_sheet, picture_html

        facts = {name: str(value) for name, value in self.facts.items() if not isinstance(value, bytes)}
        channels = contact_sheet([channel[None] for channel in self.pixels], self.channels)
        title = f"Image: {' x '.join(map(str, self.pixels.shape))}, {self.pixels.dtype}"
        return picture_html(channels) + card_html(title, facts)


def read_image(file: str | Path | bytes, *, corpus: Corpus | None = None, frame: int = 0, **settings: Any) -> ReadImage:
    """Decode one DICOM file or picture exactly as `convert` does. Needs no Ray.

    Args:
        file: A path or URI, or the file's bytes.
        corpus: `dicom`, `rsna` (with the repairs of that corpus) or `image_folder`; None: by the file's first bytes.
        frame: Which frame of a file of several, 0-based.
        settings: As of `convert`: `windows`, `side_px`, `pixels`, `crop`, `colour`.

    Returns:
        The image.

    Raises:
        SourceError: If there is no such file or frame, or it gives no image: with the reason of `rejects.parquet`.
        ConfigError: On an unknown corpus, setting or window.
    """
    from hemo.config.convert import MEDIA
    from hemo.imaging.dicom.read import quiet_pydicom
    from hemo.imaging.settings import image_settings
    from hemo.pseudonym import Pseudonymiser
    from hemo.shards.convert_unit import decode

    name, data = ("bytes", file) if isinstance(file, bytes) else (str(file), _bytes_of(str(file)))
    corpus = corpus or ("image_folder" if data.startswith(PICTURE_SIGNATURES) else "dicom")
    if corpus not in MEDIA:
        raise ConfigError(f"read_image: corpus: must be {', '.join(MEDIA)} or None, not {corpus!r}")
    config = validated(
        ImagesConfig, {"source": name, "corpus": corpus, "public_ids": True, **settings}, origin="read_image"
    )
    image_path = image_settings(config, MEDIA[corpus], Pseudonymiser())
    with quiet_pydicom():
        frames = {image.frame: image for image in decode(data, image_path, Pseudonymiser())}
    image = frames.get(frame)
    if image is None:
        raise SourceError(f"{name}: there is no frame {frame}; the file has {len(frames)}")
    if isinstance(image, Reject):
        raise SourceError(f"{name} gives no image: {image.code} ({image.detail})")
    facts = {field.name: getattr(image, field.name) for field in fields(image) if field.name not in NOT_FACTS}
    return ReadImage(image.pixels, image_path.channels, image.frame, facts)


def _bytes_of(location: str) -> bytes:
    from hemo.storage import read_bytes

    try:
        return read_bytes(location)
    except OSError as error:
        raise SourceError(f"{location}: cannot be read ({error.strerror or error}); give a file") from error


def read_images(source: str | Path, *, corpus: Corpus, **settings: Any) -> "ray.data.Dataset":
    """Return the images of a raw corpus as a Ray Dataset, decoded while it is read.

    Connects to Ray where the process is not connected yet, and stays connected. What gives no image is not among the
    rows: each task with some prints how many and why on standard error, and `read_rejects` lists them.

    Args:
        source: Folder, zip or bucket, as of `convert`.
        corpus: Kind of corpus, as of `convert`.
        settings: Others of `convert`: `windows`, `side_px`, `public_ids`, ...; `unit_files`: files read by one task.

    Returns:
        The columns of a shard; `image` is a tensor column, (channels, height_px, width_px) a row.

    Raises:
        SourceError: If the source is missing or empty, or two files would share an `image_id`.
        ConfigError: On an unknown or wrong setting.
    """
    from hemo.cluster.read_images import image_tables

    return _dataset("read_images", image_tables, {"source": source, "corpus": corpus, **settings})


def read_rejects(source: str | Path, *, corpus: Corpus, **settings: Any) -> "ray.data.Dataset":
    """Return what `read_images` leaves out: the columns of `rejects.parquet`. Decodes all the files again.

    Args and errors are those of `read_images`.
    """
    from hemo.cluster.read_images import reject_tables

    return _dataset("read_rejects", reject_tables, {"source": source, "corpus": corpus, **settings})


def _dataset(name: str, tables: "Tables", settings: dict[str, Any]) -> "ray.data.Dataset":
    from hemo.cluster.read_images import decoded_corpus
    from hemo.cluster.session import connect

    config = validated(ReadConfig, settings, origin=name)
    connect(ClusterConfig())
    return decoded_corpus(config, tables)
