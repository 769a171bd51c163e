#!/bin/bash
# Runs an MCP server that knows the older protocol only: it leaves at a first message that is not `initialize`.
read -r line
case $line in
  *'"initialize"'*) (printf '%s\n' "$line"; cat) | "$@" ;;
esac
