"""Persons in pictures: masks and skeletons, by networks behind three ports."""
