"""Draw the patients, studies, slices and faults of a corpus from one seed, before anything is rendered."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from hemo.synthetic.anatomy import HEIGHT_MM, Head, draw_head
from hemo.synthetic.geometry import Pose
from hemo.synthetic.hemorrhage import LEVELS, SUBTYPES, Lesion, Subtype, draw_lesion
from hemo.synthetic.scanner import FORMATS, WRAPPED_FORMAT, Identity, PixelFormat, Scanner, draw_scanner

Fault = Literal["truncated", "constant", "noise", "photographed"]
FAULTS: tuple[Fault, ...] = get_args(Fault)

CORRUPTING: tuple[Fault, ...] = ("constant", "noise")
"""Those that leave a file which can be read and shows little or nothing."""

PARTIAL_VOLUME: tuple[Subtype, ...] = ("epidural", "subdural")
"""Whose shape bone has where a slice cuts it in part."""

STUDY_SLICES = (8, 13)
SECOND_STUDY_FRACTION = 0.15
SECOND_SUBTYPE_FRACTION = 0.35
TWICE_LABELLED = 4
SLICES_A_FAULT = 1000
"""One file of each fault for so many slices, rounded up: far below what `convert` tolerates in rejects."""

PATIENTS_A_WRAPPED_FORMAT = 25


@dataclass(frozen=True)
class Scene:
    """Everything the pixels of a slice depend on."""

    head: Head
    pose: Pose
    scanner: Scanner
    level: float
    lesions: tuple[Lesion, ...]
    noise_seed: tuple[int, ...]
    partial_volume: tuple[Lesion, ...] = ()  # bone that the slice cuts in part: looks like blood, and is none


@dataclass(frozen=True)
class SlicePlan:
    """One file: its bytes are a pure function of this."""

    identity: Identity
    scene: Scene
    fault: Fault | None = None
    labelled_twice: bool = False


@dataclass(frozen=True)
class _Study:
    """One examination. `positives` is the run of slices with blood, `first` its subtype."""

    patient: int
    levels: tuple[float, ...]
    positives: range = range(0)
    first: Subtype = "epidural"


def plan_corpus(
    *,
    slices: int,
    seed: int,
    positive_fraction: float,
    faults: bool,
    corrupted_fraction: float = 0,
    partial_volume_fraction: float = 0,
) -> tuple[SlicePlan, ...]:
    """Plan a corpus.

    Everything but the lesions comes from generators that do not depend on them, so that no header, noise or anatomy
    reveals a label.

    Args:
        slices: Number of files.
        seed: The same seed gives the same plan.
        positive_fraction: Fraction of slices with a hemorrhage, 0 to 0.6: none lie at base and vertex.
        faults: Whether to include faults, doubled label rows, wrapped pixel formats and the same pixels under two
            patients. Needs two patients.
        corrupted_fraction: Fraction of slices, besides the faults, whose pixels are lost while their label stays.
        partial_volume_fraction: Fraction of slices that show bone as a layer like blood, which no neighbour shows.
    """
    studies = list(_place_blood(_rng(seed, "blood"), _draw_studies(_rng(seed, "studies"), slices), positive_fraction))
    patients = _draw_patients(_rng(seed, "patients"), 1 + studies[-1].patient, faults=faults)
    plans = tuple(_number_slices(seed, studies, patients))
    plans = _add_partial_volume(_rng(seed, "partial volume"), plans, partial_volume_fraction)
    plans = _set_faults(_rng(seed, "traps"), plans) if faults else plans
    return _corrupt(_rng(seed, "spoiled"), plans, corrupted_fraction)


def _rng(seed: int, subject: str, *numbers: int) -> np.random.Generator:
    """Return the generator of one subject: draws of one do not move those of another.

    The subject's letters are part of the seed: another name would make another corpus.
    """
    return np.random.default_rng([seed, *subject.encode(), *numbers])


def _draw_studies(rng: np.random.Generator, slices: int) -> Iterator[_Study]:
    patient, left = -1, slices
    while left > 0:
        patient += patient < 1 or rng.random() >= SECOND_STUDY_FRACTION  # the second study is always another patient's
        count = min(int(rng.integers(STUDY_SLICES[0], STUDY_SLICES[1] + 1)), left)
        base, vertex = rng.uniform(-0.02, 0.08), rng.uniform(0.93, 1.04)
        yield _Study(patient, tuple(float(level) for level in np.linspace(base, vertex, count)))
        left -= count


def _place_blood(rng: np.random.Generator, studies: Iterator[_Study], positive_fraction: float) -> Iterator[_Study]:
    """Give some studies a run of positive slices, so that their fraction is right over the whole corpus."""
    affected = math.sqrt(positive_fraction)
    missing, turn = 0.0, int(rng.integers(len(SUBTYPES)))
    low, high = LEVELS["subdural"]
    for study in studies:
        fits = [index for index, level in enumerate(study.levels) if low <= level <= high]
        missing += positive_fraction * len(study.levels)
        is_affected = rng.random() < affected or missing > len(fits)
        length = min(round(missing * rng.uniform(0.85, 1.15)), len(fits)) if is_affected else 0
        centre = int(rng.integers(len(fits))) if fits else 0
        run = fits[max(0, centre - length // 2) : max(0, centre - length // 2 + length)]
        missing -= len(run)
        turn += len(run) > 0
        positives = range(run[0], run[-1] + 1) if run else range(0)
        yield replace(study, positives=positives, first=SUBTYPES[turn % len(SUBTYPES)])


def _draw_patients(rng: np.random.Generator, count: int, *, faults: bool) -> list[tuple[Head, Scanner]]:
    """Draw heads and scanners; each format has about as many patients."""
    formats: list[PixelFormat] = [FORMATS[index % len(FORMATS)] for index in rng.permutation(count)]
    if faults:
        for index in rng.permutation(count)[: math.ceil(count / PATIENTS_A_WRAPPED_FORMAT)]:
            formats[index] = WRAPPED_FORMAT
    return [(draw_head(rng), draw_scanner(rng, pixel_format)) for pixel_format in formats]


def _number_slices(seed: int, studies: list[_Study], patients: list[tuple[Head, Scanner]]) -> Iterator[SlicePlan]:
    ids = _rng(seed, "ids")
    images = iter(_draw_ids(ids, sum(len(study.levels) for study in studies), 9))
    patient_ids = _draw_ids(ids, len(patients), 8)
    study_ids, series_ids = _draw_ids(ids, len(studies), 10), _draw_ids(ids, len(studies), 10)
    for number, study in enumerate(studies):
        head, scanner = patients[study.patient]
        rng = _rng(seed, "pose", number)
        pose, tilt = _draw_pose(rng), float(rng.uniform(0.1, 0.42)) if scanner.pixel_format.tilts else 0.0
        top_mm = float(rng.uniform(-50, 250))
        lesions = _draw_lesions(_rng(seed, "lesions", number), study)
        for index, level in enumerate(study.levels):
            corner = -256 * pose.spacing_mm
            position = (corner, corner + 12, top_mm + HEIGHT_MM * level / math.cos(tilt))
            names = next(images), patient_ids[study.patient], study_ids[number], series_ids[number]
            identity = Identity(*names, position, tilt, pose.spacing_mm)
            shown = lesions if index in study.positives else ()
            yield SlicePlan(identity, Scene(head, pose, scanner, level, shown, (seed, number, index)))


def _draw_ids(rng: np.random.Generator, count: int, digits: int) -> list[str]:
    """Draw different ids such as `ID_0a1b2c3d`."""
    ids: dict[str, None] = {}
    while len(ids) < count:
        ids[f"ID_{int(rng.integers(16**digits)):0{digits}x}"] = None
    return list(ids)


def _draw_pose(rng: np.random.Generator) -> Pose:
    right_mm, down_mm = float(rng.normal(0, 7)), float(rng.normal(-8, 6))
    return Pose(float(rng.normal(0, 0.14)), right_mm, down_mm, float(rng.uniform(0.43, 0.50)))


def _draw_lesions(rng: np.random.Generator, study: _Study) -> tuple[Lesion, ...]:
    """Draw one hemorrhage, or two, over the study's run of positive slices.

    Blood in the ventricles alone needs ventricles in all of them; else it comes with its source.
    """
    run = study.positives
    if not run:
        return ()
    low, high = study.levels[run.start], study.levels[run.stop - 1]
    lesions = [draw_lesion(rng, study.first, (low, high))]
    if study.first == "intraventricular" and not _covers(study.first, low, high):
        source: Subtype = "intraparenchymal" if rng.random() < 0.5 else "subarachnoid"
        lesions.insert(0, draw_lesion(rng, source, (low, high)))
    elif rng.random() < SECOND_SUBTYPE_FRACTION:
        second = SUBTYPES[int(rng.integers(len(SUBTYPES)))]
        lesions.append(draw_lesion(rng, second, (low, low + (high - low) * float(rng.uniform(0.5, 1.0)))))
    return tuple(lesions)


def _covers(subtype: Subtype, low: float, high: float) -> bool:
    return LEVELS[subtype][0] <= low and high <= LEVELS[subtype][1]


def _add_partial_volume(
    rng: np.random.Generator, plans: tuple[SlicePlan, ...], fraction: float
) -> tuple[SlicePlan, ...]:
    """Let bone be cut in part by a fraction of the slices: none with blood, nor any neighbour of it or of another.

    A layer along the inner table is drawn as blood outside the brain is, so that the slice alone does not tell them
    apart: blood goes on in the next slice.
    """
    changed = list(plans)
    low, high = LEVELS["subdural"]
    wanted = round(fraction * len(plans))
    for index in rng.permutation(len(plans)).tolist():
        if not wanted:
            break
        level, study = plans[index].scene.level, plans[index].identity.study
        near = [at for at in (index - 1, index, index + 1) if 0 <= at < len(plans)]
        scenes = [changed[at].scene for at in near if plans[at].identity.study == study]
        if low <= level <= high and not any(scene.lesions or scene.partial_volume for scene in scenes):
            layer = draw_lesion(rng, PARTIAL_VOLUME[int(rng.integers(len(PARTIAL_VOLUME)))], (level, level))
            changed[index] = replace(plans[index], scene=replace(plans[index].scene, partial_volume=(layer,)))
            wanted -= 1
    return tuple(changed)


def _set_faults(rng: np.random.Generator, plans: tuple[SlicePlan, ...]) -> tuple[SlicePlan, ...]:
    """Put each fault into a few files, chosen independently of their label."""
    order = [int(index) for index in rng.permutation(len(plans))]
    changed = list(plans)
    for _ in range(math.ceil(len(plans) / SLICES_A_FAULT)):
        for fault in FAULTS:
            index = order.pop()
            scene = plans[index].scene
            hidden = fault != "truncated"  # no blood where a fault may hide it
            changed[index] = replace(plans[index], fault=fault, scene=replace(scene, lesions=()) if hidden else scene)
        source, twin = _two_patients(order, plans)
        changed[twin] = _twin(plans[twin], plans[source])
    for index in order[-TWICE_LABELLED:]:
        changed[index] = replace(changed[index], labelled_twice=True)
    return tuple(changed)


def _corrupt(rng: np.random.Generator, plans: tuple[SlicePlan, ...], fraction: float) -> tuple[SlicePlan, ...]:
    """Replace the pixels of a fraction of the slices; labels stay. Slices with a fault or shown twice are left out."""
    shown = Counter(plan.scene.noise_seed for plan in plans)
    intact = [at for at, plan in enumerate(plans) if plan.fault is None and shown[plan.scene.noise_seed] == 1]
    drawn = rng.permutation(intact)[: round(fraction * len(plans))]
    faults = dict(zip(drawn.tolist(), itertools.cycle(CORRUPTING), strict=False))
    return tuple(replace(plan, fault=faults.get(index, plan.fault)) for index, plan in enumerate(plans))


def _two_patients(order: list[int], plans: tuple[SlicePlan, ...]) -> tuple[int, int]:
    """Take two slices of different patients from the end of `order`."""
    source = order.pop()
    owner = plans[source].identity.patient
    twin = next(index for index in reversed(order) if plans[index].identity.patient != owner)
    order.remove(twin)
    return source, twin


def _twin(plan: SlicePlan, source: SlicePlan) -> SlicePlan:
    """Return a plan with another patient's scene under its own ids."""
    identity = replace(plan.identity, tilt_rad=source.identity.tilt_rad, spacing_mm=source.identity.spacing_mm)
    return replace(plan, identity=identity, scene=source.scene)
