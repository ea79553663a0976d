"""What `helm test` runs, in the labeling image: does everything that this release consists of answer?

Told by POSEWATCH_CHECK, a JSON list of parts: {"page": URL}, {"watcher": URL}, {"store": "s3://bucket"},
{"labels": true}.
"""

import json
import os
import sys
import urllib.request


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def page(url):
    get(f"{url}/_stcore/health")
    get(f"{url}/ready")
    if "posewatch_labeling_database_up 1" not in get(f"{url}/metrics"):
        raise RuntimeError("its figures do not say that the database is up")


def watcher(url):
    get(f"{url}/healthz")
    if "posewatch_watch_camera_up" not in get(f"{url}/metrics"):
        raise RuntimeError("it shows figures of no camera")


def store(uri):
    from posewatch.store import open_store

    found = open_store(uri)
    key = f"helm-test/{os.uname().nodename}"
    found.put(key, b"posewatch")
    try:
        if found.get(key) != b"posewatch":
            raise RuntimeError("it gave back something else than was put into it")
    finally:
        found.delete(key)


def labels(_):
    from posewatch.labels.store import LabelStore

    LabelStore(os.environ["POSEWATCH_LABELS_URL"]).counts()


def main():
    checks = {"page": page, "watcher": watcher, "store": store, "labels": labels}
    failed = 0
    for part in json.loads(os.environ["POSEWATCH_CHECK"]):
        for name, told in part.items():
            try:
                checks[name](told)
                print(f"ok      {name} {'' if told is True else told}", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED  {name} {'' if told is True else told}: {' '.join(str(error).split())}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
