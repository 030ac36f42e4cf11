"""The search for a job's best values: many trainings of one job, all parties on one machine."""
