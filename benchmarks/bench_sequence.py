"""How fast a sequence model learns from embeddings of whole studies, and how long the RSNA corpus would take.

    python benchmarks/bench_sequence.py --networks 'BiGRU(256,256)' 'Transformer(256,256)'

Needs neither Ray nor a corpus: vectors and probabilities are noise, as many numbers as `hemo embed` stores of a trained
`--encoder` with the six classes, and studies have 35 slices on average, as head CT has. What is timed is what
`hemo plan --series` times: an epoch of the training loop and its validation, on a GPU if there is one, else on
`--threads` CPU threads. Reading the vectors, which a trial does once, is not in it.

Prints, for each network, slices trained and evaluated in a second, and the hours of the training steps of
`conf/train/rsna_series.yaml`: its epochs over 80 % of the slices of RSNA's training set.
"""

import argparse
from pathlib import Path

import torch

from hemo.config.load import read_yaml
from hemo.config.trial import ModelConfig, TrialConfig
from hemo.config.tune import TrainConfig
from hemo.config.validation import validated
from hemo.training.distributed import Worker
from hemo.trials.speed import sequence_speed

RSNA_SLICES, SLICES_PER_STUDY = 752_803, 35
TRAINED = 0.8
SHAPE = (3, 256, 256)
CONF = Path(__file__).parents[1] / "conf/train/rsna_series.yaml"


def main() -> None:
    """Time each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["BiGRU(256,256)", "Transformer(256,256)"])
    parser.add_argument("--encoder", default="tf_efficientnet_lite0", help="backbone whose vectors are read")
    parser.add_argument("--enough_s", type=float, default=10, help="an epoch that takes so long is enough")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    worker = Worker(device="cuda" if torch.cuda.is_available() else "cpu", threads=given.threads)
    trial = validated(TrainConfig, read_yaml(str(CONF)), origin=str(CONF)).trial
    slices = TrialConfig(task="multi_label", model=ModelConfig(backbone=given.encoder))
    options = {"shape": SHAPE, "slices_per_study": SLICES_PER_STUDY, "worker": worker, "enough_s": given.enough_s}
    print(f"torch {torch.__version__}, vectors of {given.encoder} and six probabilities\n")
    print(f"| network | device | slices/s trained | evaluated | {trial.training.epochs} epochs of RSNA (h) |")
    print("| --- | --- | --- | --- | --- |")
    for network in given.networks:
        model = trial.model.model_copy(update={"backbone": network})
        speed = sequence_speed(trial.model_copy(update={"model": model}), slices, **options)
        hours = trial.training.epochs * TRAINED * RSNA_SLICES / speed.trained_per_s / 3600
        rates = f"{speed.trained_per_s:,.0f} | {speed.evaluated_per_s:,.0f} | {hours:.2f}"
        print(f"| {network} | {speed.hardware} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
