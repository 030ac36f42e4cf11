"""Jobs: the job file, the steps, the runner, artefacts and the report."""
