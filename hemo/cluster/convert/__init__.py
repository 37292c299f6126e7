"""A corpus to shards on Ray: the job, its tasks, and an estimate beforehand."""
