"""Pages for people with a browser: a session's timeline, a task and its gate."""
