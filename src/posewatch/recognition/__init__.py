"""Skeleton clips in, a recogniser out: data, features, networks, training and evaluation."""
