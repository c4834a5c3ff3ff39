"""Redis as the adapter uses it: how it is reached, what the keys are called, how commands are sent."""
