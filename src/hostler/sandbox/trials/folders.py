"""Trials of what a spec adds to a sandbox: writable folders of its own, files of /etc, and the gateway's proxy."""

from __future__ import annotations

from hostler.sandbox.contract import WORKSPACE
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal

TRIALS = Trials()


@TRIALS
async def folders_are_writable_and_stay(lab: Lab) -> None:
    """A folder of the spec is there, the agent's own, and keeps its files when the sandbox is started again."""
    spec = lab.spec(folders=["/repo", "/data/deep/er", f"{WORKSPACE}/inside"])
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, "id -u; stat -c %u /repo /data/deep/er"), "1000\n1000\n1000", "owners")
    expect_equal(await lab.text(sandbox, "echo kept > /repo/a && ln -s / /repo/l && ls /data/deep/er"), "", "writing")
    for beside in ("/x", "/data/x", "/data/deep/x"):
        expect((await lab.shell(sandbox, f"touch {beside}")).exit_code != 0, f"{beside} can be written")
    expect((await lab.shell(sandbox, "rm -r /repo || mv /repo /tmp")).exit_code != 0, "a folder can be taken away")
    await lab.shell(sandbox, "echo kept > /repo/a")
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, "cat /repo/a"), "kept", "the file after a restart")


@TRIALS
async def files_of_etc_are_there_and_read_only(lab: Lab) -> None:
    """A file of /etc has the spec's text, also when the spec changed before the next start."""
    spec = lab.spec(etc={"motd": "one\n"})
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, "cat /etc/motd"), "one", "the text")
    expect((await lab.shell(sandbox, "echo x > /etc/motd || rm -f /etc/motd")).exit_code != 0, "it can be changed")


@TRIALS
async def no_folder_of_the_system_can_be_asked_for(lab: Lab) -> None:
    """A spec with a folder of the system, or one that is no plain path, is refused before anything is made."""
    for folder in ("/etc/x", "/usr", "/proc/1", "relative", "/a/../b", "/"):
        try:
            await lab.sandbox(folders=[folder])
        except ValueError:
            continue
        expect(False, f"{folder} was taken")


@TRIALS
async def a_gateway_opens_nothing_else(lab: Lab) -> None:
    """With no network, the gateway's proxy refuses every other host."""
    sandbox = await lab.sandbox(gateway=True)
    ask = (
        "import socket\n"
        "try: s = socket.create_connection(('127.0.0.1', 3128), 5)\n"
        "except OSError: print('refused'); raise SystemExit\n"
        "s.sendall({request!r})\n"
        "print((s.recv(99) or b'refused').decode().split(chr(13))[0])\n"
    )
    for request in (b"CONNECT example.com:443 HTTP/1.1\r\n\r\n", b"GET http://example.com/ HTTP/1.1\r\n\r\n"):
        said = (await lab.python(sandbox, ask.format(request=request))).output.decode().strip()
        expect("refused" in said or " 403 " in said or " 502 " in said, f"{request!r} got {said}")
    expect_equal(await lab.text(sandbox, "env | grep -i _proxy"), "", "proxy variables")
