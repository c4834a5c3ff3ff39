"""Generated from protos/qc_adapter/v1; see `make proto`."""
