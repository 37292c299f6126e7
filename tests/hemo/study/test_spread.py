"""What the seed alone changes."""

from hemo.study.comparison import compared
from hemo.study.record import read_records
from hemo.study.spread import seed_spreads


def spreads(tmp_path):
    folder = str(tmp_path / "records")
    return seed_spreads(compared(read_records(folder), folder, samples=10, seed=0)[0])


def test_trials_that_differ_by_seed_alone_have_a_mean_and_ends(make_record, tmp_path):
    """Losses 0.2 and 0.4: mean 0.3, deviation 0.2 / sqrt(2); a backbone alone and a failed seed do not count."""
    for seed, loss in ((1, 0.2), (2, 0.4)):
        make_record({"seed": seed}, metrics={"val": {"loss": loss}, "test": {"accuracy": 1 - loss}})
    make_record({"seed": 3}, status="failed")
    make_record({"seed": 1, "model.backbone": "VGG16"})
    assert spreads(tmp_path) == [
        "resnet18: 2 seeds, mean (standard deviation; least to most): validation loss "
        "0.3000 (0.1414; 0.2000 to 0.4000), test accuracy 0.7000 (0.1414; 0.6000 to 0.8000)"
    ]


def test_nothing_is_said_without_two_seeds(make_record, tmp_path):
    make_record({}, status="failed")
    assert spreads(tmp_path) == []
