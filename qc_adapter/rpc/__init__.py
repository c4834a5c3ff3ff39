"""The gRPC side: servicers, interceptors, error table, drain."""
