"""Twenty people at once on a real database, which is killed and comes back meanwhile."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from label_stores import stale

from posewatch.config import LabelConfig
from posewatch.errors import LabelStoreDown
from posewatch.labels.db import database
from posewatch.labels.entries import hash_fraction
from posewatch.labels.session import LabelingSession
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.labels.team.audit import events

PEOPLE = [f"p{i:02}" for i in range(20)]


def work(store: LabelStore, who: str, config: LabelConfig, pause: float = 0.0) -> list[tuple[str, str]]:
    """Take clips from the queue and label them until there are none; what was acknowledged, in order."""
    chance = random.Random(who)
    session, labelled = LabelingSession(store, who, config), []
    while given := session.claim():
        for card in given:
            label = chance.choice(config.classes)
            session.label(card.entry.clip.id, label, "key", batch=f"{who}-{len(labelled)}", queued=True)
            labelled.append((card.entry.clip.id, label))
            time.sleep(pause)
    return labelled


def start(store: LabelStore, clips: list) -> None:
    store.register(clips)
    for who in PEOPLE:
        roles.set_role(store, who, "labeler", "operator")


@pytest.mark.parametrize("double", [0.0, 0.3])
def test_twenty_labelers_lose_nothing_and_never_get_the_same_clip(url, make_clips, double):
    store = LabelStore(url)
    clips = make_clips(count=300, length=1.0)
    start(store, clips)
    config = LabelConfig(page_size=5, double=double)
    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        labelled = dict(zip(PEOPLE, pool.map(lambda who: work(store, who, config), PEOPLE), strict=True))
    given = Counter(clip for acts in labelled.values() for clip, _ in acts)
    states = store.states(given)
    assert set(given) == {e.clip.id for e in clips}
    assert given == Counter({e.clip.id: 1 + (hash_fraction(e.clip.id, "double") < double) for e in clips})
    for who, acts in labelled.items():
        assert {clip: label for clip, label in acts} == {
            clip: state.votes[who].new for clip, state in states.items() if who in state.votes
        }
    audit = events(store)
    assert len(audit) == sum(map(len, labelled.values())), "every act is in the audit trail, once"
    assert {(e.who, e.clip_id, e.new) for e in audit} == {(w, c, n) for w, acts in labelled.items() for c, n in acts}
    assert store.database.read(stale) == []
    store.close()


def test_the_database_is_killed_and_restarted_while_people_work(postgres_to_kill, make_clips):
    server = postgres_to_kill
    store = LabelStore(server.database("labels"))
    clips = make_clips(count=400, length=1.0)
    start(store, clips)
    config = LabelConfig(page_size=5, claim_s=120)
    outages = []

    def crash() -> None:
        for _ in range(2):
            time.sleep(0.5)
            server.kill()
            time.sleep(0.5)
            server.start()
            outages.append(time.monotonic())

    murderer = threading.Thread(target=crash)
    murderer.start()
    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        labelled = dict(zip(PEOPLE, pool.map(lambda who: work(store, who, config, 0.1), PEOPLE), strict=True))
    assert outages, "the work was done before the first restart: the test shows nothing"
    murderer.join()
    assert len(outages) == 2
    given = Counter(clip for acts in labelled.values() for clip, _ in acts)
    assert given == Counter({e.clip.id: 1 for e in clips}), "nothing lost, nothing given twice"
    audit = events(store)
    assert {(e.who, e.clip_id, e.new) for e in audit} == {(w, c, n) for w, acts in labelled.items() for c, n in acts}
    assert len(audit) == len(clips), "an act that was tried twice was done once"
    assert store.database.read(stale) == []
    store.close()


@pytest.fixture
def pooled(postgres, tmp_path) -> Iterator[str]:
    """A database behind a pgbouncer that gives each transaction any connection, as old ones do by default."""
    if (pgbouncer := shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")) is None:
        pytest.skip("no pgbouncer here (apt-get install pgbouncer)")
    database = postgres.database("pooled").rpartition("/")[2]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    users = tmp_path / "users"
    users.write_text('"posewatch" ""\n')
    config = tmp_path / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
        "pool_mode = transaction\ndefault_pool_size = 4\n"
    )
    if os.getuid() == 0:  # it refuses to run as root
        config.write_text(config.read_text() + "user = postgres\n")
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(folder.stat().st_mode | 0o005)
    process = subprocess.Popen([pgbouncer, "-q", config], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"postgresql://posewatch@127.0.0.1:{port}/{database}"
    finally:
        process.terminate()
        process.wait(30)


def test_twenty_people_label_through_a_pooler_of_transactions(pooled, make_clips):
    store = LabelStore(pooled)
    clips = make_clips(count=200, length=1.0)
    start(store, clips)
    config = LabelConfig(page_size=5, claim_s=120)
    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        labelled = list(pool.map(lambda who: work(store, who, config), PEOPLE))
    assert Counter(clip for acts in labelled for clip, _ in acts) == Counter({e.clip.id: 1 for e in clips})
    store.close()


def test_the_primary_becomes_a_standby(postgres, monkeypatch):
    """A server that takes no writes any more (a failover, a full disk) keeps its connections."""
    monkeypatch.setattr(database, "TIMEOUT_S", 0.5)
    store = LabelStore(postgres.database("standby"))
    roles.set_role(store, "ann", "labeler", "operator")
    for connection in [store.engine.connect() for _ in range(3)]:  # those of the pool, not the new primary's
        connection.execute(sa.text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        connection.commit()
        connection.close()
    roles.set_role(store, "ann", "reviewer", "operator")
    assert roles.role_of(store, "ann") == "reviewer"

    everywhere = "ALTER DATABASE standby SET default_transaction_read_only = "
    store.database.execute(sa.text(everywhere + "on"))
    store.close()
    with pytest.raises(LabelStoreDown, match="read-only"):  # not refused: the browser keeps the act
        roles.set_role(store, "ann", "admin", "operator")
    with store.engine.connect() as connection:
        connection.execute(sa.text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        connection.commit()
        connection.execute(sa.text(everywhere + "off"))
        connection.commit()
    roles.set_role(store, "ann", "admin", "operator")
    store.close()


def test_a_lost_machine_is_noticed(postgres):
    """No machine can be lost here: what the system does then is known by the limits of the connection's socket."""
    store = LabelStore(postgres.database("lost") + "?keepalives_idle=60")
    with store.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as end:
            assert 0 < end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= database.TIMEOUT_S * 1000
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60, "the address has the last word"
        assert 0 < int(driver.info.get_parameters()["connect_timeout"]) < database.TIMEOUT_S
    store.close()


def test_more_people_than_connections_while_the_database_hangs(postgres, monkeypatch):
    store = LabelStore(postgres.database("hangs"))
    monkeypatch.setattr(store.engine.pool, "_timeout", 0.1)
    held = [store.engine.connect() for _ in range(25)]
    with pytest.raises(LabelStoreDown, match="all connections wait"):
        roles.set_role(store, "ann", "labeler", "operator")
    for connection in held:
        connection.close()
    roles.set_role(store, "ann", "labeler", "operator")
    store.close()
