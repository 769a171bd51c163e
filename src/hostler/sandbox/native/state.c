/* The one copy of what there is, and the small things that every part needs. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct call *calls;
size_t call_count;
int conns[MAX_CONNS] = {-1, -1, -1, -1};
int listen_fd = -1, signal_fd = -1, proxy_fd = -1, oom_fd = -1;
bool contacted, configured, in_container;
unsigned agent_uid;
char *environment[MAX_ENV + 2];
uint64_t memory_limit, nproc_limit, fsize_limit, nofile_limit = 65536, lonely_limit;
struct shell shell = {.control = -1, .report = -1, .memory = -1, .dump_conn = -1};

long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void die(const char *what) {
    dprintf(2, "hostler-init: %s: %s\n", what, strerror(errno));
    _exit(70);
}

bool write_all(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

int memory_file(const void *data, size_t len) {
    int fd = memfd_create("hostler", MFD_CLOEXEC);
    if (fd < 0) return -1;
    if (!write_all(fd, data, len) || lseek(fd, 0, SEEK_SET) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}
