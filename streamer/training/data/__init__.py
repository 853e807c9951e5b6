"""The articulation network's training set: corpora, phones, ground truth."""
