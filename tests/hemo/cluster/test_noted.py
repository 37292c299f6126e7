"""How far a trial is, beside its checkpoint."""

from hemo.cluster.noted import NotedReporter
from hemo.config.trial import TrainingConfig, TrialConfig
from hemo.study.progress import clear_progress, read_progress
from hemo.training.reporting import EpochFigures

TRIAL = TrialConfig(name="mine", training=TrainingConfig(epochs=7))


class Judge:
    """Stops a trial after its second epoch."""

    def epoch(self, figures):
        return figures.epoch < 2


def figures(epoch, loss):
    return EpochFigures(epoch, {"loss": 0.5}, {"loss": loss, "auroc": 0.75}, 1e-4, 2.0, 10.0)


def noted(out):
    return NotedReporter(Judge(), str(out), "d", TRIAL)


def test_each_epoch_is_noted_and_passed_on(tmp_path):
    reporter = noted(tmp_path)
    reporter.begin()
    begun = read_progress(str(tmp_path), "d")
    assert (begun.name, begun.epoch, begun.epochs, begun.best_val_loss) == ("mine", 0, 7, None)
    assert [reporter.epoch(figures(1, 0.25)), reporter.epoch(figures(2, 0.5))] == [True, False]
    found = read_progress(str(tmp_path), "d")
    assert (found.epoch, found.val, found.best_val_loss, found.seconds) == (2, {"loss": 0.5, "auroc": 0.75}, 0.25, 4.0)
    clear_progress(str(tmp_path), "d")
    assert read_progress(str(tmp_path), "d") is None


def test_a_resumed_trial_goes_on_and_one_that_begins_anew_does_not(tmp_path):
    noted(tmp_path).epoch(figures(1, 0.25))
    noted(tmp_path).epoch(figures(2, 0.5))
    found = read_progress(str(tmp_path), "d")
    assert (found.best_val_loss, found.seconds) == (0.25, 4.0)
    noted(tmp_path).epoch(figures(1, 0.75))  # its state was lost
    found = read_progress(str(tmp_path), "d")
    assert (found.epoch, found.best_val_loss, found.seconds) == (1, 0.75, 2.0)
