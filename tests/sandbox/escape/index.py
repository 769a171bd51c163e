"""Which trial or test proves which probe: every one that the issue names, and those that were found beside it.

A proof is the name of a trial of the conformance suite, or `file::test` below `tests`. `test_index.py` checks it.
"""

from __future__ import annotations

HOST = "sandbox/escape/test_host.py::test_"
OUT = "sandbox/escape/test_smuggling.py::test_"
TRAPS = "sandbox/escape/test_traps.py::test_"
TENANTS = "sandbox/escape/test_tenants.py::test_"
ARCHIVES = "sandbox/escape/test_archives.py::test_"
SECRETS = "sandbox/escape/test_secrets.py::test_"
SKILLS = "unit/skills/test_bundle.py::test_"
EGRESS = "unit/sandbox/test_egress.py::test_"
SERVER = "sandbox/test_hostile_session.py::test_"
OUTLIVING = "sandbox/test_outliving.py::test_"
LAYERS = "sandbox/test_layers.py::test_"

PROBES: dict[str, tuple[str, ...]] = {
    # what is not a sandbox's own
    "host files": ("no file of the host is inside", f"{HOST}no_file_of_the_server_or_of_another_session"),
    "the links of /proc": (f"{HOST}no_file_of_the_server_or_of_another_session", "the init cannot be touched"),
    "descriptors left open": ("no descriptor leaks in", "shell hides the drivers descriptors"),
    "other sessions' files": (
        "sandboxes do not see each other",
        f"{TENANTS}an_agent_finds_nothing_of_another_session_or_of_the_server",
    ),
    "other sessions' processes": ("sandboxes do not see each other", f"{TENANTS}the_first_session_is_as_it_was"),
    "other sessions' ports and sockets": (f"{HOST}a_sandbox_is_no_way_into_another",),
    "the host's processes": (f"{HOST}the_other_processes_of_the_host_do_not_exist",),
    "the server's environment": (
        "no secret of the server is inside",
        f"{SERVER}no_secret_is_written_told_or_given",
    ),
    "the server's database, keys and blobs": (
        f"{TENANTS}an_agent_finds_nothing_of_another_session_or_of_the_server",
        f"{TENANTS}the_servers_files_are_nobodys_else",
        f"{SERVER}the_data_folder_is_for_nobody_else",
    ),
    "host ports": ("the host cannot be reached", f"{HOST}no_port_and_no_socket_of_the_host"),
    "abstract sockets": ("the host cannot be reached", f"{HOST}no_port_and_no_socket_of_the_host"),
    "unix sockets": (f"{HOST}no_port_and_no_socket_of_the_host",),
    # the kernel
    "namespaces": ("dangerous system calls are refused",),
    "mounts": (
        "dangerous system calls are refused",
        f"{HOST}mounts_give_no_rights_and_no_devices",
        "the system is read only",
    ),
    "ptrace and the memory of others": ("the init cannot be read", "the init cannot be touched"),
    "bpf": ("dangerous system calls are refused",),
    "keyrings": ("dangerous system calls are refused", f"{HOST}the_users_keys_are_not_even_named"),
    "io_uring": ("dangerous system calls are refused",),
    "performance events": ("dangerous system calls are refused",),
    "user faults": ("dangerous system calls are refused",),
    "kexec and modules": ("dangerous system calls are refused",),
    "calls by another door": (f"{HOST}calls_of_other_machines_and_of_later_kernels",),
    "devices": ("the system is read only", "no right can be won", "the kernel tells no secret"),
    "sysctls": ("the hosts settings cannot be written",),
    "/sys and control groups": ("the kernel tells no secret",),
    "terminals": (f"{HOST}a_terminal_takes_no_input_from_inside",),
    "core dumps": ("a crash starts no program of the host",),
    "set-user-id and file capabilities": (
        "no right can be won",
        f"{HOST}mounts_give_no_rights_and_no_devices",
        f"{TRAPS}a_set_user_id_file_is_nobodys_door",
    ),
    "being root": ("nobody inside is root outside", f"{HOST}the_host_knows_its_own"),
    # exhaustion
    "fork bomb": ("a fork bomb is contained", "processes are limited"),
    "threads": ("threads are limited",),
    "memory": ("memory is limited", "memory cannot be hidden", "no memory file is lent"),
    "disk": ("the disk is limited", "disk space cannot be hidden", "files are limited"),
    "inodes": ("disk space cannot be hidden", f"{TRAPS}no_more_names_are_looked_at_than_anybody_wants"),
    "tmpfs": ("a full tmp cripples nothing", "memory cannot be hidden"),
    "descriptors": ("descriptors are limited", "no sandbox starves another"),
    "output floods": ("huge output is capped", "a hostile command cannot stop the others"),
    "huge single lines": (f"{TRAPS}a_flood_of_output_in_one_line_costs_its_limit",),
    "the last of the disk": ("sandbox/test_parts.py::test_a_nearly_full_disk_ends_what_runs",),
    # getting away
    "setsid past a timeout": ("timeout ends all that a call started", "exec leftovers end with it"),
    "setsid past a cancel": ("cancel ends all that a call started",),
    "a daemon past the end": ("what left its parents ends with the sandbox", f"{HOST}the_host_knows_its_own"),
    "signals to the init": ("the init cannot be touched", "the init waits for nobody"),
    "forged results": ("a result cannot be forged by accident or guess",),
    # files from outside
    "hard links to inputs": ("no right can be won", f"{TRAPS}an_input_that_is_shared_cannot_be_held"),
    "leases and locks on inputs": (f"{TRAPS}an_input_that_is_shared_cannot_be_held", "odd outputs harm nobody"),
    "traps in outputs": ("outputs do not follow planted links", f"{TRAPS}outputs_full_of_traps"),
    "races in outputs": ("no race leads outputs to the host",),
    "traps in the way of inputs": (
        "inputs do not follow planted links",
        "an input whose way is blocked is left out",
        "inputs stay out of the system",
    ),
    "races in the way of inputs": ("no race leads inputs to the host",),
    "folders that were locked": (
        "locked folders cost their content",
        "sandbox/test_parts.py::test_deep_and_locked_trees_are_deleted",
    ),
    "names that are no text": (
        "odd outputs harm nobody",
        f"{TRAPS}outputs_full_of_traps",
        f"{SERVER}hostile_outputs_do_not_spoil_a_turn",
    ),
    "archive bombs": (
        f"{SKILLS}what_an_archive_says_of_its_sizes_is_not_believed",
        f"{SKILLS}archives_with_very_many_entries_are_not_even_opened",
        f"{ARCHIVES}an_archive_of_zeros_is_no_bomb",
    ),
    "links and names in archives": (
        f"{SKILLS}links_and_special_files_are_refused",
        f"{SKILLS}names_in_an_archive_that_are_refused",
        f"{ARCHIVES}an_archive_that_lies_is_damage_and_leaves_nothing",
        f"{ARCHIVES}rights_in_an_archive_are_the_agents_own",
        "lives/test_archives.py::test_hostile_archives_leave_nothing",
    ),
    # the way out
    "packages' scripts": (
        "sandbox/test_hostile_packages.py::test_a_script_reaches_nothing_of_the_host",
        "sandbox/test_hostile_packages.py::test_root_of_a_build_is_nobody",
        "sandbox/test_hostile_packages.py::test_links_in_what_a_build_changed_are_not_followed",
    ),
    "smuggling by lengths": (f"{OUT}no_request_is_smuggled", f"{EGRESS}exactly_one_request_body_is_passed_on"),
    "smuggling by targets": (f"{OUT}no_target_is_read_in_two_ways",),
    "addresses in every spelling": (
        f"{OUT}no_address_of_this_host_in_any_spelling",
        "sandbox/test_egress_tools.py::test_this_host_is_reached_by_no_spelling",
    ),
    "DNS rebinding": (f"{OUT}what_was_looked_at_is_what_is_connected_to",),
    "a name in TLS that is not the host's": (
        "sandbox/escape/test_names.py::test_no_greeting_for_another_name_gets_out",
    ),
    "a secret that comes back": (f"{SECRETS}no_echo_tells_the_value", f"{SECRETS}no_spelling_tells_the_value"),
    "a secret for another host": (f"{SECRETS}the_value_goes_nowhere_else",),
    "sockets past the proxy": (
        "an open network leads to public addresses only",
        "sandbox/test_rawnet.py::test_raw_network",
    ),
    "no network means none": ("the host cannot be reached", "a gateway opens nothing else"),
}
