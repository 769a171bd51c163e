/* Reads what the server asks for. A message that is not well-formed costs the sender its connection. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct call *new_call(int c, const struct request *r, const char *id) {
    struct call *k = calloc(1, sizeof *k), **end = &calls;
    if (!k) return NULL;
    strcpy(k->id, id);
    k->kind = r->op;
    k->timeout_ms = r->timeout_ms;
    k->waiter = c;
    k->seq = r->seq;
    capture_init(&k->out, -1);
    capture_init(&k->err, -1);
    while (*end) end = &(*end)->next;
    *end = k;
    call_count++;
    return k;
}

static void on_run(int c, const struct request *r, const char *id, char *payload, int in) {
    if (!configured) {
        reply(c, r->seq, FAILED, 0, -1);
        return;
    }
    if (!*id || find_call(id)) {
        reply(c, r->seq, DUPLICATE, 0, -1);
        return;
    }
    struct call *k = call_count < MAX_CALLS ? new_call(c, r, id) : NULL;
    if (!k) {
        reply(c, r->seq, BUSY, 0, -1);
        return;
    }
    if (r->op == EXEC) {
        k->keeper = in_container && r->flags & IN_AS_KEEPER;
        start_exec(k, payload, r->payload_len, in);
        return;
    }
    k->script = malloc((size_t)r->payload_len + 1);
    if (!k->script) {
        cannot_start(k);
        return;
    }
    memcpy(k->script, payload, r->payload_len);
    k->script_len = r->payload_len;
    next_shell_call();
}

static void on_attach(int c, const struct request *r, struct call *k) {
    if (!k) {
        reply(c, r->seq, UNKNOWN, 0, -1);
        return;
    }
    k->waiter = c;
    k->seq = r->seq;
    if (k->state == DONE) send_result(k);
}

/* The host has a reason to end all that runs, and says it to whoever waits. */
static void on_quell(int c, const struct request *r, const char *why) {
    for (struct call *k = calls; k; k = k->next)
        if (k->state == RUNNING)
            capture_add(k->kind == EXEC ? &k->err : &shell.out, (const unsigned char *)why, r->payload_len);
    proc_kill(match_all, NULL);
    reply(c, r->seq, OK, 0, -1);
}

/* The first server says what the sandbox is; another that comes before it was said, too. The rest is no news. */
static void on_configure(int c, const struct request *r, const char *payload) {
    char *own = configured ? NULL : malloc((size_t)r->payload_len + 1);
    if (own) {
        memcpy(own, payload, r->payload_len);
        own[r->payload_len] = 0;
        apply_config(own, r->payload_len);
    }
    reply(c, r->seq, configured ? OK : FAILED, 0, -1);
}

static void dispatch(int c, const struct request *r, const char *id, char *payload, int in) {
    struct call *k = *id ? find_call(id) : NULL;
    switch (r->op) {
    case HELLO:
        contacted = true;
        reply(c, r->seq, OK, VERSION, -1);
        break;
    case EXEC:
    case SHELL:
    case RESTART: on_run(c, r, id, payload, in); break;
    case ATTACH: on_attach(c, r, k); break;
    case CANCEL:
        if (k) stop_call(k, OUT_CANCELLED);
        reply(c, r->seq, k ? OK : UNKNOWN, 0, -1);
        break;
    case ACK:
        if (k && k->state == DONE) forget(k);
        reply(c, r->seq, k ? OK : UNKNOWN, 0, -1);
        break;
    case DUMP: on_dump(c, r->seq); break;
    case RESTORE: on_restore(c, r, payload); break;
    case LISTENER: reply(c, r->seq, proxy_fd >= 0 ? OK : FAILED, 0, proxy_fd); break;
    case SHUTDOWN: _exit(0);
    case QUELL: on_quell(c, r, payload); break;
    case HELD: reply(c, r->seq, OK, (int32_t)(proc_deleted_bytes("/workspace") >> 20), -1); break;
    case CONFIGURE: on_configure(c, r, payload); break;
    default: reply(c, r->seq, FAILED, 0, -1);
    }
}

static char *payload_from(int fd, uint32_t len) {
    char *text = len <= MAX_PAYLOAD ? malloc((size_t)len + 1) : NULL;
    if (text && pread(fd, text, len, 0) != (ssize_t)len) {
        free(text);
        return NULL;
    }
    return text;
}

static void on_message(int c, char *buf, size_t n, int *fds, int nfds) {
    struct request r;
    char id[MAX_ID + 1];
    if (n < sizeof r) {
        drop_conn(c);
        return;
    }
    memcpy(&r, buf, sizeof r);
    size_t inline_len = r.flags & IN_PAYLOAD_FD ? 0 : r.payload_len;
    int need = !!(r.flags & IN_PAYLOAD_FD) + !!(r.flags & IN_STDIN_FD);
    if (r.id_len > MAX_ID || n != sizeof r + r.id_len + inline_len || nfds != need) {
        drop_conn(c);
        return;
    }
    memcpy(id, buf + sizeof r, r.id_len);
    id[r.id_len] = 0;
    char *payload = buf + sizeof r + r.id_len, *own = NULL;
    if (r.flags & IN_PAYLOAD_FD) payload = own = payload_from(fds[0], r.payload_len);
    int in = r.flags & IN_STDIN_FD ? fds[nfds - 1] : -1;
    if (payload) dispatch(c, &r, id, payload, in);
    else reply(c, r.seq, FAILED, 0, -1);
    free(own);
}

void read_conn(int c) {
    static char buf[MAX_MESSAGE];
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec iov = {buf, sizeof buf};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(conns[c], &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    int fds[2] = {-1, -1}, nfds = 0;
    for (struct cmsghdr *h = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
            nfds = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            if (nfds > 2) nfds = 2;
            memcpy(fds, CMSG_DATA(h), (size_t)nfds * sizeof(int));
        }
    if (n <= 0 || m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) drop_conn(c);
    else on_message(c, buf, (size_t)n, fds, nfds);
    for (int i = 0; i < nfds; i++) close(fds[i]);
}

/* What an earlier server sent comes first: a call that it sent must be known to whoever asks for it now. */
static void read_all(int c) {
    struct pollfd p = {conns[c], POLLIN, 0};
    for (int n = 0; n < MAX_QUEUED && conns[c] >= 0 && poll(&p, 1, 0) > 0; n++) read_conn(c);
}

void accept_conn(void) {
    for (int c = 0; c < MAX_CONNS; c++) read_all(c);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    for (int c = 0; c < MAX_CONNS; c++)
        if (conns[c] < 0) {
            conns[c] = fd;
            return;
        }
    if (in_container) { /* only root gets here; relays of servers that are gone may not know it yet */
        static int next;
        drop_conn(next);
        conns[next] = fd;
        next = (next + 1) % MAX_CONNS;
    } else close(fd);
}
