/* The lines that hostler-init feeds to the persistent bash. They are its stdin, so no loop and no marker is needed:
 * bash's own main loop is the driver. 198 is a memory file that holds the script (or takes the dump), 199 the pipe on
 * which bash reports the exit status; both are closed while the agent's script runs. */
#ifndef HOSTLER_SHELL_H
#define HOSTLER_SHELL_H

#define SCRIPT_FD 198
#define REPORT_FD 199

#define REPORT                                                                                       \
    "{ __hostler_rc=$? __hostler_x=; case $- in *x*) __hostler_x='set -x;'; builtin set +x;; esac; " \
    "builtin printf '%d\\n' \"$__hostler_rc\" >&199; } 2>/dev/null\n"

#define READ "{ IFS= builtin read -r -d '' __hostler_s <&198; } 2>/dev/null; "

static const char LINE_SETUP[] = "shopt -s expand_aliases; unset HISTFILE\n";

static const char LINE_RUN[] =
    READ "{ builtin eval \"${__hostler_x-}$__hostler_s\"; } </dev/null 198<&- 199>&-; " REPORT;

static const char LINE_RESTORE[] =
    READ "{ builtin eval \"$__hostler_s\"; } </dev/null >/dev/null 2>&1 198<&- 199>&-; " REPORT;

/* Order matters: shell options that change parsing first, aliases after the functions that must not be expanded by
 * them, `set` options last so that errexit cannot end the restore. */
static const char LINE_DUMP[] =
    "{ builtin unset __hostler_s; builtin shopt -p; builtin declare -f; builtin declare -F; builtin declare -p; "
    "builtin alias -p; builtin trap; builtin umask -p; builtin printf 'builtin cd -- %q\\n' \"$PWD\"; "
    "builtin printf 'case %q in *x*) __hostler_x=\"set -x;\";; esac\\n' \"${__hostler_x:+x}\"; "
    "builtin set +o; } </dev/null >&198 2>/dev/null 199>&-; " REPORT;

#endif
