"""What a package's own scripts may try while it is built: on the host, on other layers, on the sessions to come."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostler.sandbox.layers import buildlog, systembase
from hostler.sandbox.layers.packages import PackageSet
from hostler.sandbox.rootfs import Layout
from sandbox import registries
from sandbox.registries import serving
from sandbox.test_managers import build, needs, refusal, run_in

PROBE = "hostler-probe"


@pytest.fixture
def folder(folder: Path) -> Path:
    registries.share_base(folder.with_name("layers"))
    return folder.with_name("layers")


def npm(folder: Path, tmp_path: Path, script: str, *, fails: bool = False, **config: int) -> str:
    """What a session sees of a package with this install script, or why there is none."""
    with serving() as registry:
        registries.npm_package(registry, PROBE, install=script)
        settings = registries.npm_settings(registry, tmp_path / "npm")
        packages = PackageSet(manager="npm", lines=(PROBE,))
        if fails:
            return str(refusal(folder, settings, packages, **config))
        layer = build(folder, settings, packages, **config)
        return run_in([layer], f"cat /node_modules/{PROBE}/said; ls /node_modules", folder)


@needs("npm", "node")
def test_a_script_reaches_nothing_of_the_host(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("host's")
    victim.chmod(0o666)
    other = folder / "0123456789abcdef0123456789abcdef"
    (other / "python").mkdir(parents=True)
    tries = (
        f"cat {victim}",
        f"echo x > {victim}",
        f"ls {folder}",
        f"echo x > {other}/python/evil",
        "echo x > /opt/hostler/layers/evil",
        "echo x > /usr/bin/evil",
        "mknod dev c 1 3",
        "unshare -U true",
        "mount -t tmpfs none /mnt",
        "ls /proc/1/root",
    )
    script = "; ".join(f"({each}) >/dev/null 2>&1 && echo DID {i} >> said" for i, each in enumerate(tries))
    seconds = 100_000 + os.getpid()
    said = npm(folder, tmp_path, f"echo ran > said; {script}; setsid sleep {seconds} >/dev/null 2>&1 & true")
    assert said.splitlines() == ["ran", PROBE]
    assert victim.read_text() == "host's"
    assert os.listdir(other / "python") == []
    assert not any(f"sleep\x00{seconds}" in _command(pid) for pid in os.listdir("/proc") if pid.isdecimal())


def _command(pid: str) -> str:
    try:
        return Path("/proc", pid, "cmdline").read_text()
    except OSError:
        return ""


@needs("npm", "node")
def test_what_a_script_leaves_is_looked_at(folder: Path, tmp_path: Path) -> None:
    top = "$npm_config_global_prefix"
    assert "is neither a file nor a folder" in npm(folder, tmp_path, f"mkfifo {top}/lib/pipe", fails=True)
    assert "none of the folders of packages" in npm(folder, tmp_path, f"mkdir {top}/system", fails=True)
    assert "layer_mb" in npm(folder, tmp_path, f"head -c 3000000 /dev/zero > {top}/bin/large", fails=True, layer_mb=2)
    deep = f"cd {top}/lib; for i in $(seq 80); do mkdir d; cd d; done"
    assert "too deep" in npm(folder, tmp_path, deep, fails=True)
    said = npm(
        folder, tmp_path, f"cp /usr/bin/id said-id; chmod 6755 said-id; stat -c %A said-id > said; ln -s / {top}/bin/r"
    )
    assert said.splitlines()[0] == "-rwsr-sr-x"
    layer = next(path for path in folder.iterdir() if len(path.name) == 32)
    left = layer / "lib/node_modules" / PROBE / "said-id"
    assert left.stat().st_mode & 0o7777 == 0o755


@needs("npm", "node")
def test_the_log_of_a_build_leads_nowhere(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not show this\n")
    said = npm(folder, tmp_path, f"rm -f /workspace/build.log; ln -s {secret} /workspace/build.log; exit 1", fails=True)
    assert "do not show" not in said
    for left in ("link", "pipe", "folder"):
        path = tmp_path / left
        path.symlink_to(secret) if left == "link" else os.mkfifo(path) if left == "pipe" else path.mkdir()
        assert buildlog.read(path, 0, str) is None
        assert buildlog.tail(path) == ""


def test_the_log_is_bounded_plain_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\n\x1b[31mred\x1b[0m \x07bell\r50%\r100%\nhalf")
    said = buildlog.read(log, 0, lambda text: text.replace("one", "****"))
    assert said is not None
    assert said.lines == ["****", "red bell", "50%", "100%"]
    log.write_bytes(log.read_bytes() + b" whole\n")
    more = buildlog.read(log, said.position, str)
    assert more is not None
    assert more.lines == ["half whole"]
    log.write_bytes(b"x" * 300_000)
    endless = buildlog.read(log, 0, str)
    assert endless is not None
    assert endless.position > 0
    assert len(endless.lines[0]) <= 500


@needs("apt-get", "dpkg")
def test_root_of_a_build_is_nobody(folder: Path, tmp_path: Path) -> None:
    """What a package's script does as root changes neither the host nor what every sandbox brings itself."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "status").write_text("Package: leaked\nStatus: install ok installed\nVersion: 1\n")
    tries = (
        f"echo x > {victim}/y",
        "mount -t tmpfs none /mnt",
        "chroot / true",
        "unshare -m true",
        "echo 1 > /proc/sys/kernel/panic",
        "mknod /dev/evil c 1 3",
        "cat /etc/shadow",
        "ls /boot/grub",
    )
    script = "; ".join(f"({each}) >/dev/null 2>&1 && echo DID {i} >> /usr/share/said" for i, each in enumerate(tries))
    planted = (
        "mkdir -p /opt/hostler/bin; echo evil > /opt/hostler/bin/git; echo evil > /opt/hostler/evil; "
        "echo 'nameserver 9.9.9.9' > /etc/resolv.conf; echo evil > /etc/hosts; mkdir -p /etc/ssl/certs; "
        "echo evil > /etc/ssl/certs/evil.pem; echo evil:x:0:0::/:/bin/sh >> /etc/passwd"
    )
    after = f"rm -rf /var/lib/dpkg/info; ln -s {victim} /var/lib/hostler; rm -rf /var/log; ln -s {victim} /var/log"
    with serving() as registry:
        registries.apt_package(
            registry,
            PROBE,
            {"usr/share/probe": "x"},
            scripts={"postinst": f"#!/bin/sh\necho ran > /usr/share/said\n{script}\n{planted}\n{after}\nexit 0\n"},
        )
        settings = registries.apt_settings(registry, tmp_path / "apt")
        layer = build(folder, settings, PackageSet(manager="apt", lines=(PROBE,)))
    looks = "cat /usr/share/said; grep -c evil /etc/hosts /etc/passwd; grep -c 9.9.9 /etc/resolv.conf; ls /opt/hostler"
    said = run_in([layer], f"{looks}; ls /opt/hostler/bin /etc/ssl/certs; cat /var/lib/hostler/status", folder)
    assert said.startswith("ran\n/etc/hosts:0\n/etc/passwd:0\n0\n")
    assert "evil" not in said.replace("/etc/", "")
    assert "DID" not in said
    assert "leaked" not in said
    assert os.listdir(victim) == ["status"]


def test_links_in_what_a_build_changed_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for name in ("dpkg", "apt", "cache", "kept"):
        (victim / name).mkdir(parents=True)
        (victim / name / "file").write_text("x")
    for part, name, to in (("var", "lib", victim), ("var", "cache", victim / "cache"), ("opt", "hostler", victim)):
        layout = Layout(tmp_path / f"build-{part}-{name}")
        for each in systembase.PARTS:
            (systembase.changes(layout, each) / "up").mkdir(parents=True)
        (systembase.changes(layout, part) / "up" / name).symlink_to(to)
        systembase.collect(layout, tmp_path / f"half-{part}-{name}")
        assert not (tmp_path / f"half-{part}-{name}" / "system" / part / name).is_symlink()
    assert sorted(path.name for path in victim.rglob("file")) == ["file"] * 4
