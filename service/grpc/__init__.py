"""gRPC beside HTTP: the Open Inference Protocol, TensorFlow Serving and the standard health checks on one port."""
