"""How bytes of an agent's or a tenant's making leave: as a file to keep, never as a page of ours.

It must not look into them.
"""

from __future__ import annotations

from urllib.parse import quote

TYPE = "application/octet-stream"  # whatever they are: a browser must neither show nor run them in our name


def headers(filename: str) -> dict[str, str]:
    name = "".join(each if each.isprintable() and each not in '/\\"' else "_" for each in filename) or "unnamed"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-store",
    }
