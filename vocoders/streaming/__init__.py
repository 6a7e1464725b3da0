"""A network evaluated piece by piece, in torch and in an exported graph; docs/streaming.md explains how."""
