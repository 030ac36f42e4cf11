"""What a job trains in place of a network: see `isthmus.jobs.learners`."""
