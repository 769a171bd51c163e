"""Fetching pages and searching the web on behalf of agents, from the server itself. It must know no session."""
