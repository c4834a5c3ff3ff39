"""A faithful CC-Gateway that anyone can run. It shares no code with the adapter it tests."""
