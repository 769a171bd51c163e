/* Sends answers and results. It must never wait for a server that does not read. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void drop_conn(int c) {
    if (c < 0 || conns[c] < 0) return;
    close(conns[c]);
    conns[c] = -1;
    for (struct call *k = calls; k; k = k->next)
        if (k->waiter == c) k->waiter = -1, k->unsent = false;
    if (shell.dump_conn == c) shell.dump_conn = -1;
}

/* false when the peer is not reading just now */
static bool send_message(int c, const struct answer *a, const void *body, size_t len, int fd) {
    struct iovec iov[2] = {{(void *)a, sizeof *a}, {(void *)body, len}};
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
    if (fd >= 0) {
        m.msg_control = control.space;
        m.msg_controllen = sizeof control.space;
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &fd, sizeof fd);
    }
    if (sendmsg(conns[c], &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ETOOMANYREFS) return false;
    drop_conn(c);
    return true;
}

void reply(int c, uint32_t seq, uint8_t status, int32_t value, int fd) {
    struct answer a = {.seq = seq, .status = status, .exit_code = value};
    if (!send_message(c, &a, NULL, 0, fd)) drop_conn(c);
}

void send_result(struct call *k) {
    if (k->waiter < 0 || conns[k->waiter] < 0) return;
    size_t out = capture_size(&k->out), err = capture_size(&k->err);
    struct answer a = {.seq = k->seq, .flags = k->flags, .exit_code = k->exit_code, .signal = k->signal};
    a.output_bytes = k->out.total;
    a.out_len = (uint32_t)out;
    a.err_len = (uint32_t)err;
    unsigned char *body = malloc(out + err + 1);
    int fd = -1;
    if (body) {
        capture_copy(&k->out, body);
        capture_copy(&k->err, body + out);
        if (out + err > INLINE_BODY) fd = memory_file(body, out + err);
    }
    if (!body || (out + err > INLINE_BODY && fd < 0)) {
        a.out_len = a.err_len = 0;
        a.flags |= OUT_NO_MEMORY;
    }
    if (fd >= 0) a.flags |= OUT_BODY_FD;
    int waiter = k->waiter;
    k->unsent = !send_message(waiter, &a, body, fd >= 0 ? 0 : a.out_len + a.err_len, fd);
    if (!k->unsent) k->waiter = -1;
    if (fd >= 0) close(fd);
    free(body);
}
