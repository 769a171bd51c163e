/* Reads and writes single IPv4 packets for the raw network, and judges addresses. It opens nothing that carries data. */
#define _GNU_SOURCE
#include "raw.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_DENIED 64

static struct {
    uint32_t base, mask;
} networks[MAX_DENIED];
static int networks_len;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static void put16(uint8_t *at, unsigned value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value & 0xFFFF);
}

static unsigned checksum(const uint8_t *data, size_t len) {
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < len; i += 2) sum += get16(data + i);
    if (len & 1) sum += (uint32_t)data[len - 1] << 8;
    while (sum >> 16) sum = (sum & 0xFFFF) + (sum >> 16);
    return ~sum & 0xFFFF;
}

bool packet_parse(struct packet *p, uint8_t *data, size_t len) {
    if (len < 20 || data[0] >> 4 != 4) return false;
    size_t header = (size_t)(data[0] & 15) * 4, total = get16(data + 2);
    if (header < 20 || total > len || get16(data + 6) & 0x3FFF) return false; /* a fragment has no ports to judge */
    *p = (struct packet){data, total, header, data[9], get32(data + 12), get32(data + 16)};
    if (p->protocol == IPPROTO_TCP) return total >= header + 20;
    return p->protocol == IPPROTO_UDP && total >= header + 8 && get16(data + header + 4) == total - header;
}

bool packet_opens(const struct packet *p) {
    return p->protocol == IPPROTO_TCP && (p->data[p->header + 13] & 0x12) == 0x02;
}

uint16_t packet_port(const struct packet *p, int which) { return get16(p->data + p->header + 2 * which); }

bool deny(const char *network) {
    char text[32];
    struct in_addr base;
    const char *slash = strchr(network, '/');
    if (!slash || (size_t)(slash - network) >= sizeof text || networks_len == MAX_DENIED) return false;
    memcpy(text, network, (size_t)(slash - network));
    text[slash - network] = 0;
    int bits = atoi(slash + 1);
    if (inet_pton(AF_INET, text, &base) != 1 || bits < 1 || bits > 32) return false;
    networks[networks_len].base = ntohl(base.s_addr);
    networks[networks_len++].mask = 0xFFFFFFFFu << (32 - bits);
    return true;
}

bool denied(uint32_t address) {
    for (int i = 0; i < networks_len; i++)
        if ((address & networks[i].mask) == networks[i].base) return true;
    return false;
}

/* The kernel answers a datagram socket that is "connected" to an address of its own with that address as the source:
 * nothing is sent, and no list can be out of date. (addresses.py asks the same way.) */
bool own_address(uint32_t address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(address)};
    struct sockaddr_in from = {0};
    socklen_t len = sizeof from;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return true; /* not known to be another's */
    bool own = connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
               (getsockname(fd, (struct sockaddr *)&from, &len) < 0 || from.sin_addr.s_addr == to.sin_addr.s_addr);
    close(fd);
    return own;
}

static void ip_header(uint8_t *into, size_t total, unsigned protocol, uint32_t from) {
    memset(into, 0, 20);
    into[0] = 0x45;
    put16(into + 2, (unsigned)total);
    into[8] = 64;
    into[9] = (uint8_t)protocol;
    put32(into + 12, from);
    put32(into + 16, RAW_AGENT);
    put16(into + 10, checksum(into, 20));
}

/* "Communication administratively prohibited", so that a connection fails at once instead of after minutes. */
size_t packet_refusal(const struct packet *p, uint8_t *into, size_t room) {
    size_t quoted = p->header + 8, total = 20 + 8 + quoted;
    if (total > room) return 0;
    ip_header(into, total, IPPROTO_ICMP, RAW_GATEWAY);
    memset(into + 20, 0, 8);
    into[20] = 3;
    into[21] = 13;
    memcpy(into + 28, p->data, quoted);
    put16(into + 22, checksum(into + 20, 8 + quoted));
    return total;
}

static void replace16(uint8_t *sum, uint8_t *at, unsigned value) {
    uint32_t next = (~(uint32_t)get16(sum) & 0xFFFF) + (~(uint32_t)get16(at) & 0xFFFF) + value;
    while (next >> 16) next = (next & 0xFFFF) + (next >> 16);
    put16(sum, ~next & 0xFFFF);
    put16(at, value);
}

static void replace_address(struct packet *p, size_t offset, uint32_t value) {
    uint8_t *tcp_sum = p->data + p->header + 16;
    for (int half = 0; half < 2; half++) {
        uint8_t *at = p->data + offset + 2 * half, was[2] = {at[0], at[1]};
        unsigned next = half ? value & 0xFFFF : value >> 16;
        replace16(tcp_sum, was, next); /* the pseudo header */
        replace16(p->data + 10, at, next);
    }
}

void packet_rewrite(struct packet *p, uint32_t from, uint16_t from_port, uint32_t to, uint16_t to_port) {
    uint8_t *tcp = p->data + p->header;
    replace_address(p, 12, from);
    replace_address(p, 16, to);
    replace16(tcp + 16, tcp, from_port);
    replace16(tcp + 16, tcp + 2, to_port);
}

size_t packet_reset(const struct packet *p, uint8_t *into) {
    const uint8_t *asked = p->data + p->header;
    uint8_t pseudo[32] = {0};
    ip_header(into, 40, IPPROTO_TCP, p->to);
    memset(into + 20, 0, 20);
    put16(into + 20, get16(asked + 2));
    put16(into + 22, get16(asked));
    put32(into + 28, get32(asked + 4) + 1);
    into[32] = 0x50;
    into[33] = 0x14; /* RST, ACK */
    memcpy(pseudo, into + 12, 8);
    pseudo[9] = IPPROTO_TCP;
    pseudo[11] = 20;
    memcpy(pseudo + 12, into + 20, 20);
    put16(into + 36, checksum(pseudo, sizeof pseudo));
    return 40;
}

/* The headers for a datagram that stands at into + 28 already; without a checksum, which IPv4 lets be. */
size_t packet_udp(uint8_t *into, uint32_t from, uint16_t from_port, uint16_t to_port, size_t payload) {
    ip_header(into, 28 + payload, IPPROTO_UDP, from);
    put16(into + 20, from_port);
    put16(into + 22, to_port);
    put16(into + 24, (unsigned)(8 + payload));
    put16(into + 26, 0);
    return 28 + payload;
}
