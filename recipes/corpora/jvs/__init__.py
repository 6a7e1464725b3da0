"""JVS: a hundred Japanese speakers."""
