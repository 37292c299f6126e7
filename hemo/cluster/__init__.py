"""Where the rooms meet Ray: sessions, conversion, curation, feeds, fitting, sweeps, prediction, tracking."""
