"""What channels-last in memory is worth on the CPU: a training step and a forward pass of models in both layouts.

    python benchmarks/bench_layout.py --threads 2

Batches of 32 images of noise, three channels, float32, Adam; each is the least of five, since the machine is shared.
"""

import argparse
import time
from collections.abc import Callable

import timm
import torch

MODELS = (
    ("resnet18", 64),
    ("resnet18", 160),
    ("resnet50", 64),
    ("resnet50", 160),
    ("tf_efficientnet_lite0", 64),
    ("tf_efficientnet_lite0", 160),
    ("tf_efficientnet_lite0", 224),
    ("mobilenetv1_100", 160),
    ("mobilenetv3_small_100", 64),
    ("densenet121", 64),
    ("densenet121", 160),
    ("convnext_atto", 160),
    ("vit_tiny_patch16_224", 224),
)
REPEATS = 5


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads\n")
    print("| model | side (px) | step (s) | channels-last | ratio | forward (s) | channels-last | ratio |")
    print("| --- " * 8 + "|")
    for name, side_px in MODELS:
        plain, last = (seconds(name, side_px, layout) for layout in (torch.contiguous_format, torch.channels_last))
        columns = (f"{a:.3f} | {b:.3f} | {a / b:.2f}" for a, b in zip(plain, last, strict=True))
        print(f"| {name} | {side_px} | {' | '.join(columns)} |", flush=True)


def seconds(name: str, side_px: int, layout: torch.memory_format) -> tuple[float, float]:
    """Return the time of a training step and of a forward pass in evaluation."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=1).train().to(memory_format=layout)
    images = torch.randn(32, 3, side_px, side_px)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()

    training = least(step)
    model.eval()
    with torch.no_grad():
        return training, least(lambda: model(images))


def least(work: Callable[[], object]) -> float:
    """Return the least time of several runs."""
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


if __name__ == "__main__":
    main()
