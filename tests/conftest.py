"""What every test may use, and how much Hypothesis tries."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from programs import require

__all__ = ["require"]

# The suite tries the same examples each time, and no machine is too slow for it. Tests marked
# `soak` say how many they try, and look for new ones.
settings.register_profile(
    "suite",
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
