"""The table on the terminal."""

import io

from rich.console import Console

from hemo.curation.card import Count, Step, TrainingSetCard
from hemo.curation.counts import count_table


def count(rows: int, **formats: int) -> Count:
    return Count(rows=rows, patients=rows // 2, positives={"any": rows // 10}, pixel_formats=formats)


def test_each_step_and_each_split_is_a_column():
    steps = (
        Step(name="converted", removed=0, left=count(2000, u12=1500, i16=500)),
        Step(name="clean", removed=300, left=count(1700, u12=1700)),
    )
    card = TrainingSetCard(
        digest="d",
        inputs_digest="i",
        config={},
        image={},
        classes=("any",),
        channels=("brain",),
        dtype="uint8",
        height_px=2,
        width_px=2,
        split="by_image",
        splits={"train": count(1600, u12=1600), "val": count(100, u12=100)},
        steps=steps,
    )
    screen = Console(file=io.StringIO(), width=120)
    screen.print(count_table(card))
    lines = [line.split() for line in screen.file.getvalue().splitlines()]
    for line in (
        ["converted", "clean", "train", "val"],
        ["removed", "0", "300"],
        ["images", "2,000", "1,700", "1,600", "100"],
        ["patients", "1,000", "850", "800", "50"],
        ["any", "200", "170", "160", "10"],
        ["format", "i16", "500", "0", "0", "0"],
        ["format", "u12", "1,500", "1,700", "1,600", "100"],
    ):
        assert line in lines
    assert "by_image" in screen.file.getvalue()
