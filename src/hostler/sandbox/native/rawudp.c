/* Carries the datagrams of the raw network. Every flow (port inside, address and port outside) has a connected socket on
 * the host: the kernel picks its port and lets nothing in but answers of that one peer. Name servers are the machine's.
 */
#define _GNU_SOURCE
#include "raw.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define IDLE_MS 120000
#define DNS_IDLE_MS 15000
#define BURST 64

static struct flow {
    int fd; /* 0: free */
    uint16_t inner, port;
    uint32_t address;
    long long used;
} flows[UDP_FLOWS];

static void flow_end(struct flow *f) {
    close(f->fd);
    f->fd = 0;
}

static bool is_dns(uint32_t address, uint16_t port) {
    return address >= RAW_DNS && address < RAW_DNS + RAW_DNS_COUNT && port == 53;
}

/* The n-th name server of the machine, read anew: it changes with the networks of the machine. */
static socklen_t name_server(unsigned n, struct sockaddr_storage *to) {
    struct sockaddr_in *four = (struct sockaddr_in *)to;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
    char line[512], name[64];
    socklen_t len = 0;
    FILE *file = fopen("/etc/resolv.conf", "re");
    memset(to, 0, sizeof *to);
    while (file && !len && fgets(line, sizeof line, file)) {
        if (sscanf(line, " nameserver %63s", name) != 1 || n--) continue;
        if (inet_pton(AF_INET, name, &four->sin_addr) == 1) to->ss_family = AF_INET, len = sizeof *four;
        else if (inet_pton(AF_INET6, name, &six->sin6_addr) == 1) to->ss_family = AF_INET6, len = sizeof *six;
        else break;
        four->sin_port = htons(53); /* at the same place in both */
    }
    if (file) fclose(file);
    return len;
}

static int flow_socket(uint32_t address, uint16_t port) {
    struct sockaddr_storage to = {0};
    struct sockaddr_in *four = (struct sockaddr_in *)&to;
    socklen_t len = sizeof *four;
    if (is_dns(address, port)) {
        len = name_server(address - RAW_DNS, &to);
        if (!len) return -1;
    } else {
        if (denied(address) || own_address(address)) return -1;
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        four->sin_addr.s_addr = htonl(address);
    }
    int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, len) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static struct flow *flow_open(int epoll, uint16_t inner, uint32_t address, uint16_t port) {
    struct flow *oldest = &flows[0];
    for (struct flow *f = flows; f < flows + UDP_FLOWS && oldest->fd; f++)
        if (!f->fd || f->used < oldest->used) oldest = f;
    int fd = flow_socket(address, port);
    if (fd < 0) return NULL;
    if (oldest->fd) flow_end(oldest);
    *oldest = (struct flow){fd, inner, port, address, 0};
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(oldest - flows)};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        flow_end(oldest);
        return NULL;
    }
    return oldest;
}

bool udp_send(int epoll, const struct packet *p) {
    uint16_t inner = packet_port(p, 0), port = packet_port(p, 1);
    struct flow *f = flows;
    while (f < flows + UDP_FLOWS && !(f->fd && f->inner == inner && f->port == port && f->address == p->to)) f++;
    if (f == flows + UDP_FLOWS) f = flow_open(epoll, inner, p->to, port);
    if (!f) return false;
    f->used = raw_now();
    (void)!send(f->fd, p->data + p->header + 8, p->len - p->header - 8, MSG_NOSIGNAL); /* may get lost, as datagrams do */
    return true;
}

void udp_receive(unsigned flow, int tun) {
    static uint8_t packet[RAW_PACKET];
    struct flow *f = &flows[flow];
    for (int i = 0; i < BURST && f->fd; i++) {
        ssize_t n = recv(f->fd, packet + 28, sizeof packet - 29, 0); /* an error of the peer's is taken off, no more */
        if (n < 0) return;
        f->used = raw_now();
        (void)!write(tun, packet, packet_udp(packet, f->address, f->port, f->inner, (size_t)n));
    }
}

void udp_expire(long long now) {
    for (struct flow *f = flows; f < flows + UDP_FLOWS; f++)
        if (f->fd && now - f->used > (is_dns(f->address, f->port) ? DNS_IDLE_MS : IDLE_MS)) flow_end(f);
}
