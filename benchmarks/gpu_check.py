"""What hemo does on one CUDA GPU: tests, speed of training and of inference, a profile, memory. Needs no Ray.

    python benchmarks/gpu_check.py --out gpu.json --points tests step profile backbones trials inference memory

    tests       the tests of training and inference on CUDA: counts of passed and failed
    step        ResNet50 at 224 px, bf16, channels-last, compiled and not: images/s on a batch that lies on the device,
                from the resident and from the streamed feed, and from `fit` itself
    profile     one epoch of training steps: part of the time that the GPU spends on each phase of a step, and idle
    backbones   each of the sources' backbones at 224 px: largest batch that fits, images/s, memory, first step
    trials      1, 2 and 4 trials at 64 px that share the GPU, each in a process: images/s of all together
    inference   latency and images/s of a checkpoint's model at 1, 8 and 64 images, and of Grad-CAM
    memory      a batch that does not fit, and the smaller one that the error names

Prints a table a point and writes all figures as JSON. Images are smooth noise, weights random.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_step import Bench, made_set, measured
from made_training_set import smooth_images
from torch.profiler import ProfilerActivity, profile, record_function

from hemo.config.trial import AugmentConfig, ModelConfig, TrainingConfig, TrialConfig
from hemo.errors import TrialError
from hemo.inference.explain import heat_maps
from hemo.inference.predict import DeployedModel
from hemo.models.backbones import SOURCES_BACKBONES
from hemo.models.checkpoint import CheckpointCard, load_checkpoint, write_checkpoint
from hemo.models.classifier import build_model, mixed_precision, normalise, to_unit_range
from hemo.training.data.dataset import read_training_set, select_splits
from hemo.training.data.examples import Splits
from hemo.training.distributed import Worker
from hemo.training.loop import fit, largest_batch_size
from hemo.training.reporting import run_to_end

CUDA = Worker(device="cuda", threads=4)
Row = dict[str, Any]

PHASES = ("images", "forward", "loss", "backward", "optimizer")


def main() -> None:
    """Run the points asked for, each whatever becomes of the others; print and write their figures."""
    given = arguments().parse_args()
    if given.trial_process:
        trial_process(Path(given.trial_process), given.seconds)
        return
    machine = {
        "card": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(json.dumps(machine), flush=True)
    found: dict[str, Any] = {"machine": machine}
    with tempfile.TemporaryDirectory(prefix="hemo-gpu-") as scratch:
        for point in given.points:
            began = time.perf_counter()
            try:
                rows = POINTS[point](Path(scratch), given)
            except Exception as error:  # the other points are still wanted
                rows = [{"error": f"{type(error).__name__}: {error}"}]
            found[point] = {"seconds": round(time.perf_counter() - began, 1), "rows": rows}
            print_table(f"{point} ({found[point]['seconds']} s)", rows)
            Path(given.out).write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.ArgumentParser:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", nargs="+", default=list(POINTS), choices=list(POINTS))
    parser.add_argument("--out", default="gpu.json")
    parser.add_argument("--images", type=int, default=12_288, help="of the training set of `step` and `profile`")
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--side_px", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="how long `trials` counts images")
    parser.add_argument("--trial_process", default="", help=argparse.SUPPRESS)
    return parser


def print_table(title: str, rows: list[Row]) -> None:
    """Print rows of the same keys as a Markdown table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n### {title}\n\n| {' | '.join(keys)} |\n|{' --- |' * len(keys)}")
    for row in rows:
        print("|", " | ".join(shown(row.get(key, "")) for key in keys), "|", flush=True)


def shown(value: Any) -> str:
    """Return a cell: numbers with four digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def cuda_tests(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Run the tests that need CUDA in a process of their own."""
    tests = next(Path(__file__).parents[1].joinpath("tests").rglob("test_cuda.py"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "addopts=--import-mode=importlib",
        "-W",
        "default",
        str(tests),
    ]
    done = subprocess.run(
        [*command, "--timeout=240"], cwd=tests.parents[3], capture_output=True, text=True, check=False
    )
    print(done.stdout[-6_000:], done.stderr[-500:])
    counts = re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout.splitlines()[-1] if done.stdout else "")
    failed = re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", done.stdout, flags=re.MULTILINE)
    return [{**{name: int(count) for count, name in counts}, "exit": done.returncode, "which": ", ".join(failed)}]


def splits_of(training_set: str, config: TrialConfig, *, streaming: bool = False) -> Splits:
    """Read a training set for a trial."""
    return select_splits(read_training_set(training_set, streaming=streaming), config)


def trial(backbone: str, batch_size: int, *, compiled: bool = False, epochs: int = 1) -> TrialConfig:
    """Return a trial with random weights and flips."""
    return TrialConfig(
        model=ModelConfig(backbone=backbone),
        training=TrainingConfig(batch_size=batch_size, compile=compiled, epochs=epochs),
        augment=AugmentConfig(horizontal_flip=0.5),
    )


def step(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Compare batches on the device, the feeds, and `fit`."""
    training_set = made_set(scratch / "set", given.side_px, given.images)
    rows = []
    for compiled in (False, True):
        config = trial("ResNet50", given.batch_size, compiled=compiled, epochs=3)
        for feed in ("resident", "streaming"):
            splits = splits_of(training_set, config, streaming=feed == "streaming")
            began = time.perf_counter()
            bench = Bench.begun(config, splits.train, torch.device("cuda"))
            synthetic, fed, ratio = (float(cell.replace(",", "")) for cell in measured(bench, given.rounds).split("|"))
            begun = time.perf_counter() - began
            result = run_to_end(fit(config, splits, worker=CUDA, state_path=str(scratch / f"{time.time()}")))
            last = result.epochs[-1]
            rows.append(
                {
                    "compile": compiled,
                    "feed": feed,
                    "synthetic img/s": synthetic,
                    "fed img/s": fed,
                    "fed / synthetic": ratio,
                    "fit img/s": last.images_per_second,
                    "fit: first batch s": last.first_batch_seconds,
                    "fit: waiting s": last.data_wait_seconds,
                    "bench s": begun,
                }
            )
            torch.cuda.empty_cache()
    return rows


def profiled(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Return the part of the wall time of an epoch that the GPU works for each phase of a step, and that it idles."""
    training_set = made_set(scratch / "set", given.side_px, given.images)
    config = trial("ResNet50", given.batch_size)
    rows = []
    for cudnn in ("as it is", "benchmark", "deterministic"):
        with cudnn_setting(cudnn):
            bench = Bench.begun(config, splits_of(training_set, config).train, torch.device("cuda"))
            bench.images_per_second(lambda bench=bench: bench.fed(1))
            rate = max(bench.images_per_second(lambda bench=bench, epoch=epoch: bench.fed(epoch)) for epoch in (2, 3))
            activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
            with profile(activities=activities) as recorded, record_function("epoch"):
                marked_epoch(bench)
            trace = scratch / "trace.json"
            recorded.export_chrome_trace(str(trace))
            rows.append({"cudnn": cudnn, "img/s, not profiled": rate, **shares_of_epoch(json.loads(trace.read_text()))})
            del bench
            torch.cuda.empty_cache()
    return rows


@contextmanager
def cudnn_setting(name: str) -> Iterator[None]:
    """Let cuDNN try its algorithms, or use deterministic ones only."""
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = name == "benchmark", name == "deterministic"
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, False


def marked_epoch(bench: Bench) -> None:
    """Take the steps of one epoch, each phase marked."""
    batches = iter(bench.fed(1))
    while True:
        with record_function("images"):
            batch = next(batches, None)
        if batch is None:
            break
        images, targets = batch
        with record_function("forward"), mixed_precision(bench.device):
            logits = bench.forward(images)
        with record_function("loss"):
            loss = bench.loss(logits, targets).mean()
        with record_function("backward"):
            bench.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with record_function("optimizer"):
            bench.optimizer.step()
    torch.cuda.synchronize()


def shares_of_epoch(trace: dict[str, Any]) -> Row:
    """Return percentages of an epoch's wall time from a profiler's trace.

    A kernel belongs to the phase during which the CPU launched it; copies from the host run beside the kernels.
    """
    events = [event for event in trace["traceEvents"] if event.get("ph") == "X"]
    marks = [event for event in events if event.get("cat") == "user_annotation"]
    (epoch,) = (event for event in marks if event["name"] == "epoch")
    phases = sorted(
        (event["ts"], event["ts"] + event["dur"], event["name"]) for event in marks if event["name"] in PHASES
    )
    starts = np.array([start for start, _, _ in phases])
    launched = {
        event["args"]["correlation"]: event["ts"]
        for event in events
        if event.get("cat") in ("cuda_runtime", "cuda_driver") and "correlation" in event.get("args", {})
    }
    busy = dict.fromkeys([*PHASES, "copy to the device"], 0.0)
    intervals = []
    for event in events:
        if event.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset"):
            continue
        if "HtoD" in event["name"]:
            busy["copy to the device"] += event["dur"]
            continue
        intervals.append((event["ts"], event["ts"] + event["dur"]))
        place = int(np.searchsorted(starts, launched.get(event["args"]["correlation"], event["ts"]), side="right")) - 1
        busy[phases[max(place, 0)][2]] += event["dur"]
    wall = epoch["dur"]
    shares = {f"{name} %": 100 * value / wall for name, value in busy.items()}
    return {"wall s": wall / 1e6, **shares, "idle %": 100 * (1 - union(intervals) / wall)}


def union(intervals: list[tuple[float, float]]) -> float:
    """Return the time covered by intervals that may overlap."""
    covered, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered


def backbones(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Take steps of each backbone with the largest batch, halved from 1,024, that fits."""
    training_set = made_set(scratch / "few", given.side_px, 64)
    rows = []
    for backbone in SOURCES_BACKBONES:
        config = trial(backbone, 64)
        splits = splits_of(training_set, config)
        torch.cuda.reset_peak_memory_stats()
        largest = largest_batch_size(config, splits, CUDA, at_most=1_024)
        for batch_size in dict.fromkeys((32, 256, largest)):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            bench = Bench.begun(config, splits.train, torch.device("cuda"))
            pixels = torch.randint(
                0, 256, (batch_size, 3, given.side_px, given.side_px), dtype=torch.uint8, device="cuda"
            )
            targets = torch.ones(batch_size, 1, device="cuda")
            batch = (normalise(to_unit_range(pixels), bench.batches.normalisation), targets)
            began = time.perf_counter()
            bench.images_per_second(lambda batch=batch: [batch])
            first = time.perf_counter() - began
            steps = max(4, 4_096 // batch_size)
            rate = max(bench.images_per_second(lambda batch=batch, steps=steps: [batch] * steps) for _ in range(3))
            rows.append(
                {
                    "backbone": backbone,
                    "batch": batch_size,
                    "largest": batch_size == largest,
                    "img/s": rate,
                    "peak GB": torch.cuda.max_memory_allocated() / 1e9,
                    "first step s": first,
                }
            )
            del bench, pixels, batch
    return rows


def trials(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Count the images of trials that train at the same time, each in a process of its own."""
    made_set(scratch / "small", 64, 2_048)
    rows: list[Row] = []
    for count in (1, 2, 4):
        start = scratch / f"start-{count}"
        command = [sys.executable, __file__, "--trial_process", str(start), "--seconds", str(given.seconds)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        while len(list(scratch.glob(f"start-{count}.ready-*"))) < count and all(
            one.poll() is None for one in processes
        ):
            time.sleep(0.1)
        start.touch()
        rates = [float(process.communicate(timeout=120)[0].split()[-1]) for process in processes]
        alone = rows[0]["img/s of all"] if rows else sum(rates)
        rows.append({"trials": count, "img/s of all": sum(rates), "of one alone": sum(rates) / alone})
    return rows


def trial_process(start: Path, seconds: float) -> None:
    """Train ResNet50 at 64 px in batches of 32, from the moment that `start` exists; print images/s."""
    config = trial("ResNet50", 32)
    splits = splits_of(str(start.parent / "small"), config)
    bench = Bench.begun(config, splits.train, torch.device("cuda"))
    bench.images_per_second(lambda: bench.fed(1))
    start.with_name(f"{start.name}.ready-{time.time_ns()}").touch()
    while not start.exists():
        time.sleep(0.01)
    began, images, epoch = time.perf_counter(), 0, 2
    while time.perf_counter() - began < seconds:
        bench.images_per_second(lambda epoch=epoch: bench.fed(epoch))
        images, epoch = images + len(splits.train), epoch + 1
    print(images / (time.perf_counter() - began))


def inference(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Time a ResNet50 checkpoint: probabilities of 1, 8 and 64 images at once, in torch and ONNX Runtime; heat maps."""
    config = ModelConfig(backbone="ResNet50")
    sides_px = (given.side_px, given.side_px)
    model = build_model(config, channels=3, sides_px=sides_px, classes=6).eval()
    card = CheckpointCard(
        model=config,
        task="multi_label",
        classes=("any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"),
        channels=("brain", "subdural", "soft"),
        image={},
        height_px=given.side_px,
        width_px=given.side_px,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        thresholds=(0.5,) * 6,
        training_set="made",
    )
    write_checkpoint(str(scratch / "checkpoint"), model, card)
    images = smooth_images(64, given.side_px)
    rows = []
    for batch_size in (1, 8, 64):
        deployed = DeployedModel(*load_checkpoint(str(scratch / "checkpoint")), device="cuda", batch_size=batch_size)
        seconds = median_seconds(lambda deployed=deployed, size=batch_size: deployed.predict(images[:size]))
        rows.append({"what": "torch, bf16", "images": batch_size, "ms": 1_000 * seconds, "img/s": batch_size / seconds})
    rows += [{"what": "ONNX Runtime, CUDA", "images": "", "ms": "", "img/s": onnx_on_cuda()}]
    for batch_size in (1, 64):
        on_device = model.cuda()
        seconds = median_seconds(
            lambda size=batch_size, on_device=on_device: heat_maps(on_device, card, images[:size], 0)
        )
        rows.append({"what": "Grad-CAM", "images": batch_size, "ms": 1_000 * seconds, "img/s": batch_size / seconds})
    return rows


def onnx_on_cuda() -> str:
    """Tell whether this machine's ONNX Runtime was built for CUDA."""
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    return "there" if "CUDAExecutionProvider" in providers else f"not here: {onnxruntime.__version__} has {providers}"


def median_seconds(call: Callable[[], object]) -> float:
    """Return the median time of 20 calls after 5."""
    taken = []
    for _ in range(25):
        began = time.perf_counter()
        call()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[5:]))


def memory(scratch: Path, given: argparse.Namespace) -> list[Row]:
    """Train with a batch that is too large, then with the one that the error names."""
    training_set = made_set(scratch / "large", given.side_px, 2_048)
    config = trial("ResNet50", 2_048)
    splits = splits_of(training_set, config)
    try:
        run_to_end(fit(config, splits, worker=CUDA, state_path=str(scratch / "state-large.pt")))
    except TrialError as error:
        message = str(error)
    named = int(message.split("try batch_size ")[1].split(",")[0])
    smaller = config.model_copy(update={"training": TrainingConfig(batch_size=named, epochs=1)})
    result = run_to_end(fit(smaller, splits, worker=CUDA, state_path=str(scratch / "state-small.pt")))
    return [{"message": message, "named": named, "img/s with it": result.epochs[-1].images_per_second}]


POINTS: dict[str, Callable[[Path, argparse.Namespace], list[Row]]] = {
    "tests": cuda_tests,
    "step": step,
    "profile": profiled,
    "backbones": backbones,
    "trials": trials,
    "inference": inference,
    "memory": memory,
}

if __name__ == "__main__":
    main()
