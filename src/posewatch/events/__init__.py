"""Alarms on whole videos, measured against what happened."""
