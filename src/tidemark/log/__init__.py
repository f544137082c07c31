"""The log: streams and subjects, publish and consume (NATS JetStream)."""
