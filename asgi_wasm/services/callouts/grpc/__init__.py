"""gRPC calls and streams of plugins (extra ``grpc``)."""
