"""The stages, one file per pipeline component and named like it; every one reads and writes the object store.

    ingest → mask → split → pose ─┐
                     └→ label ────┴→ dataset → train → evaluate → export → publish → deploy → checks → report

``stages.<name>.<name>`` is a function from artifacts to an artifact; a finished artifact is found again by its prefix
and never computed twice. Beside the stages: ``contents`` reads their artifacts, ``per_video`` runs one job per video,
``capture`` ingests a camera's stream, ``train_distributed`` trains in several processes.
"""
