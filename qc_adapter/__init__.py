"""gRPC service for real-time quality control on a Huawei CC-Gateway."""
