import os

from ntro.data import get_data_plane
from ntro.workflow import activity


@activity.defn
def note(what: str) -> str:
    """An effect in the world, which can be counted."""
    with open(os.environ["EFFECTS"], "a") as file:
        file.write(f"{what}\n")
    return what


@activity.defn
async def keep(record: dict) -> str:
    plane = await get_data_plane(record["tenant_slug"])
    await plane.execute(
        "INSERT INTO ingest.submitted_records (id, entity_slug, task_id, kind, data) "
        "VALUES ($1::uuid, $2, $3, 'outcome', $4::jsonb) ON CONFLICT (id) DO NOTHING",
        record["id"],
        "",
        record["task_id"],
        "{}",
    )
    rows = await plane.fetch("SELECT id FROM ingest.submitted_records WHERE task_id = $1", record["task_id"])
    return str(len(rows))
