"""The stages, one file each, in the order in which a clip meets them; every one reads and writes the object store.

    ingest → mask → split → pose ─┐
                     └→ label ────┴→ dataset → train → evaluate → export → publish → deploy → serve checks → report

A stage is a function from artifacts to an artifact. Finished work is found again by its prefix and never redone.
"""
