"""Where alarms, windows and frames go: one file per sink, one row per sink in ``table``.

Messages for a receiver elsewhere (a webhook) are queued on disk by ``outbox`` and sent by ``delivery`` through a
transport; a transport is one file and one row in ``table`` as well.
"""
