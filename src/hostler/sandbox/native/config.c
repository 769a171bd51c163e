/* What a sandbox is told at its start, and what a container's root gives up before it runs something of the agent's. */
#define _GNU_SOURCE
#include "state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LAST_CAPABILITY 63

static struct sock_fprog filter; /* the system calls of the agent's programs, where no launcher has set it */

static int open_proxy(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PROXY_PORT)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to) < 0 || listen(fd, 128) < 0) die("the proxy's address");
    return fd;
}

static int hex(char c) { return c >= 'a' ? c - 'a' + 10 : c - '0'; }

static void read_filter(const char *text) {
    size_t len = strlen(text) / 2;
    unsigned char *code = malloc(len + 1);
    if (!code) die("the filter");
    for (size_t i = 0; i < len; i++) code[i] = (unsigned char)(hex(text[2 * i]) << 4 | hex(text[2 * i + 1]));
    filter.filter = (struct sock_filter *)code;
    filter.len = (unsigned short)(len / sizeof(struct sock_filter));
}

/* In a container only: what bubblewrap and its launcher do elsewhere. */
static void apply_container_line(char *p) {
    if (!strncmp(p, "agent=", 6)) agent_uid = (unsigned)strtoul(p + 6, NULL, 10), add_account();
    else if (!strncmp(p, "own=", 4)) own_folder(p + 4, 0755);
    else if (!strncmp(p, "shared=", 7)) own_folder(p + 7, 01777);
    else if (!strncmp(p, "folder=", 7)) make_folders(p + 7);
    else if (!strncmp(p, "link=", 5)) make_link(p + 5);
    else if (!strncmp(p, "filter=", 7)) read_filter(p + 7);
}

/* NUL-ended lines: "memory=N", "processes=N", "file=N", "files=N", "lonely=SECONDS", "proxy", "env:NAME=VALUE"; in a
 * container also "agent=UID", "own=FOLDER", "shared=FOLDER", "folder=FOLDER" (of root's), "link=PATH=TARGET", "filter=HEX" */
void apply_config(char *text, size_t len) {
    size_t vars = 0;
    for (char *p = text; p < text + len; p += strlen(p) + 1) {
        if (!strncmp(p, "env:", 4) && vars < MAX_ENV) environment[vars++] = p + 4;
        else if (!strncmp(p, "memory=", 7)) memory_limit = strtoull(p + 7, NULL, 10);
        else if (!strncmp(p, "processes=", 10)) nproc_limit = strtoull(p + 10, NULL, 10);
        else if (!strncmp(p, "file=", 5)) fsize_limit = strtoull(p + 5, NULL, 10);
        else if (!strncmp(p, "files=", 6)) nofile_limit = strtoull(p + 6, NULL, 10);
        else if (!strncmp(p, "lonely=", 7)) lonely_limit = strtoull(p + 7, NULL, 10);
        else if (!strcmp(p, "proxy")) proxy_fd = open_proxy();
        else if (in_container) apply_container_line(p);
    }
    if (in_container && (!agent_uid || !filter.len)) errno = EINVAL, die("no user or no filter for the agent");
    for (size_t i = 0; environment[i]; i++)
        if (!strncmp(environment[i], "PATH=", 5)) putenv(environment[i]); /* execvpe searches our own PATH */
    configured = true;
}

void drop_capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &head, none) < 0) _exit(126);
}

void become_user(void) {
    if (!agent_uid) return;
    for (int c = 0; c <= LAST_CAPABILITY; c++)
        if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL) _exit(126);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (setgroups(0, NULL) < 0 || setresgid(agent_uid, agent_uid, agent_uid) < 0) _exit(126);
    if (setresuid(agent_uid, agent_uid, agent_uid) < 0 || setuid(0) == 0) _exit(126);
    drop_capabilities();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) _exit(126);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0) _exit(126);
}
