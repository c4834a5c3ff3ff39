"""Property tests run the same cases each time: a failure of one run is a failure of every run."""

from hypothesis import settings

settings.register_profile("bounded", max_examples=60, deadline=None, derandomize=True, database=None)
settings.load_profile("bounded")
