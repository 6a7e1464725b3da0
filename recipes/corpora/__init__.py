"""One folder for each corpus: corpus.yaml for training, prepare.py to get it and write its lists."""
