"""Where alarms go."""
