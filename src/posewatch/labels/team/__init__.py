"""Who labels: identity, roles, agreement, statistics, audit."""
