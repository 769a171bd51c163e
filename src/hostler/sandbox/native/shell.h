/* The program that the persistent bash runs. It is one line, so that bash's messages count the lines of the agent's script
 * from 1. It reads one letter on 197 (r: run, s: restore, d: dump) and a tag, the script from the memory file 198, which
 * also takes the dump, and reports the exit status with that tag on 199; all three are closed while the agent's script runs.
 * Bash keeps copies of them meanwhile, which a hostile script can find: hence the tag, without which a report is none.
 * Two loops, because the script may `break` out of one. It must print nothing of its own, also not under `set -x`. */
#ifndef HOSTLER_SHELL_H
#define HOSTLER_SHELL_H

#define CONTROL_FD 197
#define SCRIPT_FD 198
#define REPORT_FD 199
#define TAG_LEN 8

#define CLOSED " 197<&- 198<&- 199>&-"
#define STATUS "{ __hostler_rc=$?; } 2>/dev/null;; "

#define NEXT                                                                                               \
    "{ if [[ ${__hostler_busy-} ]]; then __hostler_x=; case $- in *x*) __hostler_x='set -x;'; "            \
    "builtin set +x;; esac; builtin printf '%d %s\\n' \"${__hostler_rc:-0}\" \"$__hostler_tag\" >&199; fi; " \
    "__hostler_busy= __hostler_rc= __hostler_s=; IFS= builtin read -r -N 9 -u 197 __hostler_op || builtin exit; " \
    "__hostler_busy=1; __hostler_tag=${__hostler_op:1}; "                                                  \
    "[[ $__hostler_op == d* ]] || IFS= builtin read -r -d '' __hostler_s <&198; } 2>/dev/null"

/* Order matters: shell options that change parsing first, aliases after the functions that must not be expanded by
 * them, `set` options last so that errexit cannot end the restore. */
#define DUMPED                                                                                               \
    "builtin shopt -p; builtin declare -f; builtin declare -F; builtin declare -p; builtin alias -p; "       \
    "builtin trap; builtin umask -p; builtin printf 'builtin cd -- %q\\n' \"$PWD\"; "                        \
    "[[ $__hostler_x ]] && builtin printf 'builtin set -x\\n'; builtin set +o | while builtin read -r __hostler_o; do " \
    "[[ $__hostler_o == *xtrace ]] || builtin printf '%s\\n' \"$__hostler_o\"; done"

static const char DRIVER[] =
    "__hostler_driver="
    "builtin unset __hostler_driver BASH_EXECUTION_STRING HISTFILE; builtin shopt -s expand_aliases; "
    "while { :; } 2>/dev/null; do while " NEXT "; do case $__hostler_op in "
    "r*) { builtin eval \"${__hostler_x-}$__hostler_s\"; } </dev/null" CLOSED "; " STATUS
    "s*) { builtin eval \"$__hostler_s\"; } </dev/null >/dev/null 2>&1" CLOSED "; " STATUS
    "d*) { " DUMPED "; } </dev/null >&198 2>/dev/null 197<&- 199>&-;; "
    "esac; done; done";

#endif
