"""The session log and its fan-out: the truth, the protocol and the recovery state at once."""
