"""How long `hemo watch` takes to look at a folder of records: at first, when nothing changed, and when a trial ended.

    python benchmarks/made_study.py runs/made_study --trials 100
    python benchmarks/bench_watch.py runs/made_study/records

The last look is after one more made-up trial was written there. Prints processor and wall time of each look, in s.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.made_study import write_trial
from hemo.config.report import WatchConfig
from hemo.curation.card import read_card
from hemo.reporting.live import LiveStudy
from hemo.reporting.page.data_set import read_data_set

LOOKS = 5


def main() -> None:
    """Print a line of times."""
    records = Path(sys.argv[1])
    study = LiveStudy(WatchConfig(records=str(records)))
    found = {"first": look(study), "unchanged": min(look(study) for _ in range(LOOKS))}
    folder = str(records.parent / "set")
    number = 1 + sum(path.is_dir() for path in records.iterdir())
    write_trial(records, number, read_data_set(folder).rows, read_card(folder).digest)
    found["one more trial"] = look(study)
    print(json.dumps({name: {"cpu_s": round(cpu, 3), "wall_s": round(wall, 3)} for name, (cpu, wall) in found.items()}))


def look(study: LiveStudy) -> tuple[float, float]:
    """Return processor and wall time of a look."""
    cpu, wall = time.process_time(), time.perf_counter()
    study.look()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
