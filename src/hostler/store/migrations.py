"""The schema's history: each step is applied once, in order, and never edited after a release. It must hold no data
logic.

A step is a tuple of statements that both databases understand; `BYTES` stands for their byte-string type.
"""

from __future__ import annotations

SCHEMA_TABLE = "CREATE TABLE IF NOT EXISTS schema_migrations (id TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)"

MIGRATIONS: dict[str, tuple[str, ...]] = {
    "001_sessions": (
        """CREATE TABLE api_keys (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL, hint TEXT NOT NULL,
            created_at BIGINT NOT NULL, revoked_at BIGINT)""",
        "CREATE UNIQUE INDEX api_keys_hash ON api_keys (hash)",
        """CREATE TABLE agents (
            id TEXT PRIMARY KEY, version BIGINT NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
            archived_at BIGINT)""",
        "CREATE INDEX agents_created ON agents (created_at, id)",
        """CREATE TABLE agent_versions (
            agent_id TEXT NOT NULL, version BIGINT NOT NULL, created_at BIGINT NOT NULL, body BYTES NOT NULL,
            PRIMARY KEY (agent_id, version))""",
        """CREATE TABLE environments (
            id TEXT PRIMARY KEY, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, archived_at BIGINT,
            body BYTES NOT NULL)""",
        "CREATE INDEX environments_created ON environments (created_at, id)",
        """CREATE TABLE sessions (
            id TEXT PRIMARY KEY, agent_id TEXT NOT NULL, agent_version BIGINT NOT NULL, environment_id TEXT NOT NULL,
            thread_id TEXT NOT NULL, status TEXT NOT NULL, title TEXT, metadata BYTES NOT NULL, agent BYTES NOT NULL,
            environment BYTES NOT NULL, vault_ids BYTES NOT NULL, budget BYTES, usage BYTES NOT NULL,
            pending BYTES NOT NULL, queued BIGINT NOT NULL, active_us BIGINT NOT NULL, running_since BIGINT,
            created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, archived_at BIGINT, next_seq BIGINT NOT NULL,
            last_at BIGINT NOT NULL, fence BIGINT NOT NULL, lease_owner TEXT, lease_until BIGINT, wake_at BIGINT)""",
        "CREATE INDEX sessions_created ON sessions (created_at, id)",
        "CREATE INDEX sessions_agent ON sessions (agent_id, created_at, id)",
        "CREATE INDEX sessions_environment ON sessions (environment_id)",
        "CREATE INDEX sessions_wake ON sessions (wake_at) WHERE wake_at IS NOT NULL",
        """CREATE TABLE entries (
            session_id TEXT NOT NULL, seq BIGINT NOT NULL, position BIGINT NOT NULL, id TEXT NOT NULL,
            thread_id TEXT NOT NULL, type TEXT NOT NULL, private BIGINT NOT NULL, answers TEXT, body BYTES NOT NULL,
            PRIMARY KEY (session_id, seq))""",
        "CREATE UNIQUE INDEX entries_position ON entries (session_id, position)",
        "CREATE UNIQUE INDEX entries_id ON entries (session_id, id)",
        "CREATE UNIQUE INDEX entries_answers ON entries (session_id, answers) WHERE answers IS NOT NULL",
        """CREATE TABLE files (
            id TEXT PRIMARY KEY, filename TEXT NOT NULL, mime_type TEXT NOT NULL, size_bytes BIGINT NOT NULL,
            downloadable BIGINT NOT NULL, session_id TEXT, blob TEXT NOT NULL, output_path TEXT, output_tag TEXT,
            created_at BIGINT NOT NULL, expires_at BIGINT)""",
        "CREATE INDEX files_created ON files (created_at, id)",
        "CREATE INDEX files_session ON files (session_id, created_at, id) WHERE session_id IS NOT NULL",
        "CREATE INDEX files_blob ON files (blob)",
        "CREATE UNIQUE INDEX files_output ON files (session_id, output_path) WHERE output_path IS NOT NULL",
        """CREATE TABLE resources (
            id TEXT PRIMARY KEY, session_id TEXT NOT NULL, type TEXT NOT NULL, file_id TEXT, mount_path TEXT NOT NULL,
            created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        "CREATE UNIQUE INDEX resources_mount ON resources (session_id, mount_path)",
    ),
    "002_identity": ("CREATE TABLE identity ( id TEXT PRIMARY KEY )",),
    "003_threads": (
        """CREATE TABLE threads (
            session_id TEXT NOT NULL, id TEXT NOT NULL, parent_id TEXT, name TEXT NOT NULL, agent BYTES NOT NULL,
            status TEXT NOT NULL, usage BYTES NOT NULL, active_us BIGINT NOT NULL, running_since BIGINT,
            created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, archived_at BIGINT,
            PRIMARY KEY (session_id, id))""",
        # An event of a child thread that the session's list shows as well has the same id there.
        "DROP INDEX entries_id",
        "CREATE UNIQUE INDEX entries_id ON entries (session_id, id, thread_id)",
        "CREATE INDEX entries_thread ON entries (session_id, thread_id, position) WHERE private = 2",
    ),
    "004_vaults": (
        """CREATE TABLE vaults (
            id TEXT PRIMARY KEY, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, archived_at BIGINT,
            body BYTES NOT NULL)""",
        "CREATE INDEX vaults_created ON vaults (created_at, id)",
        """CREATE TABLE vault_credentials (
            id TEXT PRIMARY KEY, vault_id TEXT NOT NULL, target TEXT, created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL, archived_at BIGINT, body BYTES NOT NULL, sealed BYTES,
            generation BIGINT NOT NULL, failure TEXT, lease_owner TEXT, lease_until BIGINT)""",
        "CREATE INDEX vault_credentials_created ON vault_credentials (vault_id, created_at, id)",
        "CREATE UNIQUE INDEX vault_credentials_target ON vault_credentials (vault_id, target) WHERE target IS NOT NULL",
    ),
    "005_skills": (
        """CREATE TABLE skills (
            id TEXT PRIMARY KEY, source TEXT NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL,
            created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        "CREATE INDEX skills_created ON skills (created_at, id)",
        """CREATE TABLE skill_versions (
            skill_id TEXT NOT NULL, version TEXT NOT NULL, created_at BIGINT NOT NULL, name TEXT NOT NULL,
            description TEXT NOT NULL, directory TEXT NOT NULL, deleted_at BIGINT,
            PRIMARY KEY (skill_id, version))""",
        "CREATE INDEX skill_versions_created ON skill_versions (skill_id, created_at, version)",
        "CREATE INDEX skill_versions_deleted ON skill_versions (deleted_at) WHERE deleted_at IS NOT NULL",
        """CREATE TABLE skill_files (
            skill_id TEXT NOT NULL, version TEXT NOT NULL, path TEXT NOT NULL, blob TEXT NOT NULL,
            size_bytes BIGINT NOT NULL, executable BIGINT NOT NULL, PRIMARY KEY (skill_id, version, path))""",
        "CREATE INDEX skill_files_blob ON skill_files (blob)",
        """CREATE TABLE session_skills (
            session_id TEXT NOT NULL, skill_id TEXT NOT NULL, version TEXT NOT NULL, place BIGINT NOT NULL,
            PRIMARY KEY (session_id, skill_id, version))""",
        "CREATE INDEX session_skills_version ON session_skills (skill_id, version)",
    ),
    "006_repositories": (
        "ALTER TABLE resources ADD COLUMN body BYTES",
        "ALTER TABLE resources ADD COLUMN secret BYTES",
    ),
    "007_budgets": ("ALTER TABLE sessions ADD COLUMN paused BIGINT NOT NULL DEFAULT 0",),
    "008_outcomes": ("ALTER TABLE sessions ADD COLUMN outcomes BYTES",),
    "009_work": (
        """CREATE TABLE environment_keys (
            id TEXT PRIMARY KEY, environment_id TEXT NOT NULL, name TEXT NOT NULL, hash TEXT NOT NULL,
            hint TEXT NOT NULL, created_at BIGINT NOT NULL, revoked_at BIGINT)""",
        "CREATE UNIQUE INDEX environment_keys_hash ON environment_keys (hash)",
        "CREATE INDEX environment_keys_environment ON environment_keys (environment_id, created_at, id)",
        """CREATE TABLE work (
            id TEXT PRIMARY KEY, environment_id TEXT NOT NULL, session_id TEXT NOT NULL, state TEXT NOT NULL,
            metadata BYTES NOT NULL, created_at BIGINT NOT NULL, queued_at BIGINT NOT NULL, polled_at BIGINT,
            worker TEXT, acknowledged_at BIGINT, started_at BIGINT, heartbeat_at BIGINT, ttl_seconds BIGINT NOT NULL,
            lease_until BIGINT, stop_requested_at BIGINT, stopped_at BIGINT, attempts BIGINT NOT NULL)""",
        "CREATE INDEX work_environment ON work (environment_id, created_at, id)",
        "CREATE INDEX work_queued ON work (environment_id, queued_at) WHERE state = 'queued'",
        "CREATE INDEX work_lease ON work (lease_until) WHERE lease_until IS NOT NULL",
        "CREATE UNIQUE INDEX work_live ON work (session_id) WHERE state <> 'stopped'",
        "CREATE INDEX work_session ON work (session_id)",
        "CREATE INDEX work_stopped ON work (stopped_at) WHERE stopped_at IS NOT NULL",
        "CREATE TABLE work_tokens (hash TEXT PRIMARY KEY, work_id TEXT NOT NULL, created_at BIGINT NOT NULL, "
        "revoked_at BIGINT)",
        "CREATE INDEX work_tokens_work ON work_tokens (work_id)",
    ),
    "010_checkpoints": (
        "ALTER TABLE sessions ADD COLUMN sandbox TEXT NOT NULL DEFAULT 'none'",
        "ALTER TABLE sessions ADD COLUMN sandbox_at BIGINT",
        "ALTER TABLE sessions ADD COLUMN checkpoint_id TEXT",
        "ALTER TABLE sessions ADD COLUMN first_agent BYTES",
        # Of what there is nobody has written down whether it has a sandbox, and since when.
        "UPDATE sessions SET sandbox = 'here', sandbox_at = 0 WHERE archived_at IS NULL",
        "CREATE INDEX sessions_sandbox ON sessions (sandbox_at) WHERE sandbox_at IS NOT NULL",
        """CREATE TABLE checkpoints (
            id TEXT PRIMARY KEY, session_id TEXT NOT NULL, position BIGINT NOT NULL, event_id TEXT,
            size_bytes BIGINT NOT NULL, sha256 TEXT NOT NULL, created_at BIGINT NOT NULL)""",
        "CREATE INDEX checkpoints_session ON checkpoints (session_id, position, created_at)",
    ),
    "011_runbooks": (
        """CREATE TABLE tasks (
            id TEXT PRIMARY KEY, parent_id TEXT, tenant_id TEXT NOT NULL, entity_id TEXT, workflow_id TEXT NOT NULL,
            runbook TEXT NOT NULL, version TEXT NOT NULL, digest TEXT NOT NULL,
            title TEXT NOT NULL, status TEXT NOT NULL, priority TEXT,
            context BYTES NOT NULL, view BYTES, outcome BYTES, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
            closed_at BIGINT, next_position BIGINT NOT NULL, crashes BIGINT NOT NULL, fence BIGINT NOT NULL,
            lease_owner TEXT, lease_until BIGINT, wake_at BIGINT, cancelled_at BIGINT)""",
        "CREATE INDEX tasks_tenant ON tasks (tenant_id, created_at, id)",
        "CREATE INDEX tasks_workflow ON tasks (workflow_id, created_at, id)",
        "CREATE INDEX tasks_parent ON tasks (parent_id) WHERE parent_id IS NOT NULL",
        "CREATE INDEX tasks_wake ON tasks (wake_at) WHERE wake_at IS NOT NULL",
        """CREATE TABLE task_entries (
            task_id TEXT NOT NULL, position BIGINT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, at BIGINT NOT NULL,
            body BYTES NOT NULL, value BYTES, PRIMARY KEY (task_id, position))""",
        "CREATE UNIQUE INDEX task_entries_answers ON task_entries (task_id, kind, key) WHERE kind IN "
        "('step', 'activity', 'waiting', 'waited', 'child', 'child_ended', 'agent', 'ended')",
        """CREATE TABLE runbooks (
            slug TEXT NOT NULL, digest TEXT NOT NULL, version TEXT NOT NULL, deployed_at BIGINT NOT NULL,
            body BYTES NOT NULL, files BYTES NOT NULL, PRIMARY KEY (slug, digest))""",
        """CREATE TABLE tenants (
            id TEXT PRIMARY KEY, slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, status TEXT NOT NULL,
            body BYTES NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        """CREATE TABLE entities (
            id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, slug TEXT NOT NULL, name TEXT NOT NULL, body BYTES NOT NULL,
            created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, UNIQUE (tenant_id, slug))""",
        """CREATE TABLE workflows (
            id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, entity_id TEXT NOT NULL, runbook TEXT NOT NULL, name TEXT,
            body BYTES NOT NULL, next_at BIGINT, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        "CREATE INDEX workflows_entity ON workflows (entity_id)",
        "CREATE INDEX workflows_next ON workflows (next_at) WHERE next_at IS NOT NULL",
        """CREATE TABLE registered_agents (
            id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
            external_ref TEXT NOT NULL, key_hash TEXT NOT NULL UNIQUE, key_hint TEXT NOT NULL, body BYTES NOT NULL,
            secret BYTES, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        "CREATE UNIQUE INDEX registered_agents_name ON registered_agents (tenant_id, name)",
        """CREATE TABLE agent_runs (
            task_id TEXT NOT NULL, key TEXT NOT NULL, agent_id TEXT NOT NULL, session_id TEXT, base_url TEXT,
            started_at BIGINT NOT NULL, ended_at BIGINT, body BYTES NOT NULL, PRIMARY KEY (task_id, key))""",
        "CREATE INDEX agent_runs_session ON agent_runs (session_id)",
        "CREATE INDEX agent_runs_live ON agent_runs (agent_id) WHERE ended_at IS NULL",
        """CREATE TABLE task_lines (
            task_id TEXT NOT NULL, position BIGINT NOT NULL, event_id TEXT NOT NULL, at BIGINT NOT NULL,
            kind TEXT NOT NULL, text TEXT NOT NULL, agent_id TEXT NOT NULL, session_id TEXT NOT NULL,
            PRIMARY KEY (task_id, position))""",
        """CREATE TABLE data_connections (
            id TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, body BYTES NOT NULL, secret BYTES,
            created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL)""",
        """CREATE TABLE capabilities (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, body BYTES NOT NULL,
            created_at BIGINT NOT NULL, UNIQUE (name, version))""",
        """CREATE TABLE runbook_feedback (
            id TEXT PRIMARY KEY, runbook TEXT NOT NULL, task_id TEXT, tenant_id TEXT, feedback TEXT NOT NULL,
            created_at BIGINT NOT NULL)""",
        "CREATE INDEX runbook_feedback_runbook ON runbook_feedback (runbook, created_at, id)",
        "ALTER TABLE api_keys ADD COLUMN tenant_id TEXT",
    ),
}
