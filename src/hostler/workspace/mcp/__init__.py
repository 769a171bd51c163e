"""The server side of MCP. Inside this room `mcp` is still the PyPI package: imports here are absolute."""
