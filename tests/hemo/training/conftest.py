"""Tests of this package use one thread of torch."""

from tests.one_thread import one_thread  # noqa: F401 (a fixture)
