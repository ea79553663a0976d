"""Alarms as ONVIF events, read as a consumer reads them: by namespace, in the order that the schemas give."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from watch.test_outbox import Receiver, receiver  # noqa: F401
from watch.test_siem import HOSTILE, MESSAGE, quick  # noqa: F401

from posewatch.errors import InputError
from posewatch.watch.sinks.onvif import ACTION, Onvif
from posewatch.watch.sinks.table import open_delivery

SPACES = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "wsa": "http://www.w3.org/2005/08/addressing",
    "wsnt": "http://docs.oasis-open.org/wsn/b-2",
    "tt": "http://www.onvif.org/ver10/schema",
}


def _read(body: bytes) -> dict[str, Any]:
    """What a consumer takes of a Notify, after a check of names and order against b-2.xsd and onvif.xsd."""
    root = ElementTree.fromstring(body)
    prefixes = dict(re.findall(rb'xmlns:(\w+)="([^"]+)"', body))
    (holder,) = root.findall("s:Body/wsnt:Notify/wsnt:NotificationMessage", SPACES)
    wsnt, tt = f"{{{SPACES['wsnt']}}}", f"{{{SPACES['tt']}}}"
    assert [child.tag for child in holder] == [f"{wsnt}Topic", f"{wsnt}Message"]
    (message,) = holder.findall("wsnt:Message/tt:Message", SPACES)
    assert [child.tag for child in message] == [f"{tt}Source", f"{tt}Key", f"{tt}Data"]
    topic = holder.findtext("wsnt:Topic", "", SPACES)
    for prefix in re.findall(r"(\w+):", topic):
        assert prefix.encode() in prefixes, "a topic's prefix is one of the document"

    def items(part: str) -> dict[str, str]:
        return {one.attrib["Name"]: one.attrib["Value"] for one in message.findall(f"tt:{part}/tt:SimpleItem", SPACES)}

    return {
        "action": root.findtext("s:Header/wsa:Action", "", SPACES), "topic": topic,
        "id": root.findtext("s:Header/wsa:MessageID", "", SPACES), "time": message.attrib["UtcTime"],
        "operation": message.attrib["PropertyOperation"], **{part: items(part) for part in ("Source", "Key", "Data")},
    }  # fmt: skip


def test_an_alarm_and_its_end_are_a_property_that_changes(receiver: Receiver, tmp_path: Path) -> None:  # noqa: F811
    receiver.script = [503]
    with open_delivery(tmp_path, f"onvif+{receiver.url}", "key") as box:
        box.put("1f0a-alarm", MESSAGE)
        box.put("1f0a-alarm_ended", HOSTILE)
        assert box.drain(20) == 0
    first, again, last = (_read(body) for _, body in receiver.got)
    assert first == again, "a message that is sent again has the same MessageID"
    headers, _ = receiver.got[1]
    assert headers["Content-Type"].startswith("application/soap+xml")
    assert "X-Posewatch-Signature" in headers
    assert again | {"id": ""} == {
        "action": ACTION, "topic": "tns1:RuleEngine/pw:Alarm", "id": "", "time": "2026-11-26T15:04:05.123Z",
        "operation": "Changed", "Source": {"VideoSourceToken": "hall", "Rule": "abnormal"}, "Key": {},
        "Data": {"State": "true", "AlarmId": "1f0a", "Label": "abnormal", "Likelihood": "0.9312"},
    }  # fmt: skip
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", again["id"])
    assert last["id"] != again["id"]
    assert last["Data"]["State"] == "false"
    assert last["Key"] == {"Person": "2"}
    # whatever a camera's name holds; XML has no NUL
    assert last["Source"]["VideoSourceToken"] == HOSTILE["source"].replace("\x00", "")


def test_a_topic_that_a_receiver_knows() -> None:
    address = "onvif+http://vms:8080/notify?a=1&topic=tns1:RuleEngine/CellMotionDetector/Motion&state=IsMotion"
    sink = Onvif(address)
    read = _read(sink.body("k", {**MESSAGE, "time": None, "rule": "long_lie"}))
    assert (read["topic"], read["Data"]["IsMotion"]) == ("tns1:RuleEngine/CellMotionDetector/Motion", "true")
    assert read["Source"]["Rule"] == "long_lie"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", read["time"])
    assert sink._url == "http://vms:8080/notify?a=1"
    assert "\ud800" not in _read(sink.body("k", {**MESSAGE, "source": "x\ud800\x0b"}))["Source"]["VideoSourceToken"]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2026-11-27T00:04:05.120+09:00", "2026-11-26T15:04:05.120Z"),
        ("2026-11-26T15:04:05", "2026-11-26T15:04:05.000Z"),  # no zone: UTC, wherever this machine is
    ],
)
def test_moments_are_sent_in_utc(given: str, sent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        assert _read(Onvif("onvif+http://vms").body("k", {**MESSAGE, "time": given}))["time"] == sent
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_zero_is_told_and_an_address_stays_as_it_is_written() -> None:
    sink = Onvif("ONVIF+HTTPS://vms/notify?token=a%26b%3D&state=On")
    assert sink._url == "https://vms/notify?token=a%26b%3D"
    read = _read(sink.body("k", {**MESSAGE, "probability": 0.0, "reason": "the camera is away", "label": ""}))
    assert read["Data"] == {"On": "true", "AlarmId": "1f0a", "Likelihood": "0.0", "Reason": "the camera is away"}
    assert read["Source"]["Rule"] == "alarm"


@pytest.mark.parametrize("query", ["topic=Motion", "topic=tns1:a/<b>", "state=a b", "state=", "topic="])
def test_an_address_that_names_no_topic(query: str) -> None:
    with pytest.raises(InputError, match="ONVIF"):
        Onvif(f"onvif+https://vms/notify?{query}")
