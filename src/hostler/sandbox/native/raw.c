/* The raw network of a sandbox: stands between its interface and the internet, and lets through what may pass.
 *
 *   hostler-init raw [--join FD]... [--drop UID GID] [--deny NETWORK]... --ready FD PID PIDFD
 *
 * It runs outside, in the host's network, as the sandbox's user, for as long as the process PIDFD. It reads IPv4 packets
 * from the interface, and carries TCP and UDP with sockets of its own. Whatever else there is, and all that would reach the
 * host or its networks, is refused. Routes inside could not hold that: a socket may name its interface, and then the kernel
 * sends without a route.
 * It must not send to an address that it has not judged, and must never wait for anybody.
 */
#define _GNU_SOURCE
#include "raw.h"

#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BURST 64
#define SWEEP_MS 5000

static int tun, listener, epoll;

long long raw_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool let_through(struct packet *p) {
    if (p->from != RAW_AGENT) return false;
    return p->protocol == IPPROTO_UDP ? udp_send(epoll, p) : tcp_send(epoll, tun, p);
}

static void read_tun(void) {
    static uint8_t data[RAW_PACKET], answer[128];
    struct packet p;
    for (int i = 0; i < BURST; i++) {
        ssize_t n = read(tun, data, sizeof data);
        if (n < 0 && errno != EAGAIN && errno != EINTR) launch_fail("lost", "the interface");
        if (n < 0) return;
        if (!packet_parse(&p, data, (size_t)n) || let_through(&p)) continue;
        size_t len = packet_refusal(&p, answer, sizeof answer);
        if (len) (void)!write(tun, answer, len);
    }
}

static void watch(int fd, uint64_t what) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = what};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) launch_fail("cannot watch", "a descriptor");
}

static void serve(void) {
    struct epoll_event events[64];
    long long swept = raw_now();
    bool more = false;
    for (;;) {
        int n = epoll_wait(epoll, events, 64, more ? 0 : SWEEP_MS);
        for (int i = 0; i < n; i++) {
            uint64_t of = events[i].data.u64;
            if (of == OF_SANDBOX) _exit(0);
            if (of == OF_TUN) read_tun();
            else if (of == OF_LISTENER) tcp_accept(epoll, listener);
            else if (of < UDP_FLOWS) udp_receive((unsigned)of, tun);
            else tcp_event((unsigned)(of - OF_TCP), tun);
        }
        more = tcp_continue();
        long long now = raw_now();
        if (now - swept < SWEEP_MS) continue;
        udp_expire(now);
        tcp_expire(now);
        swept = now;
    }
}

static void limit(int which, rlim_t value) {
    struct rlimit l = {value, value};
    setrlimit(which, &l);
}

/* Nothing that the server happened to leave open. */
static void keep_only(int one, int other) {
    unsigned low = (unsigned)(one < other ? one : other), high = (unsigned)(one < other ? other : one);
    if (low > 3) syscall(SYS_close_range, 3, low - 1, 0);
    if (high > low + 1) syscall(SYS_close_range, low + 1, high - 1, 0);
    syscall(SYS_close_range, high + 1, ~0u, 0);
}

static void set_up(unsigned uid, unsigned gid, int ready, pid_t pid, int pidfd) {
    raw_interface(pid, pidfd, uid, gid, &tun, &listener);
    if (uid) launch_drop(uid, gid);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 2 * TCP_CONNECTIONS + UDP_FLOWS + 64);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(pidfd, OF_SANDBOX);
    watch(tun, OF_TUN);
    watch(listener, OF_LISTENER);
    (void)!write(ready, "ready", 5); /* a server that has died meanwhile need not know */
    close(ready);
}

int raw_main(int argc, char **argv) {
    unsigned uid = 0, gid = 0;
    int i = 1, ready = -1;
    for (; i + 1 < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--join")) launch_join(argv[++i]);
        else if (!strcmp(argv[i], "--ready")) ready = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--deny") && deny(argv[i + 1])) i++;
        else if (!strcmp(argv[i], "--drop") && i + 2 < argc) {
            uid = (unsigned)atol(argv[++i]);
            gid = (unsigned)atol(argv[++i]);
        } else break;
    }
    errno = EINVAL;
    bool judges = denied(0x7F000001) && denied(0x0A000001) && denied(0xA9FEA9FE); /* it was told whom to refuse */
    if (i + 2 != argc || ready < 0 || !judges || (!uid && geteuid() == 0)) launch_fail("cannot use", "its options");
    keep_only(ready, atoi(argv[i + 1]));
    if (chdir("/") < 0) launch_fail("cannot enter", "/");
    set_up(uid, gid, ready, (pid_t)atol(argv[i]), atoi(argv[i + 1]));
    serve();
    return 0;
}
