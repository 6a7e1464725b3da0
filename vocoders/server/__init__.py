"""The server of ``vocoders serve``; docs/architecture.md follows a request through these files."""
