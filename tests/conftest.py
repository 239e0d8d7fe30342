"""What all tests share."""

from hypothesis import settings

# A slow example on a busy machine says nothing about the code: time is measured by benchmarks.
settings.register_profile("openegress", deadline=None)
settings.load_profile("openegress")
