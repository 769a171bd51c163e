/* Carries the connections of the raw network. The TCP of both ends is the kernel's: a connection of the agent's is turned
 * round, by rewriting its packets, to a socket of ours that listens in the sandbox's network, and its bytes are copied to
 * and from a socket on the host. The agent's first packet waits until the host's socket is connected, so that what is
 * refused outside is refused inside.
 */
#define _GNU_SOURCE
#include "raw.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLOWS 512 /* addresses in use, also those of connections that have ended a moment ago */
#define CONNECT_MS 30000
#define INVITE_MS 10000
#define LINGER_MS 60000
#define ROUNDS 16
#define SYN_BYTES 120 /* the longest headers there are */

struct half {
    uint8_t *rest; /* read, and not written yet */
    size_t len, at;
    bool ended, told; /* no more to read; the other side knows */
};

/* A connection has a flow of the same index while it lives; the flow stays behind for its last packets. */
static struct flow {
    enum { FREE, CONNECTING, INVITED, OPEN, ENDED } state;
    int outer, inner;
    uint16_t port_inside, port, alias; /* alias: the port at our address that stands for the agent's inside */
    uint32_t address;
    long long used;
    struct half up, down;
    bool again; /* stopped to let others have their turn */
    uint8_t first[SYN_BYTES];
    size_t first_len;
} flows[FLOWS];
static int live, any_again;

static struct flow *by_address(uint16_t inside, uint32_t address, uint16_t port) {
    for (struct flow *f = flows; f < flows + FLOWS; f++)
        if (f->state != FREE && f->port_inside == inside && f->address == address && f->port == port) return f;
    return NULL;
}

static struct flow *by_alias(uint16_t alias) {
    for (struct flow *f = flows; f < flows + FLOWS; f++)
        if (f->state != FREE && f->alias == alias) return f;
    return NULL;
}

static uint16_t new_alias(void) {
    static uint16_t last = 1024;
    do last = last == 65535 ? 1024 : (uint16_t)(last + 1);
    while (by_alias(last));
    return last;
}

static void end(struct flow *f, bool abort) {
    struct linger now = {1, 0};
    int *fds[] = {&f->outer, &f->inner};
    for (int i = 0; i < 2; i++)
        if (*fds[i] >= 0) {
            if (abort) setsockopt(*fds[i], SOL_SOCKET, SO_LINGER, &now, sizeof now);
            close(*fds[i]);
            *fds[i] = -1;
        }
    free(f->up.rest);
    free(f->down.rest);
    f->up.rest = f->down.rest = NULL;
    f->state = ENDED;
    f->used = raw_now();
    live--;
}

static struct flow *free_flow(void) {
    struct flow *found = NULL;
    for (struct flow *f = flows; f < flows + FLOWS; f++) {
        if (f->state == FREE) return f;
        if (f->state == ENDED && (!found || f->used < found->used)) found = f;
    }
    return found;
}

static bool watch(int epoll, int fd, const struct flow *f) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u64 = OF_TCP + (uint64_t)(f - flows)};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static bool begin(int epoll, const struct packet *p) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(packet_port(p, 1)), .sin_addr.s_addr = htonl(p->to)};
    struct flow *f = live < TCP_CONNECTIONS && p->len <= SYN_BYTES ? free_flow() : NULL;
    if (!f || own_address(p->to)) return false;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return false;
    memset(f, 0, sizeof *f);
    *f = (struct flow){.state = CONNECTING, .outer = fd, .inner = -1, .port_inside = packet_port(p, 0),
                       .port = packet_port(p, 1), .address = p->to, .used = raw_now(), .first_len = p->len};
    f->alias = new_alias();
    memcpy(f->first, p->data, p->len);
    live++;
    if ((connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) || !watch(epoll, fd, f)) {
        end(f, true);
        f->state = FREE;
        return false;
    }
    return true;
}

static void turn_round(int tun, struct packet *p, const struct flow *f) {
    packet_rewrite(p, RAW_GATEWAY, f->alias, RAW_AGENT, RAW_LISTEN);
    (void)!write(tun, p->data, p->len);
}

bool tcp_send(int epoll, int tun, struct packet *p) {
    uint16_t from = packet_port(p, 0), to = packet_port(p, 1);
    struct flow *f;
    if (from == RAW_LISTEN && p->to == RAW_GATEWAY) { /* our side of it, on its way to the agent's */
        f = by_alias(to);
        if (f) packet_rewrite(p, f->address, f->port, RAW_AGENT, f->port_inside);
        if (f) (void)!write(tun, p->data, p->len);
        return true;
    }
    if (denied(p->to)) return false;
    f = by_address(from, p->to, to);
    if (f && f->state == ENDED && packet_opens(p)) {
        f->state = FREE;
        f = NULL;
    }
    if (f && f->state == CONNECTING) return true; /* it waits, and asks again meanwhile */
    if (f) turn_round(tun, p, f);
    return f || (packet_opens(p) && begin(epoll, p));
}

static void connected(int tun, struct flow *f) {
    struct packet p;
    struct sockaddr_in peer;
    uint8_t answer[128];
    int error = 0;
    socklen_t len = sizeof error, peer_len = sizeof peer;
    getsockopt(f->outer, SOL_SOCKET, SO_ERROR, &error, &len);
    if (!error && getpeername(f->outer, (struct sockaddr *)&peer, &peer_len) < 0) return; /* not yet */
    packet_parse(&p, f->first, f->first_len);
    if (!error) {
        f->state = INVITED;
        f->used = raw_now();
        turn_round(tun, &p, f);
        return;
    }
    size_t n = error == ECONNREFUSED ? packet_reset(&p, answer) : packet_refusal(&p, answer, sizeof answer);
    (void)!write(tun, answer, n);
    end(f, true);
    f->state = FREE;
}

/* Copy what there is one way. False: the connection is broken. */
static bool copy(struct half *h, int from, int to, bool *more) {
    static uint8_t data[65536];
    for (int i = 0; i < ROUNDS; i++) {
        uint8_t *at = h->rest ? h->rest + h->at : data;
        size_t left = h->len;
        if (!h->rest) {
            ssize_t n = h->ended ? 0 : recv(from, data, sizeof data, 0);
            if (n < 0) return errno == EAGAIN;
            if (n == 0) {
                h->ended = true;
                if (!h->told && shutdown(to, SHUT_WR) < 0) return false;
                h->told = true;
                return true;
            }
            left = (size_t)n;
        }
        ssize_t sent = send(to, at, left, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return false;
        size_t done = sent < 0 ? 0 : (size_t)sent;
        if (done == left) {
            free(h->rest);
            h->rest = NULL;
            continue;
        }
        if (!h->rest) {
            h->rest = malloc(left);
            if (!h->rest) return false;
            memcpy(h->rest, data, left);
            h->at = 0;
        }
        h->at += done;
        h->len = left - done;
        if (sent < 0) return true;
    }
    *more = true;
    return true;
}

static void carry(struct flow *f) {
    f->again = false;
    if (!copy(&f->up, f->inner, f->outer, &f->again) || !copy(&f->down, f->outer, f->inner, &f->again)) end(f, true);
    else if (f->up.told && f->down.told) end(f, false);
    any_again |= f->state == OPEN && f->again;
}

void tcp_event(unsigned index, int tun) {
    struct flow *f = &flows[index];
    if (f->state == CONNECTING) connected(tun, f);
    else if (f->state == OPEN) carry(f);
}

bool tcp_continue(void) {
    if (!any_again) return false;
    any_again = 0;
    for (struct flow *f = flows; f < flows + FLOWS; f++)
        if (f->state == OPEN && f->again) carry(f);
    return any_again;
}

void tcp_accept(int epoll, int listener) {
    struct sockaddr_in peer;
    socklen_t len = sizeof peer;
    int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    struct flow *f = ntohl(peer.sin_addr.s_addr) == RAW_GATEWAY ? by_alias(ntohs(peer.sin_port)) : NULL;
    if (!f || f->state != INVITED) { /* the agent, calling on us */
        close(fd);
        return;
    }
    f->inner = fd;
    f->state = OPEN;
    if (!watch(epoll, fd, f)) end(f, true);
    else carry(f);
}

void tcp_expire(long long now) {
    for (struct flow *f = flows; f < flows + FLOWS; f++) {
        long long age = now - f->used;
        if ((f->state == CONNECTING && age > CONNECT_MS) || (f->state == INVITED && age > INVITE_MS)) end(f, true);
        else if (f->state == ENDED && age > LINGER_MS) f->state = FREE;
    }
}
