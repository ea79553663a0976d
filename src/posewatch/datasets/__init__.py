"""Labelled clips as files: pyskl annotations, intervals, joint layouts, and splits that keep subjects apart."""
