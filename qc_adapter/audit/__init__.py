"""The record of what was done, by whom: one line for each command and session change, chained so that changes show."""
