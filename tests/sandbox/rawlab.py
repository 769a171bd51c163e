"""A host for the tests of the raw network: a network namespace of its own, whose only way out leads to `internet.py`.

So a test needs no internet, sees every packet that gets out, and leaves the machine's network as it is.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from sandbox import ordinary

HOST = "185.199.108.2"  # of the host in the lab; it looks public
RESOLVER = "10.9.9.9"  # the lab's name server has a private address, as most have
_HERE = Path(__file__).parent

_LAB = f"""
ip link set lo up
mkfifo "$STAGING/said"
unshare --net "$PYTHON" {shlex.quote(str(_HERE / "internet.py"))} >"$STAGING/said" &
read -r internet <"$STAGING/said"
ip link add up0 type veth peer name inet0 netns "$internet"
ip address add {HOST}/24 dev up0
ip link set up0 up
nsenter --net=/proc/$internet/ns/net sh -ec 'ip address add 185.199.108.1/24 dev inet0; ip link set inet0 up'
ip route add default via 185.199.108.1
echo 'nameserver {RESOLVER}' >"$STAGING/resolv.conf"
mount --bind "$STAGING/resolv.conf" /etc/resolv.conf
"""


def run(scenario: str, *arguments: str, staging: Path, as_root: bool) -> subprocess.CompletedProcess[str]:
    """Run a function of `rawtrials.py` on a host of its own, as root or as a user without privileges."""
    argv = [sys.executable, "-m", "sandbox.rawtrials", scenario, str(staging / "home"), *arguments]
    (staging / "home").mkdir()
    staging.chmod(0o755)
    lines, space = [_LAB], ["unshare", "--net", "--mount"]
    if os.geteuid() != 0:
        space += ["--user", "--map-root-user"]
        argv = ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}", *argv]
    elif not as_root:
        os.chown(staging / "home", ordinary.USER, ordinary.USER)
        lines += ['mknod -m 666 "$STAGING/tun" c 10 200 && mount --bind "$STAGING/tun" /dev/net/tun']
        lines += ordinary.reachable(staging)
        argv = ["setpriv", "--reuid", f"{ordinary.USER}", "--regid", f"{ordinary.USER}", "--clear-groups", "--", *argv]
    paths = [str(_HERE.parent), str(_HERE.parents[1] / "src")]
    environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(staging / "home")}
    environment |= {"STAGING": str(staging), "PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(paths)}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [*space, "sh", "-ec", "\n".join([*lines, '"$@"']), "sh", *argv]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=100, check=False)
