"""Log a trial to TensorBoard: curves, CPU, GPU and memory of the process, hyperparameters and final metrics."""

import resource
import time
from pathlib import Path
from typing import Any

import torch

from hemo.trials.record import TrialRecord


class TensorBoardTracker:
    """Event files in a folder."""

    def __init__(self, folder: Path, settings: dict[str, Any], device: str) -> None:
        """Open the event file and write the settings as text.

        Args:
            folder: Of the trial's event files.
            settings: By name; texts, numbers, truth values or lists.
            device: The trial's, as torch names it.
        """
        self._settings = {name: _shown(value) for name, value in settings.items()}
        from torch.utils.tensorboard import SummaryWriter  # of the extra `tensorboard`

        self._writer = SummaryWriter(str(folder))
        self._usage = ProcessUsage(device)
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._settings.items())
        self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")

    def log(self, values: dict[str, float], epoch: int) -> None:
        """Write scalars; `_timestamp` is when each was measured, for as a float32 it would be off by a minute."""
        scalars = {**values, **self._usage.since_last()}
        measured = scalars.pop("_timestamp")
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, epoch, walltime=measured)

    def conclude(self, record: TrialRecord, summary: dict[str, float | str]) -> None:
        """Write the trial's row of the table of trials (HPARAMS): its settings and metrics as columns."""
        metrics = {name: value for name, value in summary.items() if not isinstance(value, str)}
        settings = {**self._settings, "status": record.status}
        self._writer.add_hparams(settings, metrics, run_name=".", global_step=record.best_epoch)

    def close(self, *, failed: bool) -> None:
        """Flush and close."""
        self._writer.close()


def _shown(value: Any) -> str | float | bool:
    return value if isinstance(value, (str, int, float, bool)) else str(value)


class ProcessUsage:
    """CPU, GPU and memory use of this process since the last call."""

    def __init__(self, device: str) -> None:
        """Begin to measure; `device` as torch names it."""
        self._device = device if device.startswith("cuda") else ""
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def since_last(self) -> dict[str, float]:
        """Return CPU use (100: one core), the most memory so far, and the most GPU memory since the last call."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        usage = {
            "system/cpu_percent": 100 * (cpu_s - self._cpu_s) / max(wall_s - self._wall_s, 1e-9),
            "system/peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,  # Linux: in KiB
        }
        if self._device:
            usage["system/gpu_peak_memory_mb"] = torch.cuda.max_memory_allocated(self._device) / 1e6
            torch.cuda.reset_peak_memory_stats(self._device)
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return usage
