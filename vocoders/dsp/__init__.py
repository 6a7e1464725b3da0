"""Signal processing: mel configs, transforms and sources."""
