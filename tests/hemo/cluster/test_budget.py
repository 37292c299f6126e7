"""Time in which trials may begin."""

import time

from hemo.cluster.budget import Budget


def test_the_span_begins_with_the_first_question(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    budget = Budget(60)
    clock[0] = 500.0  # the training set was loaded meanwhile
    assert not budget.is_over()
    clock[0] = 559.0
    assert not budget.is_over()
    clock[0] = 560.0
    assert budget.is_over()


def test_without_a_limit_it_is_never_over():
    assert not Budget().is_over()
