"""A module imports only from lower floors, never sideways between rooms, and never in a circle."""

from __future__ import annotations

from house_modules import FLOORS, SIDEWAYS, imports, modules, room


def test_every_room_has_a_floor() -> None:
    assert {room(name) for name in modules()} <= set(FLOORS)


def test_imports_go_down() -> None:
    wrong = []
    for item in imports():
        above, below = room(item.importer), room(item.imported)
        level = FLOORS[above] - FLOORS[below]
        if above != below and (level < 0 or (level == 0 and (above, below) not in SIDEWAYS)):
            wrong.append(f"{item.importer}:{item.line} (floor {FLOORS[above]}) imports {item.imported}")
    assert wrong == []


def test_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for item in imports():
        if not item.lazy and item.importer != item.imported:
            graph[item.importer].add(item.imported)
    # Whatever is left once all modules without open imports have been taken away, again and again, is in a cycle.
    while leaves := [name for name, targets in graph.items() if not targets]:
        for leaf in leaves:
            del graph[leaf]
        for targets in graph.values():
            targets.difference_update(leaves)
    assert graph == {}


def test_only_the_composition_root_knows_http() -> None:
    users = {item.importer for item in imports() if room(item.imported) == "api" and room(item.importer) != "api"}
    assert users <= {"hostler.app", "hostler.serving"}
