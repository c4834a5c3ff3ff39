"""One inspection command, from the request value to its outcome."""
