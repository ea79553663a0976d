"""Persons in images: masks and skeletons, by networks behind three interfaces."""
