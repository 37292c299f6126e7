"""How fast a sequence model learns from embeddings of whole studies, and how long the RSNA corpus would take.

    python benchmarks/bench_series.py --networks 'BiGRU(256,256)' 'Transformer(256,256)'

Needs neither Ray nor a corpus: vectors are noise, studies have `LENGTHS` slices, as head CT has. A step is forward, log
loss over slices and studies, backward and AdamW, on a GPU if there is one, else on `--threads` CPU threads. Reading the
vectors, which a trial does once, is not in it.

Prints, for each network, the median step of `--steps` and the hours of `conf/train/rsna_series.yaml`: its epochs over
80 % of the slices of RSNA's training set.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torch.nn import functional

from hemo.config.trial import ModelConfig, SeriesConfig
from hemo.models.series import PACKED_COLUMNS, POSITION_MM, SERIES, SLICE_SLOT, STUDY, STUDY_SLOT, build_series_model

RSNA_SLICES, CLASSES = 752_803, 6
TRAINED = 0.8
LENGTHS = (24, 46)
"""Slices of a study, evenly spread: 35 on average, as 752,803 slices of 21,744 studies."""
CONF = Path(__file__).parents[1] / "conf/train/rsna_series.yaml"


def main() -> None:
    """Time each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["BiGRU(256,256)", "Transformer(256,256)"])
    parser.add_argument("--dimension", type=int, default=1_280, help="numbers of an embedding")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = yaml.safe_load(CONF.read_text())["trial"]["training"]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {given.threads} threads"
    print(f"{where}, torch {torch.__version__}, steps of {training['batch_size']} studies, {given.dimension} numbers\n")
    print(f"| network | parameters | step (s) | slices/s | {training['epochs']} epochs of RSNA (h) |")
    print("| --- | --- | --- | --- | --- |")
    for network in given.networks:
        packed = packed_studies(training["batch_size"], given.dimension).to(device)
        parameters, step_s = timed(network, packed, given.steps)
        rate = len(packed) / step_s
        hours = training["epochs"] * TRAINED * RSNA_SLICES / rate / 3600
        print(f"| {network} | {parameters:,} | {step_s:.3f} | {rate:,.0f} | {hours:.2f} |", flush=True)


def packed_studies(count: int, dimension: int) -> Tensor:
    """Return studies of one series each, (slices, PACKED_COLUMNS + dimension); every slice and study has a slot."""
    lengths = torch.linspace(*LENGTHS, count).round().long()
    study = torch.repeat_interleave(torch.arange(count), lengths)
    packed = torch.randn(len(study), PACKED_COLUMNS + dimension, generator=torch.Generator().manual_seed(0))
    packed[:, STUDY] = packed[:, SERIES] = study.float()
    packed[:, POSITION_MM] = 5.0 * torch.cat([torch.arange(int(length)) for length in lengths])
    packed[:, SLICE_SLOT] = torch.arange(len(study)).float()
    packed[:, STUDY_SLOT] = len(study) + study.float()
    return packed


def timed(network: str, packed: Tensor, steps: int) -> tuple[int, float]:
    """Return the network's parameters and the median seconds of a step."""
    torch.manual_seed(0)
    config = ModelConfig(backbone=network, dropout=0.3, series=SeriesConfig(embeddings="noise"))
    dimension = packed.shape[1] - PACKED_COLUMNS
    model = build_series_model(config, dimension=dimension, classes=CLASSES).to(packed.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    slots = len(packed) + int(packed[-1, STUDY]) + 1
    labels = (torch.rand(slots, CLASSES, device=packed.device) < 0.14).float()
    seconds = []
    for _ in range(steps + 2):  # the first two warm up
        began = time.perf_counter()
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(packed), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if packed.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return sum(value.numel() for value in model.parameters()), statistics.median(seconds[2:])


if __name__ == "__main__":
    main()
