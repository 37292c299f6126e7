"""Damage files in every way at hand and require that each becomes rows or rejects.

    python -m benchmarks.fuzz_convert --files 20000 --seed 1 --seeds FOLDER

Valid files are made of every encoding that can be written here; those below `--seeds` are added. Each damaged file
goes through the image path in a worker process with bounded memory. A fault is an exception, a process that dies, a
file that takes longer than the limit, or a row that is not what its settings say. Prints counts by reason, the slowest
file and the largest memory; faulty files are kept in `--keep`. Exit code 1 if there was a fault.
"""

import argparse
import collections
import multiprocessing
import multiprocessing.connection
import resource
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.damaged_files import Damaged, damaged, seeds_below, valid_photos, valid_slices
from hemo.imaging.dicom.read import images_of_dicom, quiet_pydicom
from hemo.imaging.image import FLAGS, REASONS, Image, Reject
from hemo.imaging.picture import images_of_picture
from hemo.imaging.settings import ImageSettings, resolve_windows
from hemo.pseudonym import Pseudonymiser, pseudonymiser

PATIENCE_S = 120.0  # until a worker is given up, on a busy machine; what counts as slow is CPU time

WINDOWED = ImageSettings(corpus="rsna", windows=resolve_windows(["brain", "bone"]), side_px=32)
SETTINGS = (
    (WINDOWED, Pseudonymiser()),
    (WINDOWED.model_copy(update={"corpus": "dicom", "crop": "head"}), Pseudonymiser()),
    (ImageSettings(corpus="dicom", pixels="hu16", side_px=24), pseudonymiser(b"a secret of sixteen bytes")),
)
PHOTO_SETTINGS = tuple(ImageSettings(corpus="image_folder", colour=colour, side_px=32) for colour in ("rgb", "grey"))


@dataclass
class Tally:
    """What became of the files."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""
    peak_mib: float = 0.0


@dataclass(frozen=True)
class Job:
    """What a worker needs to make and try any file."""

    seed: int
    seeds: str
    memory_mib: int


def main() -> None:
    """Try all files, print what became of them."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", type=int, default=20000)
    arguments.add_argument("--first", type=int, default=0, help="number of the first file")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--seeds", default="", help="folder of further valid DICOM files")
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--limit_s", type=float, default=5.0, help="longest CPU time for a file")
    arguments.add_argument("--memory_mib", type=int, default=2048, help="address space of a worker")
    arguments.add_argument("--keep", default="", help="folder for files with faults")
    given = arguments.parse_args()
    job = Job(given.seed, given.seeds, given.memory_mib)
    numbers = collections.deque(range(given.first, given.first + given.files))
    tally = Tally()
    run_workers(job, numbers, min(given.workers, given.files), tally)
    if tally.slowest_s > given.limit_s:
        tally.faults.append(f"slow: {tally.slowest} took {tally.slowest_s:.1f} s")
    print_tally(tally, given.files)
    if given.keep:
        keep_faults(job, tally, Path(given.keep))
    sys.exit(1 if tally.faults else 0)


class Worker:
    """A process that tries files one at a time; replaced when it dies or hangs."""

    def __init__(self, job: Job) -> None:
        """Start the process."""
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(job, other), daemon=True)
        self.process.start()
        other.close()
        self.number: int | None = None
        self.since = time.monotonic()

    def send(self, number: int) -> None:
        """Ask for a file."""
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def stop(self) -> int | None:
        """End the process and return its exit code."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        return self.process.exitcode


def run_workers(job: Job, numbers: "collections.deque[int]", count: int, tally: Tally) -> None:
    """Hand out the numbers until all are answered."""
    workers = [Worker(job) for _ in range(count)]
    for worker in workers:
        worker.send(numbers.popleft())
    while busy := [worker for worker in workers if worker.number is not None]:
        ready = multiprocessing.connection.wait([worker.pipe for worker in busy], timeout=1)
        for worker in busy:
            if worker.pipe in ready:
                alive = take_answer(worker, tally)
            elif time.monotonic() - worker.since > PATIENCE_S:
                tally.faults.append(f"hang: file {worker.number}")
                alive = False
            else:
                continue
            if not alive:
                worker.stop()
                workers[workers.index(worker)] = worker = Worker(job)
            if numbers:
                worker.send(numbers.popleft())
            else:
                worker.number = None
    for worker in workers:
        worker.stop()


def take_answer(worker: Worker, tally: Tally) -> bool:
    """Count a worker's answer; return whether it is still alive."""
    try:
        outcomes, fault, seconds, peak_mib, kind = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        tally.faults.append(f"crash: file {worker.number}, exit code {worker.process.exitcode}")
        return False
    tally.outcomes.update(outcomes)
    tally.peak_mib = max(tally.peak_mib, peak_mib)
    if seconds > tally.slowest_s:
        tally.slowest_s, tally.slowest = seconds, f"file {worker.number} ({kind})"
    if fault:
        tally.faults.append(f"fault: file {worker.number} ({kind}): {fault}")
    return True


def serve(job: Job, pipe: "multiprocessing.connection.Connection") -> None:
    """Make and try files until the pipe closes. Runs in the worker."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (job.memory_mib << 20, job.memory_mib << 20))
    slices, photos = valid_slices(), valid_photos()
    if job.seeds:
        slices += seeds_below(Path(job.seeds))
    with quiet_pydicom():
        while True:
            try:
                number = pipe.recv()
            except EOFError:
                return
            file = damaged(slices, photos, job.seed, number)
            started = time.process_time()
            outcomes, fault = outcome_of(file, number)
            seconds = time.process_time() - started
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            pipe.send((outcomes, fault, seconds, peak_mib, file.kind))


def outcome_of(file: Damaged, number: int) -> tuple[list[str], str]:
    """Try one file; return what became of each frame, and what is wrong with that."""
    try:
        if file.is_photo:
            settings = PHOTO_SETTINGS[number % len(PHOTO_SETTINGS)]
            results = images_of_picture(file.data, settings)
        else:
            settings, pseudonyms = SETTINGS[number % len(SETTINGS)]
            results = images_of_dicom(file.data, settings, pseudonyms)
        faults = [] if results else ["neither row nor reject"]
        for result in results:
            faults += reject_faults(result) if isinstance(result, Reject) else row_faults(result, settings)
    except BaseException:
        return ["exception"], traceback.format_exc(limit=-4)
    return ["row" if isinstance(result, Image) else result.code for result in results], "; ".join(faults)


def reject_faults(reject: Reject) -> list[str]:
    """Return what is wrong with a reject."""
    faults = [] if reject.code in REASONS else [f"unknown reason {reject.code}"]
    return faults + (["detail too long"] if len(reject.detail) > 200 else [])


def row_faults(image: Image, settings: ImageSettings) -> list[str]:
    """Return what is wrong with a row."""
    shape = (len(settings.channels), settings.side_px, settings.side_px)
    floats = [image.position_mm, image.spacing_mm, image.slice_thickness_mm, image.brain_fraction]
    floats += image.orientation or ()
    checks = {
        "shape": image.pixels.shape == shape,
        "dtype": image.pixels.dtype == settings.dtype,
        "contiguity": image.pixels.flags.c_contiguous,
        "flags": set(image.flags) <= set(FLAGS),
        "digest": len(image.pixel_digest) == 16,
        "size": image.source_rows > 0 and image.source_cols > 0,
        "frame": 0 <= image.frame < image.frames,
        "floats": all(value is None or np.isfinite(np.float32(value)) for value in floats),
    }
    return [f"wrong {name}" for name, holds in checks.items() if not holds]


def print_tally(tally: Tally, files: int) -> None:
    """Print counts, limits reached, faults."""
    print(f"{files} files, {tally.outcomes.total()} rows and rejects\n\n| became | count |\n| --- | --- |")
    for name, count in tally.outcomes.most_common():
        print(f"| {name} | {count} |")
    print(f"\nslowest: {tally.slowest_s:.2f} s, {tally.slowest}; largest memory: {tally.peak_mib:.0f} MiB")
    print(f"faults: {len(tally.faults)}")
    for fault in tally.faults[:50]:
        print(fault)


def keep_faults(job: Job, tally: Tally, folder: Path) -> None:
    """Write the files that had faults, to be looked at."""
    slices = valid_slices() + (seeds_below(Path(job.seeds)) if job.seeds else [])
    folder.mkdir(parents=True, exist_ok=True)
    for fault in tally.faults:
        number = int("".join(character for character in fault.split("file ")[1].split()[0] if character.isdigit()))
        (folder / f"{number}.bin").write_bytes(damaged(slices, valid_photos(), job.seed, number).data)


if __name__ == "__main__":
    main()
