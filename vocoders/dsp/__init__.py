"""Signal processing: mel configs, transforms and sources. Nothing here is learned."""
