/* `hostler-init channels`: carries the connections that programs inside open to the egress proxy, all over one stream to
 * the server. Each has a window in either direction, so that one that nobody reads holds up no other, and no more than
 * the windows is ever held. It must not look into what it carries.
 *
 *   frame  u8 type, u32 channel, u32 length (of CREDIT: how many bytes more may be sent), data
 */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW (128 * 1024)
#define MAX_CHANNELS 256
#define PART (16 * 1024)
#define HEAD 9
#define ROOM (4 * (PART + HEAD)) /* what a turn of one channel may add to `out` */
#define OUT_SIZE (256 * 1024)
#define SILENCE_MS 200000

enum { OPEN = 1, DATA, END, RESET, CREDIT, PING };

struct channel {
    int fd; /* -1: free */
    uint32_t id, credit;
    bool sent_end, got_end, shut;
    unsigned char *queue; /* from the server, for the program: a ring of WINDOW bytes */
    size_t at, len;
};

static struct channel channels[MAX_CHANNELS];
static size_t open_count;
static unsigned char out[OUT_SIZE];
static size_t out_at, out_len;

static struct {
    unsigned char head[HEAD];
    size_t have;
    uint32_t left;
    struct channel *to;
} in;

static size_t room(void) { return OUT_SIZE - (out_len - out_at); }

static void put_frame(uint8_t type, uint32_t id, uint32_t len, const void *data, size_t size) {
    if (out_len + HEAD + size > OUT_SIZE) {
        memmove(out, out + out_at, out_len - out_at);
        out_len -= out_at;
        out_at = 0;
    }
    unsigned char *p = out + out_len;
    p[0] = type;
    memcpy(p + 1, &id, 4);
    memcpy(p + 5, &len, 4);
    if (size) memcpy(p + HEAD, data, size);
    out_len += HEAD + size;
}

static void forget_channel(struct channel *c) {
    close(c->fd);
    free(c->queue);
    memset(c, 0, sizeof *c);
    c->fd = -1;
    open_count--;
    if (in.to == c) in.to = NULL;
}

static void reset(struct channel *c) {
    put_frame(RESET, c->id, 0, NULL, 0);
    forget_channel(c);
}

static void accept_one(int listener) {
    static uint32_t last;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    unsigned char *queue = fd >= 0 ? malloc(WINDOW) : NULL;
    if (!queue) {
        if (fd >= 0) close(fd);
        return;
    }
    struct channel *c = channels;
    while (c->fd >= 0) c++;
    *c = (struct channel){.fd = fd, .id = ++last, .credit = WINDOW, .queue = queue};
    open_count++;
    put_frame(OPEN, c->id, 0, NULL, 0);
}

static void from_program(struct channel *c) {
    unsigned char data[PART];
    ssize_t n = read(c->fd, data, c->credit < PART ? c->credit : PART);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {
        reset(c);
        return;
    }
    if (n == 0) {
        c->sent_end = true;
        put_frame(END, c->id, 0, NULL, 0);
        return;
    }
    c->credit -= (uint32_t)n;
    put_frame(DATA, c->id, (uint32_t)n, data, (size_t)n);
}

static void to_program(struct channel *c) {
    size_t part = c->at + c->len > WINDOW ? WINDOW - c->at : c->len;
    ssize_t n = part ? send(c->fd, c->queue + c->at, part, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {
        reset(c);
        return;
    }
    c->at = (c->at + (size_t)n) % WINDOW;
    c->len -= (size_t)n;
    if (n) put_frame(CREDIT, c->id, (uint32_t)n, NULL, 0);
    if (c->got_end && !c->len && !c->shut) {
        shutdown(c->fd, SHUT_WR);
        c->shut = true;
    }
}

static void on_head(void) {
    uint32_t id, len;
    memcpy(&id, in.head + 1, 4);
    memcpy(&len, in.head + 5, 4);
    struct channel *c = NULL;
    for (size_t i = 0; i < MAX_CHANNELS; i++)
        if (channels[i].fd >= 0 && channels[i].id == id) c = &channels[i];
    in.left = 0;
    in.to = c; /* NULL: a channel that has ended here, while the server did not know it yet */
    switch (in.head[0]) {
    case DATA:
        in.left = len;
        if (c && (len > WINDOW - c->len || c->got_end)) errno = EPROTO, die("more than the window");
        break;
    case END:
        if (c) c->got_end = true;
        break;
    case RESET:
        if (c) forget_channel(c);
        break;
    case CREDIT:
        if (c && len <= WINDOW) c->credit += len;
        break;
    case PING: break;
    default: errno = EPROTO, die("a frame");
    }
}

static void take(const unsigned char *data, size_t len) {
    while (len) {
        if (in.have < HEAD) {
            in.head[in.have++] = *data++;
            len--;
            if (in.have == HEAD) on_head();
        } else {
            size_t n = len < in.left ? len : in.left;
            for (size_t i = 0; in.to && i < n; i++) {
                in.to->queue[(in.to->at + in.to->len) % WINDOW] = data[i];
                in.to->len++;
            }
            in.left -= (uint32_t)n;
            data += n;
            len -= n;
        }
        if (in.have == HEAD && !in.left) in.have = 0;
    }
}

static short wanted(const struct channel *c) {
    short events = 0;
    if (room() < ROOM) return 0;
    if (c->credit && !c->sent_end) events |= POLLIN;
    if (c->len || (c->got_end && !c->shut)) events |= POLLOUT;
    return events;
}

static void serve_channel(struct channel *c, short events) {
    if (!events || room() < ROOM) return;
    if (events & POLLERR) {
        reset(c);
        return;
    }
    if (events & (POLLOUT | POLLHUP) && (c->len || c->got_end)) to_program(c);
    if (c->fd >= 0 && events & (POLLIN | POLLHUP) && c->credit && !c->sent_end) from_program(c);
    if (c->fd >= 0 && c->sent_end && c->shut) forget_channel(c);
}

/* The listener is the init's, so that it outlives us: what connects while no server is there waits. */
static int fetch_listener(void) {
    struct request r = {.seq = 1, .op = LISTENER};
    struct answer a;
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {&a, sizeof a};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control};
    int fd = connect_to_init(), listener = -1;
    if (send(fd, &r, sizeof r, MSG_NOSIGNAL) < 0 || recvmsg(fd, &m, MSG_CMSG_CLOEXEC) < (ssize_t)sizeof a)
        die("the first process");
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (!h || h->cmsg_type != SCM_RIGHTS) errno = ENOTCONN, die("no proxy in this sandbox");
    memcpy(&listener, CMSG_DATA(h), sizeof(int));
    close(fd);
    return listener;
}

static void write_out(void) {
    ssize_t n = write(1, out + out_at, out_len - out_at);
    if (n < 0 && errno != EAGAIN && errno != EINTR) _exit(0);
    if (n > 0) out_at += (size_t)n;
    if (out_at == out_len) out_at = out_len = 0;
}

int channels_main(void) {
    static unsigned char data[65536];
    static struct pollfd p[3 + MAX_CHANNELS];
    for (size_t i = 0; i < MAX_CHANNELS; i++) channels[i].fd = -1;
    int listener = fetch_listener();
    drop_capabilities();
    fcntl(1, F_SETFL, O_NONBLOCK);
    for (;;) {
        bool more = open_count < MAX_CHANNELS && room() >= ROOM;
        p[0] = (struct pollfd){0, POLLIN, 0};
        p[1] = (struct pollfd){1, out_len > out_at ? POLLOUT : 0, 0};
        p[2] = (struct pollfd){more ? listener : -1, POLLIN, 0};
        for (size_t i = 0; i < MAX_CHANNELS; i++) {
            short events = channels[i].fd >= 0 ? wanted(&channels[i]) : 0;
            p[3 + i] = (struct pollfd){events ? channels[i].fd : -1, events, 0};
        }
        int n = poll(p, 3 + MAX_CHANNELS, SILENCE_MS);
        if (n == 0) return 0;
        if (n < 0 && errno != EINTR) die("poll");
        if (p[1].revents & (POLLERR | POLLHUP)) return 0;
        if (p[1].revents) write_out();
        for (size_t i = 0; i < MAX_CHANNELS; i++)
            if (channels[i].fd >= 0 && p[3 + i].fd == channels[i].fd) serve_channel(&channels[i], p[3 + i].revents);
        if (p[2].revents && room() >= ROOM) accept_one(listener);
        if (p[0].revents) {
            ssize_t got = read(0, data, sizeof data);
            if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) return 0;
            if (got > 0) take(data, (size_t)got);
        }
    }
}
