/* Finds and ends all that a call started. It must not trust a process to stay where it was put: setsid is no way out. */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_ROUNDS 200
#define MAX_EXITS 4096
#define MAX_DELETED 2048 /* files counted at a look */
#define MAX_LOOKS 65536  /* descriptors */

bool pidlist_add(struct pidlist *l, struct proc p) {
    if (l->len == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        if (cap > MAX_PIDS) return false;
        struct proc *items = realloc(l->items, cap * sizeof *items);
        if (!items) return false;
        l->items = items;
        l->cap = cap;
    }
    l->items[l->len++] = p;
    return true;
}

bool pidlist_has(const struct pidlist *l, pid_t pid, unsigned long long start) {
    for (size_t i = 0; i < l->len; i++)
        if (l->items[i].pid == pid && l->items[i].start == start) return true;
    return false;
}

void pidlist_remove(struct pidlist *l, pid_t pid) {
    for (size_t i = 0; i < l->len; i++)
        if (l->items[i].pid == pid) {
            l->items[i] = l->items[--l->len];
            return;
        }
}

void pidlist_free(struct pidlist *l) {
    free(l->items);
    memset(l, 0, sizeof *l);
}

static ssize_t slurp(const char *path, char *buf, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, buf, size - 1);
    close(fd);
    if (n >= 0) buf[n] = 0;
    return n;
}

static bool proc_read(pid_t pid, struct proc *p) {
    char path[48], buf[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (slurp(path, buf, sizeof buf) <= 0) return false;
    char *s = strrchr(buf, ')'); /* the name may hold anything, also ')' */
    int ppid = 0;
    p->pid = pid;
    if (!s || sscanf(s + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                     &p->state, &ppid, &p->start) != 3)
        return false;
    p->ppid = ppid;
    return true;
}

void proc_scan(struct pidlist *out) {
    DIR *d = opendir("/proc");
    out->len = 0;
    if (!d) return;
    struct dirent *e;
    while ((e = readdir(d))) {
        int pid = atoi(e->d_name);
        struct proc p;
        /* No parent in here: the engine of a container has started it for the server. */
        if (pid > 1 && proc_read(pid, &p) && p.ppid) pidlist_add(out, p);
    }
    closedir(d);
}

static int by_pid(const void *a, const void *b) {
    return ((const struct proc *)a)->pid - ((const struct proc *)b)->pid;
}

const struct proc *proc_find(const struct pidlist *l, pid_t pid) {
    struct proc key = {.pid = pid};
    return l->len ? bsearch(&key, l->items, l->len, sizeof key, by_pid) : NULL;
}

bool proc_below(const struct pidlist *all, const struct proc *p, pid_t root) {
    for (size_t steps = 0; p && steps <= all->len; steps++) {
        if (p->pid == root) return true;
        p = proc_find(all, p->ppid);
    }
    return false;
}

bool proc_below_any(const struct pidlist *all, const struct proc *p, const struct pidlist *roots) {
    for (size_t steps = 0; p && steps <= all->len; steps++) {
        if (pidlist_has(roots, p->pid, p->start)) return true;
        p = proc_find(all, p->ppid);
    }
    return false;
}

uint64_t proc_anonymous_bytes(pid_t pid) {
    /* Page tables too: a process that touches a byte here and there has little else, and of these as much as it likes. */
    static const char *kinds[] = {"\nRssAnon:", "\nRssShmem:", "\nVmPTE:", "\nVmSwap:"};
    char path[48], buf[4096];
    uint64_t sum = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (slurp(path, buf, sizeof buf) <= 0) return 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        unsigned long long kilobytes = 0;
        char *s = strstr(buf, kinds[i]);
        if (s && sscanf(s + strlen(kinds[i]), "%llu", &kilobytes) == 1) sum += kilobytes * 1024;
    }
    return sum;
}

/* The columns: key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap */
static uint64_t detached(bool and_free) {
    static char line[512];
    uint64_t sum = 0;
    FILE *f = fopen("/proc/sysvipc/shm", "re");
    while (f && fgets(line, sizeof line, f)) {
        int id = 0;
        unsigned long long attached = 1, bytes = 0;
        if (sscanf(line, "%*d %d %*o %*u %*d %*d %llu %*u %*u %*u %*u %*u %*u %*u %llu", &id, &attached, &bytes) != 3)
            continue;
        if (attached) continue; /* its pages count with the processes */
        sum += bytes;
        if (and_free) shmctl(id, IPC_RMID, NULL);
    }
    if (f) fclose(f);
    return sum;
}

uint64_t proc_detached_bytes(void) { return detached(false); }

void proc_free_detached(void) { detached(true); }

struct seen {
    ino_t inodes[MAX_DELETED];
    size_t len;
};

static uint64_t deleted_of(pid_t pid, dev_t disk, struct seen *seen, size_t *looks) {
    char path[48];
    uint64_t sum = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    struct dirent *e;
    while (d && *looks < MAX_LOOKS && (e = readdir(d))) {
        struct stat st;
        size_t i = 0;
        ++*looks;
        if (fstatat(dirfd(d), e->d_name, &st, 0) < 0 || !S_ISREG(st.st_mode) || st.st_nlink || st.st_dev != disk) continue;
        while (i < seen->len && seen->inodes[i] != st.st_ino) i++;
        if (i < seen->len || seen->len == MAX_DELETED) continue;
        seen->inodes[seen->len++] = st.st_ino;
        sum += (uint64_t)st.st_blocks * 512;
    }
    if (d) closedir(d);
    return sum;
}

uint64_t proc_deleted_bytes(const char *same_disk) {
    static struct seen seen;
    struct pidlist all = {0};
    struct stat st;
    uint64_t sum = 0;
    size_t looks = 0;
    seen.len = 0;
    if (stat(same_disk, &st) < 0) return 0;
    proc_scan(&all);
    for (size_t i = 0; i < all.len; i++) sum += deleted_of(all.items[i].pid, st.st_dev, &seen, &looks);
    pidlist_free(&all);
    return sum;
}

/* A stopped process keeps its slot under the process limit, so a fork bomb runs out of room instead of out of our sight. */
void proc_kill(bool (*match)(const struct pidlist *, const struct proc *, void *), void *arg) {
    struct pidlist all = {0}, stopped = {0};
    for (int round = 0; round < KILL_ROUNDS; round++) {
        size_t fresh = 0, alive = 0;
        proc_scan(&all);
        qsort(all.items, all.len, sizeof *all.items, by_pid);
        for (size_t i = 0; i < all.len; i++) {
            struct proc *p = &all.items[i];
            if (p->state == 'Z' || p->state == 'X' || !match(&all, p, arg)) continue;
            alive++;
            if (pidlist_has(&stopped, p->pid, p->start)) continue;
            kill(p->pid, SIGSTOP);
            pidlist_add(&stopped, *p);
            fresh++;
        }
        if (!alive) break;
        if (!fresh || round >= KILL_ROUNDS / 2)
            for (size_t i = 0; i < all.len; i++)
                if (match(&all, &all.items[i], arg)) kill(all.items[i].pid, SIGKILL);
        exits_collect();
        if (!fresh && round > 2) usleep(1000);
    }
    pidlist_free(&all);
    pidlist_free(&stopped);
}

static struct exited exits[MAX_EXITS];
static size_t exits_first, exits_len;

void exits_collect(void) {
    int status;
    while (exits_len < MAX_EXITS) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) break;
        exits[(exits_first + exits_len++) % MAX_EXITS] = (struct exited){pid, status};
    }
}

bool exits_next(struct exited *e) {
    if (!exits_len) return false;
    *e = exits[exits_first];
    exits_first = (exits_first + 1) % MAX_EXITS;
    exits_len--;
    return true;
}
