"""Work on a Ray cluster: the connection, a pool of workers, files by URL. Needs the extra "ray"."""
