/* Keeps the head and the tail of a stream in bounded memory. It must never make the writer wait for a reader outside. */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define HALF (OUTPUT_LIMIT / 2)
#define CHUNK 65536

void capture_init(struct capture *c, int fd) {
    memset(c, 0, sizeof *c);
    c->fd = fd;
}

static size_t grow(unsigned char **buf, uint32_t *cap, uint32_t len, size_t more) {
    size_t want = (size_t)len + more;
    if (want > HALF) want = HALF;
    if (want > *cap) {
        size_t next = *cap ? *cap : 4096;
        while (next < want) next *= 2;
        if (next > HALF) next = HALF;
        unsigned char *p = realloc(*buf, next);
        if (!p) return 0; /* out of memory: the bytes are counted, not kept */
        *buf = p;
        *cap = (uint32_t)next;
    }
    return want - len;
}

void capture_add(struct capture *c, const unsigned char *data, size_t len) {
    c->total += len;
    if (c->head_len < HALF) {
        size_t n = grow(&c->head, &c->head_cap, c->head_len, len);
        memcpy(c->head + c->head_len, data, n);
        c->head_len += (uint32_t)n;
        data += n;
        len -= n;
    }
    if (len && c->tail_len < HALF) {
        size_t n = grow(&c->tail, &c->tail_cap, c->tail_len, len);
        memcpy(c->tail + c->tail_len, data, n);
        c->tail_len += (uint32_t)n;
        data += n;
        len -= n;
    }
    while (len && c->tail_len == HALF) { /* full: the oldest bytes of the tail give way */
        size_t n = HALF - c->tail_pos;
        if (n > len) n = len;
        memcpy(c->tail + c->tail_pos, data, n);
        c->tail_pos = (uint32_t)((c->tail_pos + n) % HALF);
        data += n;
        len -= n;
    }
}

bool capture_read(struct capture *c) {
    static unsigned char buf[CHUNK];
    if (c->fd < 0) return false;
    ssize_t n = read(c->fd, buf, sizeof buf);
    if (n > 0) {
        capture_add(c, buf, (size_t)n);
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    close(c->fd);
    c->fd = -1;
    return false;
}

void capture_drain(struct capture *c) {
    int waiting = 0;
    if (c->fd < 0 || ioctl(c->fd, FIONREAD, &waiting) < 0) return;
    uint64_t until = c->total + (uint64_t)waiting;
    while (c->total < until && capture_read(c)) continue;
}

size_t capture_size(const struct capture *c) { return (size_t)c->head_len + c->tail_len; }

void capture_copy(const struct capture *c, unsigned char *to) {
    if (c->head_len) memcpy(to, c->head, c->head_len);
    to += c->head_len;
    uint32_t from = c->tail_len == HALF ? c->tail_pos : 0;
    if (c->tail_len > from) memcpy(to, c->tail + from, c->tail_len - from);
    if (from) memcpy(to + (c->tail_len - from), c->tail, from);
}

void capture_free(struct capture *c) {
    if (c->fd >= 0) close(c->fd);
    free(c->head);
    free(c->tail);
    capture_init(c, -1);
}
