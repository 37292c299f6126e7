"""What each job is told: one small module a job."""
