"""Looks at what was handed in; reading may be done twice."""

from typing import Any

from ntro.workflow import activity

MB = 1024 * 1024
LOOK = "SELECT filename, content_type, length(data_bytes) AS size FROM ingest.submitted_documents WHERE id = $1::uuid"


@activity.defn
async def look_at(given: dict[str, Any]) -> dict[str, Any]:
    """The document as it is kept; `problem` says why it can't be used."""
    from ntro.data import get_data_plane

    db = await get_data_plane(given["tenant_slug"])
    row = await db.fetchrow(LOOK, given["document_ref"])
    if row is None:
        return {"problem": f"There is no document {given['document_ref']}."}
    found = {"document_ref": given["document_ref"], "filename": row["filename"], "content_type": row["content_type"]}
    return {**found, "size_bytes": row["size"], "problem": problem(given, row["content_type"], row["size"])}


def problem(given: dict[str, Any], content_type: str, size: int) -> str | None:
    if size == 0:
        return "The file is empty."
    if size > given["max_size_mb"] * MB:
        return f"The file has {size / MB:.0f} MB; {given['max_size_mb']} MB are the most."
    if given["accept"] and content_type not in given["accept"]:
        return f"The file is {content_type}; {' or '.join(given['accept'])} is wanted."
    return None
