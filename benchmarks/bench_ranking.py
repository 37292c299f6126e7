"""Whether a comparison of cells proves its ranking: simulated grids, and one config trained from many seeds.

    python benchmarks/bench_ranking.py
    python benchmarks/bench_ranking.py --records runs/phantom_seeds/records

The first prints tables in Markdown: how often grids of equal cells are declared to differ, how often true differences
are found and what the power formula said, what the planned seeds and patients find, coverage of intervals, the
probability that the better-looking cell is not better, and the time for 100 cells. About 15 minutes on one core. The
second reads the records of one config trained from many seeds (`conf/study/phantom_seeds.yaml`) and compares all pairs.

The simulation: patients, images and labels as in `bench_statistics.py`. The models of a grid share 0.7 of the variance
of the scores' noise, those of a cell 0.8: where two models differ on a patient, 0.1 is of the cell and 0.2 of the seed.
The true AUROC of a model is that of its cell plus `seed_sd` times a deviation of its seed, by default standard normal.
"""

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from bench_statistics import Cell, seconds_of_report, simulated_labels
from numpy.typing import NDArray
from scipy.special import ndtri

from hemo.stats import SIGNIFICANCE
from hemo.stats.auroc import Auroc, auroc, mean_over_seeds
from hemo.stats.bootstrap import crossed_resamples, patient_draws, resampled_means, resampled_ranking
from hemo.stats.crossed import (
    Differences,
    Measured,
    compare_cells,
    measured_auroc,
    measured_by_resampling,
    pair_degrees,
    seed_variance,
)
from hemo.stats.intervals import combined_degrees
from hemo.stats.planning import Design, design_of
from hemo.trials.predictions import split_scores
from hemo.trials.record import read_predictions, read_records

SHARED_BY_ALL, SHARED_BY_CELL = 0.7, 0.8
"""Parts of the variance of the noise that models of one grid, and of one cell, have in common."""
RESAMPLES = 200
"""Of patients, in simulations that resample; a report takes 1,000."""
LOWEST, HIGHEST = 0.3, 0.9995
"""True AUROC of a model is kept between these."""

Deviations = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def normal(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Draw deviations of seeds, standard normal."""
    return generator.normal(size=shape)


def collapsing(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Draw deviations of seeds of which one in ten collapses; mean 0, variance 1."""
    return np.where(generator.random(shape) < 0.1, -3.0, 1 / 3)


class Grid(NamedTuple):
    """One setting of the simulation."""

    areas: tuple[float, ...]  # true AUROC of each cell
    seeds: int = 3  # of each cell
    seed_sd: float | tuple[float, ...] = 0.0  # standard deviation of AUROC over seeds, of all cells or of each
    patients: int = 100
    prevalence: float = 0.5
    deviations: Deviations = normal


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated test images of a grid, and its models' AUROC."""

    patients: NDArray[np.int64]
    labels: NDArray[np.uint8]  # (images, 1)
    scores: NDArray[np.float64]  # (images, models)
    groups: NDArray[np.int64]  # number of each model's cell
    areas: list[Auroc]

    @property
    def measured(self) -> Measured:
        """AUROC of all models."""
        return measured_auroc(self.areas)

    @property
    def degrees(self) -> NDArray[np.float64]:
        """Degrees of freedom of the variance over patients, of each pair of cells."""
        count = int(self.groups.max()) + 1
        return pair_degrees(
            [mean_over_seeds([self.areas[at] for at in np.flatnonzero(self.groups == cell)]) for cell in range(count)]
        )


def simulate(grid: Grid, generator: np.random.Generator) -> Simulated:
    """Draw the test images of a grid and the scores of its models."""
    cells, seeds = len(grid.areas), grid.seeds
    setting = Cell(0.5, grid.patients, grid.prevalence, 0.3)
    while True:
        patients, labels = simulated_labels(setting, generator)
        if 0 < labels.sum() < len(labels):
            break
    deviations = np.broadcast_to(grid.seed_sd, (cells,))[:, None] * grid.deviations(generator, (cells, seeds))
    true = np.clip(np.array(grid.areas)[:, None] + deviations, LOWEST, HIGHEST)
    distances = np.sqrt(2) * ndtri(true).ravel()
    effects = [
        _effects(grid.patients, cells, seeds, generator)[patients],
        _effects(len(patients), cells, seeds, generator),
    ]
    noise = np.sqrt(setting.correlation) * effects[0] + np.sqrt(1 - setting.correlation) * effects[1]
    column = labels[:, None].astype(np.uint8)
    scores = distances * column + noise
    areas = [auroc(scores[:, k : k + 1], column, patients) for k in range(cells * seeds)]
    return Simulated(patients, column, scores, np.repeat(np.arange(cells), seeds), [each for each in areas if each])


def _effects(count: int, cells: int, seeds: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw effects of patients or images on the scores of all models, shape (count, models)."""
    parts = ((1, 1, SHARED_BY_ALL), (cells, 1, SHARED_BY_CELL - SHARED_BY_ALL), (cells, seeds, 1 - SHARED_BY_CELL))
    summed = sum(np.sqrt(part) * generator.normal(size=(count, *shape)) for *shape, part in parts)
    return np.broadcast_to(summed, (count, cells, seeds)).reshape(count, cells * seeds)


def compared(images: Simulated) -> Differences:
    """Compare all pairs of cells as a report does."""
    return compare_cells(images.measured, images.groups, images.degrees)


def without_seeds(found: Differences) -> Differences:
    """Return the same with the variance over patients alone, as reports had it before."""
    return replace(found, from_seeds=np.zeros(len(found.values)), seed_degrees=0.0)


def alternatives(images: Simulated, found: Differences) -> dict[str, Differences]:
    """Return the comparison with other variances over seeds, for balanced grids.

    Pooled alone; of each pair alone (Welch); and seeds as readers who read all cells, seed 0 of one cell paired with
    seed 0 of the other, as the factorial design of Obuchowski and Rockette has it.
    """
    seeds, measured = seed_variance(images.measured, images.groups), images.measured
    count = int(seeds.seeds[0])
    pooled = np.full(len(found.values), 2 * seeds.pooled / count)
    own = np.maximum(0.0, seeds.own)
    squares = [np.maximum(seeds.own + seeds.noise, seeds.noise)[at] / count for at in (found.first, found.second)]
    alone = (own[found.first] + own[found.second]) / count
    welch = (squares[0] + squares[1]) ** 2 / ((squares[0] ** 2 + squares[1] ** 2) / (count - 1))
    own_degrees = combined_degrees(found.from_patients, found.patient_degrees, alone, found.noise, welch)
    table = measured.values.reshape(-1, count)
    cells = len(table)
    residuals = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    interaction = (residuals**2).sum() / ((cells - 1) * (count - 1))
    products = (measured.deviations @ measured.deviations.T).reshape(cells, count, cells, count)
    same_cell = np.mean(
        [products[t, i, t, j] for t in range(cells) for i, j in itertools.permutations(range(count), 2)]
    )
    others = [
        products[t, i, s, j]
        for t, s in itertools.permutations(range(cells), 2)
        for i, j in itertools.permutations(range(count), 2)
    ]
    total = np.full(len(found.values), 2 / count * (interaction + count * max(0.0, same_cell - np.mean(others))))
    factorial = (total * count / 2) ** 2 / (interaction**2 / ((cells - 1) * (count - 1)))
    return {
        "pooled": replace(found, from_seeds=pooled, seed_degrees=float((seeds.seeds - 1).sum())),
        "pair's own": _with_variance(found, found.from_patients + alone, own_degrees),
        "factorial": _with_variance(found, total, factorial),
    }


def _with_variance(found: Differences, variance: NDArray[np.float64], degrees: NDArray[np.float64]) -> Differences:
    return replace(without_seeds(found), from_patients=variance, patient_degrees=degrees)


def equal_grids(grid: Grid, rounds: int, seed: int, others: bool) -> dict[str, float]:
    """Return the fraction of grids with any pair declared different, and of pairs before adjustment."""
    generator = np.random.default_rng(seed)
    any_pair: dict[str, list[bool]] = {}
    pairs = []
    for _ in range(rounds):
        images = simulate(grid, generator)
        found = compared(images)
        kinds = {"crossed": found, "patients only": without_seeds(found)}
        kinds |= alternatives(images, found) if others else {}
        for name, each in kinds.items():
            any_pair.setdefault(name, []).append(bool(each.significant.any()))
        pairs.append((found.p < SIGNIFICANCE).mean())
    return {**{name: float(np.mean(values)) for name, values in any_pair.items()}, "pairs": float(np.mean(pairs))}


def power(grid: Grid, rounds: int, seed: int) -> dict[str, float]:
    """Return how often the first cell is found better than the others, and what the formula said.

    It says so from the mean of the components of all rounds, and in each round from that round's own, as a report does.
    The level is that of Holm's first step: `SIGNIFICANCE` over the number of pairs.
    """
    generator = np.random.default_rng(seed)
    cells = len(grid.areas)
    level = SIGNIFICANCE / (cells * (cells - 1) // 2)
    true = np.full(cells - 1, grid.areas[0] - grid.areas[1])
    found, by_holm, said, told, designs = [], [], [], [], []
    for _ in range(rounds):
        images = simulate(grid, generator)
        each = compared(images)
        better = each.values[: cells - 1] > 0
        found.append((better & (each.p[: cells - 1] < level)).mean())
        by_holm.append((better & each.significant[: cells - 1]).mean())
        design = _first(design_of(each, seed_variance(images.measured, images.groups)), cells - 1)
        designs.append(design)
        said.append(design.power(true, level).mean())
        told.append((without_seeds(each).significant[: cells - 1] & better).mean())
    formula = _mean(designs).power(true, level)
    names = ("found", "formula", "mean of reports", "found by Holm", "patients only")
    means = (found, formula, said, by_holm, told)
    return {name: float(np.mean(each)) for name, each in zip(names, means, strict=True)}


def _mean(designs: Sequence[Design]) -> Design:
    """Return the mean of the components of designs of equal grids."""
    first, second = (np.mean([each.noise[at] for each in designs], axis=0) for at in range(2))
    return Design(
        designs[0].seeds,
        np.mean([each.from_patients for each in designs], axis=0),
        (first, second),
        np.mean([each.from_seeds for each in designs], axis=0),
        np.mean([each.patient_degrees for each in designs], axis=0),
        float(np.mean([each.seed_degrees for each in designs])),
    )


def _first(design: Design, pairs: int) -> Design:
    """Return the first pairs of a design, those of the first cell."""
    return Design(
        (design.seeds[0][:pairs], design.seeds[1][:pairs]),
        design.from_patients[:pairs],
        (design.noise[0][:pairs], design.noise[1][:pairs]),
        design.from_seeds[:pairs],
        design.patient_degrees[:pairs],
        design.seed_degrees,
    )


def planned(grid: Grid, rounds: int, seed: int) -> dict[str, float]:
    """Return what two cells need by the formula, from pilots like `grid`, and how often it then finds the difference.

    Components are the means of those of 200 pilots; of one pilot they are as uncertain as its few seeds.
    """
    generator = np.random.default_rng(seed)
    designs = []
    for _ in range(200):
        images = simulate(grid, generator)
        designs.append(design_of(compared(images), seed_variance(images.measured, images.groups)))
    mean = _mean(designs)
    true = np.array([grid.areas[0] - grid.areas[1]])
    further, times = mean.further_seeds(true, SIGNIFICANCE)[0], mean.times_patients(true, SIGNIFICANCE)[0]
    result = {"now": power(grid, rounds, seed + 1)["found"], "seeds": further, "patients": times * grid.patients}
    if np.isfinite(further):
        result["with seeds"] = power(grid._replace(seeds=grid.seeds + int(further)), rounds, seed + 2)["found"]
    if np.isfinite(times):
        more = grid._replace(patients=int(np.ceil(times * grid.patients)))
        result["with patients"] = power(more, rounds, seed + 3)["found"]
    return result


def coverage(grid: Grid, rounds: int, seed: int) -> dict[str, float]:
    """Return how many intervals of the difference of two equal cells hold 0, and of a cell's AUROC its true value."""
    generator = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {}
    draws = patient_draws(grid.patients, RESAMPLES, seed)
    for _ in range(rounds):
        images = simulate(grid, generator)
        for name, differences in _by_metric(images, grid, draws, seed):
            held.setdefault(name, []).append(bool(abs(differences.values[0]) <= differences.half_widths[0]))
        seeds = seed_variance(images.measured, images.groups)
        mean = mean_over_seeds(images.areas[: grid.seeds])
        both = mean.interval(float(seeds.of_means[0]), float(seeds.noise[0] / grid.seeds), seeds.degrees).ends
        alone = mean.interval().ends
        for name, ends in (("cell's AUROC", both), ("cell's AUROC, patients only", alone)):
            if ends:
                held.setdefault(name, []).append(ends[0] <= grid.areas[0] <= ends[1])
    return {name: float(np.mean(each)) for name, each in held.items()}


def _by_metric(
    images: Simulated, grid: Grid, draws: NDArray[np.float64], seed: int
) -> Iterable[tuple[str, Differences]]:
    """Yield the comparison of two cells by each metric, as reported and by the crossed bootstrap."""
    ones = np.ones((grid.patients, 1))
    columns = [images.scores[:, k : k + 1] for k in range(images.scores.shape[1])]
    rankings = [resampled_ranking(each, images.labels, images.patients, np.hstack([ones, draws])) for each in columns]
    areas, precisions = np.array([each[0] for each in rankings]), np.array([each[1] for each in rankings])
    losses = np.array(
        [resampled_means(each, images.patients, np.hstack([ones, draws])) for each in _log_losses(images, grid).T]
    )
    degrees = {"AUROC": images.degrees, "AP": images.degrees, "log loss": grid.patients - 1.0}
    for name, values in (("AUROC", areas), ("AP", precisions), ("log loss", losses)):
        measured = measured_by_resampling(values[:, 0], values[:, 1:])
        reported = images.measured if name == "AUROC" else measured
        yield name, compare_cells(reported, images.groups, degrees[name])
        means = measured.means(images.groups).values
        crossed = measured_by_resampling(means, crossed_resamples(values[:, 1:], images.groups, seed))
        yield f"{name}, bootstrap", compare_cells(crossed, np.arange(len(means)), degrees[name])


def _log_losses(images: Simulated, grid: Grid) -> NDArray[np.float64]:
    """Return the log loss of each image and model, with the probabilities that Bayes' rule gives a mean seed."""
    distance = np.sqrt(2) * ndtri(grid.areas[0])
    logits = distance * (images.scores - distance / 2) + np.log(grid.prevalence / (1 - grid.prevalence))
    return np.asarray(np.logaddexp(0, np.where(images.labels == 1, -logits, logits)))


def better_looking(spread: float, rounds: int, seed: int) -> list[tuple[float, float, int]]:
    """Return of neighbouring cells, in classes of P(not better): its mean, how many are not better, and their number.

    Six cells of three seeds, whose true AUROC are normal about 0.85 with the standard deviation `spread`.
    """
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(rounds):
        areas = np.clip(generator.normal(0.85, spread, 6), 0.6, 0.99)
        found = compared(simulate(Grid(tuple(areas), seed_sd=0.01), generator))
        for cell in range(5):
            at = found.index(cell, cell + 1)
            pairs.append((found.not_better[at], (areas[cell] - areas[cell + 1]) * np.sign(found.values[at]) <= 0))
    chances, wrong = np.array(pairs, dtype=float).T
    classes = itertools.pairwise((0, 0.01, 0.05, 0.1, 0.2, 0.51))
    masks = [(low <= chances) & (chances < high) for low, high in classes]
    return [(float(chances[mask].mean()), float(wrong[mask].mean()), int(mask.sum())) for mask in masks if mask.any()]


def print_equal_grids(rounds: int) -> None:
    """Print how often grids of equal cells are declared to differ."""
    print("## Grids of equal cells with any pair declared different, %\n")
    six = (0.85,) * 6
    mixed = tuple(np.random.default_rng(0).choice((0.005, 0.01, 0.02, 0.04), 30))
    grids = {
        **{f"6 cells, seed sd {sd}": Grid(six, seed_sd=sd) for sd in (0.0, 0.005, 0.01, 0.02, 0.04)},
        "AUROC 0.95, prevalence 0.2, seed sd 0.01": Grid((0.95,) * 6, seed_sd=0.01, prevalence=0.2),
        "30 patients, seed sd 0.02": Grid(six, seed_sd=0.02, patients=30),
        "300 patients, seed sd 0.02": Grid(six, seed_sd=0.02, patients=300),
        "2 seeds, seed sd 0.02": Grid(six, seeds=2, seed_sd=0.02),
        "5 seeds, seed sd 0.02": Grid(six, seeds=5, seed_sd=0.02),
        "one seed in ten collapses, seed sd 0.02": Grid(six, seed_sd=0.02, deviations=collapsing),
        "seed sd 0.01, of one cell 0.04": Grid(six, seed_sd=(0.01,) * 5 + (0.04,)),
        "seed sd 0.005 and 0.02, three cells each": Grid(six, seed_sd=(0.005,) * 3 + (0.02,) * 3),
        "30 cells, seed sd 0.005 to 0.04": Grid((0.85,) * 30, seed_sd=mixed),
        "2 cells, seed sd 0.01": Grid((0.85,) * 2, seed_sd=0.01),
        "2 cells, seed sd 0.04": Grid((0.85,) * 2, seed_sd=0.04),
        "2 cells, seed sd 0.01 and 0.04": Grid((0.85,) * 2, seed_sd=(0.01, 0.04)),
    }
    names = ("crossed", "patients only", "pooled", "pair's own", "factorial", "pairs")
    print_head(("grid", "crossed", "before: patients only", "pooled alone", "pair's own alone", "factorial", "pairs"))
    for seed, (name, grid) in enumerate(grids.items()):
        found = equal_grids(grid, rounds if len(grid.areas) < 30 else rounds // 4, seed, others=True)
        print_row(name, [f"{100 * found[each]:.1f}" for each in names])


def print_power(rounds: int) -> None:
    """Print how often true differences are found and what the formula said, and what was planned."""
    print("## True differences, %\n")
    heads = ("found", "formula", "mean of reports", "found by Holm", "before: patients only, Holm")
    print_head(("grid", "true difference", *heads))
    for cells, patients, gap, sd in itertools.product((2, 6), (100, 300), (0.02, 0.05), (0.0, 0.005, 0.01, 0.02)):
        grid = Grid((0.85 + gap, *(0.85,) * (cells - 1)), seed_sd=sd, patients=patients)
        found = power(grid, rounds, cells + patients)
        name = f"{cells} cells, {patients} patients, seed sd {sd}"
        print_row(name, [str(gap), *(f"{100 * found[each]:.1f}" for each in found)])
    print("\n## What was planned, two cells, from pilots of 3 seeds and 100 patients\n")
    print_head(("true difference", "seed sd", "found now", "seeds each", "found then", "patients", "found then"))
    for gap, sd in itertools.product((0.02, 0.05), (0.005, 0.01, 0.02)):
        found = planned(Grid((0.85 + gap, 0.85), seed_sd=sd), rounds, 1)
        seeds = f"{3 + found['seeds']:.0f}" if np.isfinite(found["seeds"]) else "no number"
        patients = f"{found['patients']:.0f}" if np.isfinite(found["patients"]) else "no number"
        then = [f"{100 * found[each]:.1f}" if each in found else "-" for each in ("with seeds", "with patients")]
        print_row(str(gap), [str(sd), f"{100 * found['now']:.1f}", seeds, then[0], patients, then[1]])


def print_coverage(rounds: int) -> None:
    """Print how many intervals hold the truth."""
    print(f"## Coverage of 95 % intervals, {RESAMPLES} resamples, %\n")
    print_head(("seeds", "seed sd", *COVERED))
    for seeds, sd in itertools.product((3, 5, 10), (0.0, 0.01, 0.02, 0.04)):
        found = coverage(Grid((0.85, 0.85), seeds=seeds, seed_sd=sd), rounds, seeds)
        print_row(str(seeds), [str(sd), *(f"{100 * found[name]:.1f}" for name in COVERED)])


COVERED = (
    *("AUROC", "AUROC, bootstrap", "AP", "AP, bootstrap", "log loss", "log loss, bootstrap"),
    *("cell's AUROC", "cell's AUROC, patients only"),
)
"""Intervals whose coverage is simulated."""


def print_head(names: Sequence[str]) -> None:
    """Print the head of a table in Markdown."""
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}", flush=True)


def print_row(name: str, texts: Sequence[str]) -> None:
    """Print a row of a table in Markdown."""
    print(f"| {name} | {' | '.join(texts)} |", flush=True)


def compare_seeds(folder: str, rounds: int) -> None:
    """Print how all pairs of trials of one config, which differ by seed only, are declared to differ."""
    records = [record for record in read_records(folder) if record.status == "complete"]
    if len({record.config.model_copy(update={"seed": 0, "name": ""}) for record in records}) != 1:
        raise SystemExit(f"{folder}: must have the trials of one config from several seeds")
    scores = [split_scores(read_predictions(folder, record.digest), "test", record) for record in records]
    areas = [auroc(each.scores, each.labels, each.patients) for each in scores if each]
    known = [each for each in areas if each]
    measured, one_cell = measured_auroc(known), np.zeros(len(known), np.int64)
    seeds = seed_variance(measured, one_cell)
    alone = compare_cells(measured, np.arange(len(known)), pair_degrees(known))
    pairs = len(alone.values)
    both = replace(
        alone,
        from_seeds=np.full(pairs, 2 * seeds.pooled),
        noise=np.full(pairs, 2 * seeds.noise[0]),
        seed_degrees=seeds.degrees,
    )
    values, errors = measured.values, np.sqrt(measured.variances)
    images, patients = (len(scores[0].labels) if scores[0] else 0), known[0].contributions.shape[1]
    print(f"{len(known)} seeds, {images} test images of {patients} patients")
    print(f"AUROC {values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}, sd {values.std(ddof=1):.4f}")
    print(f"sd over seeds {np.sqrt(seeds.pooled):.4f}, noise of these patients {np.sqrt(seeds.noise[0]):.4f}")
    print(f"standard error over patients: of one model {errors.mean():.4f}, ", end="")
    print(f"of a difference {np.sqrt(alone.from_patients).mean():.4f}")
    for name, found in (("patients only", alone), ("patients and seeds", both)):
        unadjusted, adjusted = int((found.p < SIGNIFICANCE).sum()), int(found.significant.sum())
        print(f"{name}: of {pairs} pairs {unadjusted} with p < {SIGNIFICANCE}, {adjusted} Holm-adjusted")
    print_partitions(known, rounds)


def print_partitions(models: Sequence[Auroc], rounds: int) -> None:
    """Print how often cells made of random seeds of one config are declared to differ."""
    generator = np.random.default_rng(0)
    for cells, size in ((2, 3), (6, 3), (2, 10), (4, 5)):
        if cells * size > len(models):
            continue
        declared = {"patients and seeds": 0, "patients only": 0}
        for _ in range(rounds):
            drawn = [models[at] for at in generator.permutation(len(models))[: cells * size]]
            images = Simulated(*(np.empty(0),) * 3, np.repeat(np.arange(cells), size), drawn)  # type: ignore[arg-type]
            found = compared(images)
            declared["patients and seeds"] += bool(found.significant.any())
            declared["patients only"] += bool(without_seeds(found).significant.any())
        texts = ", ".join(f"{name} {100 * count / rounds:.1f} %" for name, count in declared.items())
        print(f"{rounds:,} times {cells} cells of {size} of these seeds, any pair declared different: {texts}")


def main() -> None:
    """Print all tables, or those of records."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=1000, help="simulated grids of each setting")
    arguments.add_argument("--only", choices=PARTS, help="print one table")
    arguments.add_argument("--records", default="", help="records of one config trained from many seeds")
    given = arguments.parse_args()
    if given.records:
        compare_seeds(given.records, given.rounds)
        return
    for name in [given.only] if given.only else PARTS:
        PARTS[name](given.rounds)
        print()


def print_better_looking(rounds: int) -> None:
    """Print what P(not better) states and how often it is so."""
    print("## Probability that the better-looking of two neighbours is not better\n")
    print_head(("sd of the true AUROC", "stated", "observed", "pairs"))
    for spread in (0.01, 0.03, 0.1):
        for stated, observed, pairs in better_looking(spread, rounds, 0):
            print_row(str(spread), [f"{stated:.3f}", f"{observed:.3f}", str(pairs)])


def print_time(rounds: int) -> None:
    """Print what a report of 100 cells takes; `rounds` has no effect."""
    seconds = seconds_of_report(300, 10_000, 1000, seeds=3)
    print(f"100 cells of 3 seeds, 10,000 images of 1,000 patients: {seconds:.0f} s of one core")


PARTS = {
    "equal": print_equal_grids,
    "power": print_power,
    "coverage": print_coverage,
    "probability": print_better_looking,
    "time": print_time,
}
"""Name of a table -> what prints it."""


if __name__ == "__main__":
    main()
