"""GPano: the XMP properties by which photo viewers know that a picture is a 360° panorama.

Source: Google's Photo Sphere XMP namespace, http://ns.google.com/photos/1.0/panorama/ (public documentation).
Readers: Google Photos, Flickr, Mapillary, Nextcloud, most web viewers.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from ..runtime.errors import InputError

NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# The packet is small; anything much larger in a file to be read is not a GPano packet worth parsing.
MAX_PACKET_BYTES = 4 << 20

_INTEGERS = (
    "FullPanoWidthPixels",
    "FullPanoHeightPixels",
    "CroppedAreaImageWidthPixels",
    "CroppedAreaImageHeightPixels",
    "CroppedAreaLeftPixels",
    "CroppedAreaTopPixels",
)
_FLOATS = (
    "PoseHeadingDegrees",
    "PosePitchDegrees",
    "PoseRollDegrees",
    "InitialViewHeadingDegrees",
    "InitialViewPitchDegrees",
    "InitialViewRollDegrees",
    "InitialHorizontalFOVDegrees",
)


def gpano_properties(width: int, height: int, heading_deg: float = 0.0) -> dict[str, str]:
    """Properties of a full equirectangular panorama of width x height pixels.

    `heading_deg` is the compass heading of the picture's centre, 0 (north) to below 360; any angle is wrapped
    into that range, as the namespace asks. Raises `InputError` unless it is finite.
    """
    if not math.isfinite(heading_deg):
        raise InputError(f"heading_deg must be a finite number of degrees, got {heading_deg}.")
    return {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "FullPanoWidthPixels": str(width),
        "FullPanoHeightPixels": str(height),
        "CroppedAreaImageWidthPixels": str(width),
        "CroppedAreaImageHeightPixels": str(height),
        "CroppedAreaLeftPixels": "0",
        "CroppedAreaTopPixels": "0",
        "PoseHeadingDegrees": f"{round(heading_deg, 4) % 360.0:.4f}".rstrip("0").rstrip("."),
    }


def gpano_packet(width: int, height: int, heading_deg: float = 0.0) -> bytes:
    """The XMP packet (UTF-8) with `gpano_properties`, as it goes into a JPEG, PNG or WebP file."""
    attributes = "".join(
        f"\n    GPano:{name}={quoteattr(value)}"
        for name, value in gpano_properties(width, height, heading_deg).items()
    )
    # U+FEFF marks the encoding and the id is fixed by the XMP specification, part 1, section 7.3.2.
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{RDF}">\n'
        f'  <rdf:Description rdf:about=""\n    xmlns:GPano="{NAMESPACE}"{attributes}/>\n'
        " </rdf:RDF>\n</x:xmpmeta>\n"
        '<?xpacket end="w"?>'
    )
    return packet.encode("utf-8")


def _text_of_packet(packet: bytes | str) -> str:
    text = packet if isinstance(packet, str) else packet.decode("utf-8", errors="replace")
    return text.strip("\x00\ufeff \r\n\t")


def parse_gpano(packet: bytes | str) -> dict[str, str | int | float | bool]:
    """GPano properties in an XMP packet, written as attributes or as elements; an empty dict where there are
    none.

    Sizes become int, angles float, `UsePanoramaViewer` bool, everything else stays text. A document type
    declaration is refused (entity expansion), as are packets above 4 MiB. Raises `InputError` for broken XML.
    """
    text = _text_of_packet(packet)
    if NAMESPACE not in text:
        return {}
    if len(text) > MAX_PACKET_BYTES or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(
            "the XMP packet of this picture is not a plain one (too large, or with a DOCTYPE); refused."
        )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as problem:
        raise InputError(f"the XMP packet of this picture is broken: {problem}") from problem
    found: dict[str, str] = {}
    for element in root.iter():
        pairs = [*element.attrib.items(), (element.tag, element.text or "")]
        for key, value in pairs:
            if key.startswith(f"{{{NAMESPACE}}}"):
                found[key[len(NAMESPACE) + 2 :]] = value.strip()
    return {name: _typed(name, value) for name, value in found.items()}


def _typed(name: str, value: str) -> str | int | float | bool:
    try:
        if name in _INTEGERS:
            return int(float(value))
        if name in _FLOATS:
            return float(value)
    except (ValueError, OverflowError) as problem:
        raise InputError(f"GPano:{name} should be a number, found {value[:60]!r}.") from problem
    if name == "UsePanoramaViewer":
        return value.lower() == "true"
    return value
