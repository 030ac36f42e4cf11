"""What holds for all tests: how long an example takes on a busy machine is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("isthmus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isthmus")
