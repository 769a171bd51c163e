"""HTTP: one file per resource with its routes, parsing and rendering. No logic lives here: `services/` has it."""
