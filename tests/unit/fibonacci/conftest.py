"""Settings of the property tests."""

from hypothesis import settings

# No deadline for one example: a busy machine is not a wrong result.
settings.register_profile("turnkey", deadline=None)
settings.load_profile("turnkey")
