"""Cameras watched live: frames → persons → sliding windows → the model → alarms.

sources → scene → alarm → sinks (alarm lines, outbox and webhook, pictures); ``watcher`` is the loop that joins them,
``verbs`` the command line, ``service`` the container's entry point for many cameras.
"""
