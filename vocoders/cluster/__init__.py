"""Work on the machines of a Ray cluster: the connection, a pool of workers, files by URL. Needs the extra "ray"."""
