"""Alarms as records: ``recorder`` (a sink) writes them to the ``spool`` on disk while they go on, ``upload`` stores
them in the object store from there and deletes old ones."""
