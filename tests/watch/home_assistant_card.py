"""Draws Home Assistant's cards of cameras from the discovery payload.

``python -m tests.watch.home_assistant_card docs/home-assistant.svg``
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from posewatch.watch.sinks.mqtt import OFF, ON, discovery

CAMERAS = (("hall", ON), ("yard", OFF), ("door", None))
WORDS = {ON: ("Unsafe", "#db4437", "!"), OFF: ("Safe", "#44739e", "✓"), None: ("Unavailable", "#9e9e9e", "?")}
"""How Home Assistant calls and colours the states of a binary sensor of the class "safety"."""


def card() -> str:
    """The picture, as SVG: each camera's device with its entity, while an alarm lasts, without one, and unwatched."""
    out = []
    for i, (camera, state) in enumerate(CAMERAS):
        payload = discovery(camera, "posewatch", f"posewatch/{camera}/availability")
        assert payload["device_class"] == "safety"
        word, colour, sign = WORDS[state]
        out.append(
            f'<g transform="translate({16 + 236 * i} 16)"><rect width="220" height="112" rx="12" fill="#fff" '
            f'stroke="#e0e0e0"/><text x="16" y="34" font-size="18" fill="#212121">'
            f'{escape(payload["device"]["name"])}</text><circle cx="32" cy="74" r="14" fill="{colour}"/>'
            f'<text x="32" y="80" font-size="17" text-anchor="middle" fill="#fff">{sign}</text>'
            f'<text x="58" y="79" font-size="14" fill="#212121">{escape(payload["name"])}</text>'
            f'<text x="204" y="79" font-size="14" text-anchor="end" fill="{colour}">{word}</text></g>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="724" height="144" font-family="Roboto, sans-serif">'
        f'<rect width="724" height="144" fill="#fafafa"/>{"".join(out)}</svg>\n'
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(card(), encoding="utf-8")
