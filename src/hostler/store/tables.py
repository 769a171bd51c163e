"""The tables, as SQLAlchemy Core sees them, for building statements. Their DDL is `migrations.py`; a test keeps both
alike.

Times are integers: microseconds since the epoch, UTC. JSON is bytes, exactly as it goes over the wire, so that a page
of events is cut out of the table and sent. Flags are 0 or 1. Neither database's own types are used beyond that.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text

metadata = MetaData()


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null, primary_key=key)


def _int(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, primary_key=key, autoincrement=False)


def _json(name: str, *, null: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=null)


# One row: which database this is. A data folder belongs to one.
identity = Table("identity", metadata, _text("id", key=True))

api_keys = Table(
    "api_keys",
    metadata,
    _text("id", key=True),
    _text("name"),
    _text("hash"),
    _text("hint"),
    _int("created_at"),
    _int("revoked_at", null=True),
    _text("tenant_id", null=True),  # where it opens the Workspace API of this tenant, and nothing else
)

agents = Table(
    "agents",
    metadata,
    _text("id", key=True),
    _int("version"),
    _int("created_at"),
    _int("updated_at"),
    _int("archived_at", null=True),
)

agent_versions = Table(
    "agent_versions",
    metadata,
    _text("agent_id", key=True),
    _int("version", key=True),
    _int("created_at"),
    _json("body"),
)

environments = Table(
    "environments",
    metadata,
    _text("id", key=True),
    _int("created_at"),
    _int("updated_at"),
    _int("archived_at", null=True),
    _json("body"),
)

# `status`, `stop`, `pending`, `usage` and the counters are folds over the log, committed with the entries that cause
# them. `next_seq`, `last_at` and `fence` order all writes of a session; `wake_at` says when it next needs a harness.
sessions = Table(
    "sessions",
    metadata,
    _text("id", key=True),
    _text("agent_id"),
    _int("agent_version"),
    _text("environment_id"),
    _text("thread_id"),  # the primary thread
    _text("status"),
    _text("title", null=True),
    _json("metadata"),
    _json("agent"),  # the resolved snapshot, `SessionAgent`
    _json("environment"),  # `config` at creation, for a session whose environment is not here
    _json("vault_ids"),
    _json("budget", null=True),
    _json("usage"),
    _json("pending"),  # JSON list of event ids that wait for an answer
    _int("queued"),  # user events not yet consumed
    _int("active_us"),  # closed running intervals
    _int("running_since", null=True),
    _int("created_at"),
    _int("updated_at"),
    _int("archived_at", null=True),
    _int("next_seq"),
    _int("last_at"),
    _int("fence"),
    _text("lease_owner", null=True),
    _int("lease_until", null=True),
    _int("wake_at", null=True),
    _json("outcomes", null=True),  # JSON list of OutcomeEvaluation
    _int("paused"),  # 1 while it is idle with work that waits for a higher budget
    _text("sandbox"),  # none, here, snapshot (`checkpoint_id`), expired
    _int("sandbox_at", null=True),  # when it was made; 0 is unknown
    _text("checkpoint_id", null=True),  # what it is made from before its next use
    _json("first_agent", null=True),  # `agent` as it was before the first change of it
)

# What was written down of a session's sandbox while it was idle: a file each, named by the id. `position` and
# `event_id` are those of the session.status_idle event before it.
checkpoints = Table(
    "checkpoints",
    metadata,
    _text("id", key=True),
    _text("session_id"),
    _int("position"),
    _text("event_id", null=True),
    _int("size_bytes"),
    _text("sha256"),
    _int("created_at"),
)

# The threads of a session with several agents, its primary one included; other sessions have no row here: their only
# thread is the session. `agent` is a SessionThreadAgent, InlineAgent or Advisor, `name` the one that events show.
threads = Table(
    "threads",
    metadata,
    _text("session_id", key=True),
    _text("id", key=True),
    _text("parent_id", null=True),
    _text("name"),
    _json("agent"),
    _text("status"),
    _json("usage"),
    _int("active_us"),
    _int("running_since", null=True),
    _int("created_at"),
    _int("updated_at"),
    _int("archived_at", null=True),
)

# `seq` is the order of receipt. `position` is the order of the list: the `processed_at` of a consumed entry, in
# microseconds and unique in its session, or QUEUED + seq while it waits. `body` is the event without `processed_at`.
# `answers` is the tool use that an entry answers: a unique index allows one answer each. An event of a child thread
# that the session's list shows as well is there twice, with one id. `private` says who sees it: see `log.entries`.
entries = Table(
    "entries",
    metadata,
    _text("session_id", key=True),
    _int("seq", key=True),
    _int("position"),
    _text("id"),
    _text("thread_id"),
    _text("type"),
    _int("private"),
    _text("answers", null=True),
    _json("body"),
)

QUEUED = 1 << 62

files = Table(
    "files",
    metadata,
    _text("id", key=True),
    _text("filename"),
    _text("mime_type"),
    _int("size_bytes"),
    _int("downloadable"),
    _text("session_id", null=True),  # the scope
    _text("blob"),  # names the bytes in the blob folder; copies share one
    _text("output_path", null=True),  # below /mnt/session/outputs, for a collected output
    _text("output_tag", null=True),  # size and mtime it was collected with
    _int("created_at"),
    _int("expires_at", null=True),
)

resources = Table(
    "resources",
    metadata,
    _text("id", key=True),
    _text("session_id"),
    _text("type"),
    _text("file_id", null=True),
    _text("mount_path"),
    _int("created_at"),
    _int("updated_at"),
    _json("body", null=True),  # a repository's url and checkout
    _json("secret", null=True),  # its token, sealed for the resource's id
)

# A skill's versions and their files stay while a session that has pinned them lives: a deleted version has `deleted_at`
# until then. `version` is a text: microseconds for a custom skill, a date for one that comes with the server.
skills = Table(
    "skills",
    metadata,
    _text("id", key=True),
    _text("source"),
    _text("name"),
    _text("display_name"),
    _int("created_at"),
    _int("updated_at"),
)

skill_versions = Table(
    "skill_versions",
    metadata,
    _text("skill_id", key=True),
    _text("version", key=True),
    _int("created_at"),
    _text("name"),
    _text("description"),
    _text("directory"),
    _int("deleted_at", null=True),
)

skill_files = Table(
    "skill_files",
    metadata,
    _text("skill_id", key=True),
    _text("version", key=True),
    _text("path", key=True),
    _text("blob"),
    _int("size_bytes"),
    _int("executable"),
)

session_skills = Table(
    "session_skills",
    metadata,
    _text("session_id", key=True),
    _text("skill_id", key=True),
    _text("version", key=True),
    _int("place"),  # among the skills of all the session's agents
)

vaults = Table(
    "vaults",
    metadata,
    _text("id", key=True),
    _int("created_at"),
    _int("updated_at"),
    _int("archived_at", null=True),
    _json("body"),
)

# `target` is what the credential is found by: `mcp <normalised URL>` or `env <name>`, unique in its vault while it is
# active. `sealed` holds the secrets and `generation` counts their changes; `target` and `sealed` are null once it is
# archived. `lease_*` is held by the process that refreshes it; `failure` says why it can't be refreshed any more.
vault_credentials = Table(
    "vault_credentials",
    metadata,
    _text("id", key=True),
    _text("vault_id"),
    _text("target", null=True),
    _int("created_at"),
    _int("updated_at"),
    _int("archived_at", null=True),
    _json("body"),
    _json("sealed", null=True),
    _int("generation"),
    _text("failure", null=True),
    _text("lease_owner", null=True),
    _int("lease_until", null=True),
)

# Credentials of a self-hosted environment's workers, by their hash.
environment_keys = Table(
    "environment_keys",
    metadata,
    _text("id", key=True),
    _text("environment_id"),
    _text("name"),
    _text("hash"),
    _text("hint"),
    _int("created_at"),
    _int("revoked_at", null=True),
)

# The work queue of self-hosted environments. A session has at most one item that is not stopped: a unique
# index. `polled_at` is set while somebody has it who may have to acknowledge it yet, `lease_until` while it is
# somebody's; `attempts` counts items of the session in a row that were stopped with its calls unanswered.
work = Table(
    "work",
    metadata,
    _text("id", key=True),
    _text("environment_id"),
    _text("session_id"),
    _text("state"),
    _json("metadata"),
    _int("created_at"),
    _int("queued_at"),
    _int("polled_at", null=True),
    _text("worker", null=True),
    _int("acknowledged_at", null=True),
    _int("started_at", null=True),
    _int("heartbeat_at", null=True),
    _int("ttl_seconds"),
    _int("lease_until", null=True),
    _int("stop_requested_at", null=True),
    _int("stopped_at", null=True),
    _int("attempts"),
)

# The tokens that items were handed out with, by their hash. A revoked one still tells whose it was, so that a worker
# that has lost its item can be told so.
work_tokens = Table(
    "work_tokens",
    metadata,
    _text("hash", key=True),
    _text("work_id"),
    _int("created_at"),
    _int("revoked_at", null=True),
)

# Runs of runbooks. A child's id is its parent's with more behind a colon. `view` is what people see of it. Without
# `wake_at` a task is over, or waits for what somebody sends.
tasks = Table(
    "tasks",
    metadata,
    _text("id", key=True),
    _text("parent_id", null=True),
    _text("tenant_id"),
    _text("entity_id", null=True),
    _text("workflow_id"),
    _text("runbook"),
    _text("version"),
    _text("digest"),
    _text("title"),
    _text("status"),
    _text("priority", null=True),
    _json("context"),
    _json("view", null=True),
    _json("outcome", null=True),
    _int("created_at"),
    _int("updated_at"),
    _int("closed_at", null=True),
    _int("next_position"),
    _int("crashes"),
    _int("fence"),
    _text("lease_owner", null=True),
    _int("lease_until", null=True),
    _int("wake_at", null=True),
    _int("cancelled_at", null=True),
)

# The journals of tasks (runbooks/entries.py).
task_entries = Table(
    "task_entries",
    metadata,
    _text("task_id", key=True),
    _int("position", key=True),
    _text("kind"),
    _text("key"),
    _int("at"),
    _json("body"),
    _json("value", null=True),
)

# What was deployed: the front matter, where the class is, and the files. A row's files never change: a version that is
# deployed with others is another row, and tasks stay with theirs.
runbooks = Table(
    "runbooks",
    metadata,
    _text("slug", key=True),
    _text("digest", key=True),
    _text("version"),
    _int("deployed_at"),
    _json("body"),
    _json("files"),
)

# -- the Workspace's side: `body` is JSON, what its room alone reads --
tenants = Table(
    "tenants",
    metadata,
    _text("id", key=True),
    _text("slug"),
    _text("name"),
    _text("status"),
    _json("body"),
    _int("created_at"),
    _int("updated_at"),
)
entities = Table(
    "entities",
    metadata,
    _text("id", key=True),
    _text("tenant_id"),
    _text("slug"),
    _text("name"),
    _json("body"),
    _int("created_at"),
    _int("updated_at"),
)
workflows = Table(
    "workflows",
    metadata,
    _text("id", key=True),
    _text("tenant_id"),
    _text("entity_id"),
    _text("runbook"),
    _text("name", null=True),
    _json("body"),
    _int("next_at", null=True),
    _int("created_at"),
    _int("updated_at"),
)

# Agents that runbooks may call. `secret` is the sealed key of the server where one lives, when that is another one.
registered_agents = Table(
    "registered_agents",
    metadata,
    _text("id", key=True),
    _text("tenant_id"),
    _text("name"),
    _text("kind"),
    _text("external_ref"),
    _text("key_hash"),
    _text("key_hint"),
    _json("body"),
    _json("secret", null=True),
    _int("created_at"),
    _int("updated_at"),
)

# Calls of agents by tasks. A row stands before its session is made: the session is found by the run's mark.
agent_runs = Table(
    "agent_runs",
    metadata,
    _text("task_id", key=True),
    _text("key", key=True),
    _text("agent_id"),
    _text("session_id", null=True),
    _text("base_url", null=True),
    _int("started_at"),
    _int("ended_at", null=True),
    _json("body"),
)

# What those agents do, line by line, for the people who look at the task.
task_lines = Table(
    "task_lines",
    metadata,
    _text("task_id", key=True),
    _int("position", key=True),
    _text("event_id"),
    _int("at"),
    _text("kind"),
    _text("text"),
    _text("agent_id"),
    _text("session_id"),
)
data_connections = Table(
    "data_connections",
    metadata,
    _text("id", key=True),
    _text("kind"),
    _text("name"),
    _json("body"),
    _json("secret", null=True),
    _int("created_at"),
    _int("updated_at"),
)

# What people say a platform can do, for the clients that register it; nothing here goes by it. No version is "".
capabilities = Table(
    "capabilities",
    metadata,
    _text("id", key=True),
    _text("name"),
    _text("version"),
    _json("body"),
    _int("created_at"),
)
runbook_feedback = Table(
    "runbook_feedback",
    metadata,
    _text("id", key=True),
    _text("runbook"),
    _text("task_id", null=True),
    _text("tenant_id", null=True),
    _text("feedback"),
    _int("created_at"),
)
