"""Which files a calibration takes, and who gets them; needs no Ray."""

import pytest

from hemo.cluster.convert.plan import RUN_FILES, take_sample
from hemo.corpus.source_file import SourceFile
from hemo.errors import SourceError


def corpus(count: int) -> list[SourceFile]:
    return [SourceFile(f"ID_{number:06d}.dcm", 100, "1") for number in range(count)]


def numbers(files) -> list[int]:
    return [int(file.path[3:9]) for file in files]


def test_a_sample_is_spread_over_the_whole_listing_in_short_runs():
    """64 of 6,400 files: 8 runs of 8, one every 800; the first and the fifth are read only, the rest cut into units."""
    sample = take_sample(corpus(6400), cpus=1, files_per_cpu=64)
    assert RUN_FILES == 8
    assert [numbers(share) for share in sample.read] == [[*range(8), *range(3200, 3208)]]
    (units,) = sample.converted
    starts = [[number for number in numbers(unit.files) if number % 8 == 0] for unit in units]
    assert starts == [[800, 4800], [1600, 5600], [2400], [4000]]


def test_no_file_is_taken_twice_and_all_cpus_get_about_the_same():
    sample = take_sample(corpus(50_000), cpus=4, files_per_cpu=512)
    taken = [file for share in sample.read for file in share]
    taken += [file for units in sample.converted for unit in units for file in unit.files]
    assert len(taken) == len({file.path for file in taken}) == 4 * 512
    assert [sum(len(unit.files) for unit in units) for units in sample.converted] == [384] * 4
    assert [len(share) for share in sample.read] == [128] * 4
    assert sorted(unit.number for units in sample.converted for unit in units) == list(range(16))


def test_the_first_tasks_convert_one_file_each():
    sample = take_sample(corpus(5000), cpus=2, files_per_cpu=256)
    assert [len(unit.files) for unit in sample.first] == [1, 1]


@pytest.mark.parametrize("count", [2, 3, 7, 20, 100])
def test_a_small_corpus_is_measured_as_a_whole(count):
    sample = take_sample(corpus(count), cpus=2, files_per_cpu=1024)
    read = [number for share in sample.read for number in numbers(share)]
    converted = [number for units in sample.converted for unit in units for number in numbers(unit.files)]
    assert sorted(read + converted) == list(range(count))
    assert read
    assert converted


def test_one_file_is_too_few():
    with pytest.raises(SourceError, match="holds one file, too few to measure anything; `hemo convert` it"):
        take_sample(corpus(1), cpus=2, files_per_cpu=64)
