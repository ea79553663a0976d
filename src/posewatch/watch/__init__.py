"""Cameras watched live: frames -> tracked people -> sliding windows -> the model -> alarms -> sinks.

``watcher`` is the loop over the frames of one source; ``sinks`` is where alarms and annotated videos go; ``service``
runs one watcher process per camera.
"""
