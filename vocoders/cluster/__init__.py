"""Work on a Ray cluster: connection, worker pool, files by URL (extra "ray")."""
