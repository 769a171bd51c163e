"""Trials of what sandboxes share read-only: layers of packages, and folders of the host."""

from __future__ import annotations

from hostler.sandbox.contract import LAYERS, NO_NETWORK, Folder, Layer
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal

TRIALS = Trials()
_IMPORT = "import hostler_probe; print(hostler_probe.NAME)"


def _layer(lab: Lab, key: str, name: str) -> Layer:
    """A layer with one module, and a program that goes by `python3 -m`."""
    package = lab.folder / key / "python" / "hostler_probe"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"NAME = {name!r}\n")
    (package / "__main__.py").write_text("from hostler_probe import NAME\nprint(NAME)\n")
    for path in (lab.folder, lab.folder / key, package.parent, package):
        path.chmod(0o755)
    return Layer(key=key, source=lab.folder / key)


@TRIALS
async def layer_is_imported_however_python_starts(lab: Lab) -> None:
    """`python3 -c`, a script, `-m`, a child process and a changed PYTHONPATH all find a layer's packages."""
    sandbox = await lab.sandbox(layers=[_layer(lab, "one", "layered")])
    await lab.shell(sandbox, f"mkdir /tmp/d; echo '{_IMPORT}' > /tmp/d/script.py")
    ways = {
        "-c": f"python3 -c '{_IMPORT}'",
        "script": "python3 /tmp/d/script.py",
        "-m": "cd / && python3 -m hostler_probe",
        "child": "python3 -c 'import subprocess, sys; subprocess.run([sys.executable, \"/tmp/d/script.py\"])'",
        "PYTHONPATH": f"PYTHONPATH=/workspace python3 -c '{_IMPORT}'",
        "empty environment": "env -i python3 /tmp/d/script.py",
    }
    for way, script in ways.items():
        expect_equal(await lab.text(sandbox, script), "layered", way)
    expect_equal((await lab.python(sandbox, _IMPORT)).output, b"layered\n", "without the shell")


@TRIALS
async def layer_can_only_be_read(lab: Lab) -> None:
    """Nobody inside changes a layer, so that sessions can share it."""
    sandbox = await lab.sandbox(layers=[_layer(lab, "one", "layered")])
    result = await lab.shell(sandbox, f"cd {LAYERS}/one && ( echo > new; rm -rf python; : > python/hostler_probe/x )")
    expect(result.exit_code != 0, "a layer was written to")
    expect_equal(sorted(path.name for path in (lab.folder / "one").iterdir()), ["python"], "what is in the layer")


@TRIALS
async def layer_stands_behind_what_the_agent_installs(lab: Lab) -> None:
    """A package that the agent installs for itself hides that of a layer, and a virtual environment has none of it."""
    sandbox = await lab.sandbox(layers=[_layer(lab, "one", "layered")])
    own = "$(python3 -c 'import site; print(site.getusersitepackages())')/hostler_probe"
    await lab.shell(sandbox, f'mkdir -p "{own}"; echo "NAME = \'own\'" > "{own}/__init__.py"')
    expect_equal(await lab.text(sandbox, f"python3 -c '{_IMPORT}'"), "own", "the agent's package")
    venv = "python3 -m venv --without-pip /tmp/v && /tmp/v/bin/python -c 'import hostler_probe' 2>&1 | tail -n 1"
    expect("hostler_probe" in (said := await lab.text(sandbox, venv)) and "No module" in said, f"a venv: {said}")


@TRIALS
async def layer_is_there_again_after_hibernation(lab: Lab) -> None:
    """A resumed sandbox has the layers of its spec, also such as it was not started with before."""
    spec = lab.spec(layers=[_layer(lab, "one", "first")])
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, f"python3 -c '{_IMPORT}'"), "first", "the module")
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, f"python3 -c '{_IMPORT}'"), "first", "the module after a rest")
    await lab.backend.hibernate(spec.key)
    other = lab.spec(layers=[_layer(lab, "two", "second")])
    sandbox = await lab.backend.provision(type(spec)(key=spec.key, network=NO_NETWORK, layers=other.layers))
    expect_equal(await lab.text(sandbox, f"python3 -c '{_IMPORT}'"), "second", "the module of another layer")


@TRIALS
async def layer_survives_what_the_agent_puts_in_its_way(lab: Lab) -> None:
    """A link where the agent's packages go leads nothing of ours out of the sandbox, and it starts all the same."""
    spec = lab.spec(layers=[_layer(lab, "one", "layered")])
    sandbox = await lab.backend.provision(spec)
    (lab.folder / "victim").mkdir(mode=0o777)
    await lab.shell(sandbox, f"rm -rf ~/.local; ln -s {lab.folder}/victim ~/.local")
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, "echo up"), "up", "the sandbox")
    expect_equal(list((lab.folder / "victim").iterdir()), [], "what was written through the link")


@TRIALS
async def shared_folder_is_read_only(lab: Lab) -> None:
    """A folder of the host appears where the spec says, with all that is below it, and cannot be changed."""
    source = lab.folder / "shared"
    (source / "below").mkdir(parents=True)
    (source / "below" / "file").write_text("text")
    for path in (lab.folder, source, source / "below"):
        path.chmod(0o755)
    sandbox = await lab.sandbox(shared=[Folder(source=source, target="/mnt/shared/here")])
    expect_equal(await lab.text(sandbox, "cat /mnt/shared/here/below/file"), "text", "the file")
    result = await lab.shell(sandbox, "echo x > /mnt/shared/here/below/file")
    expect(result.exit_code != 0, "it was written to")
    for target in ("/workspace/in", "/workspace", "/mnt", "/etc/x", "relative", "/a/../b"):
        try:
            await lab.sandbox(shared=[Folder(source=source, target=target)])
        except ValueError:
            continue
        expect(False, f"{target} was accepted")


def _files(lab: Lab, key: str, files: dict[str, str]) -> Layer:
    """A layer with these files, programs all of them."""
    top = lab.folder / key
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in (lab.folder, top, *top.rglob("*")):
        path.chmod(0o755)
    return Layer(key=key, source=top)


@TRIALS
async def layer_has_programs(lab: Lab) -> None:
    """Programs of a layer's `bin` and `python/bin` are on PATH, before the system's and behind the agent's own."""
    files = {"bin/hostler-one": "#!/bin/sh\necho one\n", "bin/ls": "#!/bin/sh\necho layered\n"}
    more = {"python/bin/hostler-two": "#!/bin/sh\necho two\n"}
    sandbox = await lab.sandbox(layers=[_files(lab, "one", files), _files(lab, "two", more)])
    expect_equal(await lab.text(sandbox, "hostler-one; hostler-two; ls"), "one\ntwo\nlayered", "the programs")
    own = "mkdir -p ~/.local/bin; cd ~/.local/bin; printf '#!/bin/sh\\necho own\\n' > ls; chmod +x ls; hash -r; ls"
    expect_equal(await lab.text(sandbox, own), "own", "the agent's own program")


@TRIALS
async def layer_has_modules_of_node(lab: Lab) -> None:
    """What is in a layer's `lib/node_modules` is where node looks from every folder, and cannot be changed."""
    layer = _files(lab, "one", {"lib/node_modules/hostler-probe/index.js": "module.exports = 'layered'\n"})
    sandbox = await lab.sandbox(layers=[layer])
    expect_equal(await lab.text(sandbox, "ls /node_modules"), "hostler-probe", "the modules")
    result = await lab.shell(sandbox, ": > /node_modules/hostler-probe/index.js")
    expect(result.exit_code != 0, "a module was written to")


@TRIALS
async def layer_lies_over_the_system(lab: Lab) -> None:
    """The folders of a layer's `system` lie over the system's, whose other files are there, and what every sandbox
    brings itself stays: users, names, certificates, and the programs of ours. Nothing of it can be changed inside."""
    files = {
        "system/usr/bin/hostler-probe": "#!/bin/sh\necho layered\n",
        "system/etc/hostler/conf": "conf",
        "system/etc/passwd": "evil:x:0:0::/:/bin/sh\n",
        "system/var/lib/hostler/state": "state",
        "system/opt/hostler-probe/x": "opt",
    }
    sandbox = await lab.sandbox(layers=[_files(lab, "one", files)])
    expect_equal(await lab.text(sandbox, "hostler-probe && ls -d /usr/bin/env"), "layered\n/usr/bin/env", "programs")
    said = await lab.text(sandbox, "cat /etc/hostler/conf /var/lib/hostler/state /opt/hostler-probe/x")
    expect_equal(said, "confstateopt", "other files")
    expect("evil" not in await lab.text(sandbox, "cat /etc/passwd"), "users came from the layer")
    expect_equal(await lab.text(sandbox, "ls /var/tmp; touch /var/tmp/x && ls /var/tmp"), "x", "the agent's own folder")
    for path in ("/usr/bin/x", "/usr/bin/hostler-probe", "/etc/x", "/var/lib/x", "/opt/x", "/opt/hostler-probe/x"):
        result = await lab.shell(sandbox, f"echo x > {path}")
        expect(result.exit_code != 0, f"{path} was written to")
    expect_equal((lab.folder / "one/system/etc/hostler/conf").read_text(), "conf", "the layer")


@TRIALS
async def layer_leads_nowhere_else(lab: Lab) -> None:
    """A link in the place of one of a layer's folders brings nothing of the host into the sandbox."""
    (lab.folder / "secret").mkdir()
    (lab.folder / "secret" / "file").write_text("secret")
    top = lab.folder / "one"
    (top / "lib").mkdir(parents=True)
    (top / "lib" / "node_modules").symlink_to(lab.folder / "secret")
    (top / "system").symlink_to(lab.folder / "secret")
    for path in (lab.folder, top, top / "lib", lab.folder / "secret"):
        path.chmod(0o755)
    sandbox = await lab.sandbox(layers=[Layer(key="one", source=top)])
    said = await lab.text(sandbox, f"cat /node_modules/file {LAYERS}/one/lib/node_modules/file 2>&1; true")
    expect("secret" not in said.replace("/secret", ""), f"a file of the host: {said}")
