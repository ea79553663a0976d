"""Training a recogniser, and experiments of several seeds and folds."""
