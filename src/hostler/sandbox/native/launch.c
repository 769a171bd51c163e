/* The step before bwrap: joins the control groups, and, for a server run by root, makes what bwrap needs reachable and
 * gives up root. It must not exec anything as root.
 *
 *   hostler-init launch [--join FD]... [--drop UID GID [--stage SOURCE NAME]...] -- PROGRAM ARG...
 *
 * With --drop, every SOURCE appears as /tmp/hostler-stage/NAME in a mount namespace of its own, whatever the modes of the
 * folders above it.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_STAGED 64

struct staged {
    int fd;
    const char *name;
};

void launch_fail(const char *what, const char *which) {
    dprintf(2, "hostler-init: %s %s: %s\n", what, which, strerror(errno));
    _exit(71);
}

void launch_join(const char *fd) {
    if (write(atoi(fd), "0", 1) < 0) launch_fail("cannot join the control group", fd);
    close(atoi(fd));
}

static void place(const struct staged *s) {
    char from[64], to[512];
    struct stat st;
    snprintf(from, sizeof from, "/proc/self/fd/%d", s->fd);
    if (snprintf(to, sizeof to, "/tmp/hostler-stage/%s", s->name) >= (int)sizeof to || fstat(s->fd, &st) < 0)
        launch_fail("cannot stage", s->name);
    for (char *p = to + strlen("/tmp/hostler-stage/"); (p = strchr(p, '/')); p++) {
        *p = 0;
        if (mkdir(to, 0755) < 0 && errno != EEXIST) launch_fail("cannot make", to);
        *p = '/';
    }
    if (S_ISDIR(st.st_mode)) {
        if (mkdir(to, 0755) < 0 && errno != EEXIST) launch_fail("cannot make", to);
    } else {
        int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0) launch_fail("cannot make", to);
        close(fd);
    }
    if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0) launch_fail("cannot bind", s->name);
    close(s->fd);
}

/* Before any source is opened: a mount can only be bound within the namespace it was opened in. */
static void own_mounts(void) {
    if (unshare(CLONE_NEWNS) < 0) launch_fail("cannot make", "a mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) launch_fail("cannot make private", "/");
}

static void stage(const struct staged *items, int n) {
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=4m") < 0) launch_fail("cannot mount", "/tmp");
    if (mkdir("/tmp/hostler-stage", 0755) < 0) launch_fail("cannot make", "/tmp/hostler-stage");
    for (int i = 0; i < n; i++) place(&items[i]);
}

void launch_drop(unsigned uid, unsigned gid) {
    if (uid == 0 || gid == 0) launch_fail("refused to run as", "root");
    if (setgroups(0, NULL) < 0) launch_fail("cannot drop", "groups");
    if (setresgid(gid, gid, gid) < 0) launch_fail("cannot become", "the sandbox's group");
    if (setresuid(uid, uid, uid) < 0) launch_fail("cannot become", "the sandbox's user");
    if (setuid(0) == 0) launch_fail("could become", "root again");
    prctl(PR_SET_DUMPABLE, 1); /* bwrap must read its own /proc */
}

int launch_main(int argc, char **argv) {
    static struct staged items[MAX_STAGED];
    int n = 0, i = 1;
    unsigned uid = 0, gid = 0;
    for (; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "--join") && i + 1 < argc) launch_join(argv[++i]);
        else if (!strcmp(argv[i], "--drop") && i + 2 < argc) {
            uid = (unsigned)atol(argv[++i]);
            gid = (unsigned)atol(argv[++i]);
            own_mounts();
        } else if (!strcmp(argv[i], "--stage") && i + 2 < argc && uid && n < MAX_STAGED) {
            items[n].fd = open(argv[++i], O_PATH | O_CLOEXEC);
            if (items[n].fd < 0) launch_fail("cannot open", argv[i]);
            items[n++].name = argv[++i];
        } else {
            errno = EINVAL;
            launch_fail("unknown option", argv[i]);
        }
    }
    if (i + 1 >= argc) {
        errno = EINVAL;
        launch_fail("no program", "given");
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir("/") < 0) launch_fail("cannot enter", "/");
    if (uid) {
        stage(items, n);
        launch_drop(uid, gid);
    }
    static char *empty[] = {NULL};
    execve(argv[i + 1], argv + i + 1, empty);
    launch_fail("cannot run", argv[i + 1]);
    return 1;
}
