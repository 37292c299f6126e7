"""A raw corpus to Parquet shards on Ray: the job, its tasks, and an estimate beforehand."""
