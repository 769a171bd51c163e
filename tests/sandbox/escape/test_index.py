"""Every probe has a proof that exists; no trial of isolation and no test of this folder stands outside the index."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from hostler.sandbox.selfcheck import TRIALS
from hostler.sandbox.trials import isolation, kernel, limits, network
from sandbox.escape.index import PROBES

TESTS = Path(__file__).parents[2]
PAGE = TESTS.parent / "docs" / "security.md"
PROOFS = {proof for proofs in PROBES.values() for proof in proofs}
_TRIALS = {trial.name for trial in TRIALS}


@cache
def _tests_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def _exists(proof: str) -> bool:
    file, _, name = proof.partition("::")
    return name in _tests_of(file) if name else proof in _TRIALS


def test_every_proof_exists() -> None:
    assert [proof for proof in sorted(PROOFS) if not _exists(proof)] == []
    assert all(PROBES.values())


def test_nothing_stands_outside() -> None:
    """But for what is no probe: that ordinary programs go on working."""
    ordinary = {"ordinary programs still work", "the clock and certificates are there"}
    trials = {t.name for m in (isolation, kernel, limits, network) for t in m.TRIALS}
    tests = {
        f"sandbox/escape/{file.name}::{name}"
        for file in Path(__file__).parent.glob("test_*.py")
        if file.name not in ("test_index.py", "test_mutations.py", "test_ordinary_user.py")
        for name in _tests_of(f"sandbox/escape/{file.name}")
        if "the_probes_would" not in name
    }
    assert (trials | tests) - PROOFS - ordinary == set()


def test_the_page_names_proofs_that_exist() -> None:
    """Each claim of docs/security.md has a test, written as `file::test` or as a trial's name in quotes."""
    rows = re.findall(r"^\| .+ \| (.+) \|$", PAGE.read_text().partition("## Which test proves what")[2], re.MULTILINE)
    named = [proof for row in rows[1:] for proof in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 20
    assert [proof for proof in named if not _exists(proof)] == []
