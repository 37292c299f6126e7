"""One of two processes that train together: `python fit_of_two.py FOLDER TRIAL RANK [DEVICE]` prints its losses."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from hemo.config.trial import TrialConfig
from hemo.training.data.dataset import select_splits
from hemo.training.distributed import Worker
from hemo.training.loop import fit
from hemo.training.reporting import run_to_end
from hemo.trials.run import trial_data


def main(folder: Path, trial: str, rank: int, device: str) -> None:
    """Train on the set in `folder` together with the other process, met at a file there; both may share a device."""
    torch.set_num_threads(1)
    meeting, patience = f"file://{folder / 'store'}", timedelta(seconds=60)  # with one that died no test should hang
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=patience)
    config = TrialConfig.model_validate_json(trial)
    splits = select_splits(trial_data(config, str(folder / "set"), None), config)
    worker, state = Worker(rank=rank, count=2, device=device), str(folder / "state-of-two.pt")
    result = run_to_end(fit(config, splits, worker=worker, state_path=state))
    sys.stdout.write(json.dumps([figures.val["loss"] for figures in result.epochs]) + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *(sys.argv[4:] or ["cpu"]))
