"""The table on the terminal."""

import io

from rich.console import Console

from hemo.curation.card import Count, Step, TrainingSetCard
from hemo.curation.counts import count_table


def count(rows: int, **formats: int) -> Count:
    return Count(rows=rows, patients=rows // 2, positives={"any": rows // 10}, pixel_formats=formats)


def test_each_step_and_each_split_is_a_row():
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
    lines = [line.replace("│", " ").split() for line in screen.file.getvalue().splitlines()]
    assert ["converted", "0", "2,000", "1,000", "200", "500", "1,500"] in lines
    assert ["clean", "300", "1,700", "850", "170", "0", "1,700"] in lines
    assert ["train", "1,600", "800", "160", "0", "1,600"] in lines
    assert "by_image" in screen.file.getvalue()
