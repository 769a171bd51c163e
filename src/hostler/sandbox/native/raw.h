/* The parts of `hostler-init raw`, the sandbox's side door to the internet. See raw.c for what it is. */
#ifndef HOSTLER_RAW_H
#define HOSTLER_RAW_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Addresses inside, in host order; of a network that is kept for examples, so nobody has them. rawnet.py says the same. */
#define RAW_AGENT 0xC0000202u   /* 192.0.2.2: the sandbox */
#define RAW_GATEWAY 0xC0000201u /* 192.0.2.1: who refuses */
#define RAW_DNS 0xC0000235u     /* 192.0.2.53 to .55: the machine's first three name servers */
#define RAW_DNS_COUNT 3
#define RAW_MTU 65520
#define RAW_LISTEN 1 /* the port of ours inside: one that the agent may not have */
#define RAW_PACKET 65536

/* ---- rawtap.c: the interface ---- */

/* Make the interface in the network of process `pid`, and a socket that listens there. Ends this process when it can't. */
void raw_interface(pid_t pid, int pidfd, unsigned uid, unsigned gid, int *tun, int *listener);

/* ---- rawpacket.c: what a packet is, and who may be its other end ---- */

struct packet {
    uint8_t *data; /* from the IPv4 header on */
    size_t len, header;
    uint8_t protocol;
    uint32_t from, to; /* host order */
};

bool packet_parse(struct packet *p, uint8_t *data, size_t len); /* whole, unfragmented IPv4 with its ports */
bool packet_opens(const struct packet *p);                      /* the first of a TCP connection */
uint16_t packet_port(const struct packet *p, int which);        /* 0: from, 1: to */
bool deny(const char *network);                                 /* "10.0.0.0/8" */
bool denied(uint32_t address);
bool own_address(uint32_t address); /* of this host, as it is now */
size_t packet_refusal(const struct packet *p, uint8_t *into, size_t room);
size_t packet_reset(const struct packet *p, uint8_t *into); /* the answer to the first packet of a connection */
void packet_rewrite(struct packet *p, uint32_t from, uint16_t from_port, uint32_t to, uint16_t to_port); /* TCP */
size_t packet_udp(uint8_t *into, uint32_t from, uint16_t from_port, uint16_t to_port, size_t payload);

/* ---- rawudp.c: datagrams, each flow with a socket of its own on the host ---- */

#define UDP_FLOWS 256
bool udp_send(int epoll, const struct packet *p); /* false: refused */
void udp_receive(unsigned flow, int tun);
void udp_expire(long long now);

/* ---- rawtcp.c: connections, each with a socket inside and one on the host ---- */

#define TCP_CONNECTIONS 256
bool tcp_send(int epoll, int tun, struct packet *p); /* false: refused */
void tcp_event(unsigned flow, int tun);
void tcp_accept(int epoll, int listener);
bool tcp_continue(void); /* true: there is more to do at once */
void tcp_expire(long long now);

enum { OF_TUN = UDP_FLOWS, OF_LISTENER, OF_SANDBOX, OF_TCP }; /* what an event is of; below: datagrams */

long long raw_now(void);

#endif
