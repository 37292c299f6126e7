"""The jobs on Ray: sessions, conversion, curation, feeds, training, sweeps, prediction, tracking."""
