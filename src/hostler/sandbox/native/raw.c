/* The raw network of a sandbox: stands between its interface and the internet, and lets through what may pass.
 *
 *   hostler-init raw [--join FD]... [--drop UID GID] --passt PROGRAM [--deny NETWORK]... --ready FD PID PIDFD
 *   hostler-init raw [--drop UID GID] --passt PROGRAM --trial FD
 *
 * It runs outside, in the host's network, as the sandbox's user, for as long as the process PIDFD. It reads IPv4 packets
 * from the interface. TCP goes on to passt, which is started with the first connection; UDP is carried here. Whatever else
 * there is, and all that would reach the host or its networks, is refused. Routes inside could not hold that: a socket may
 * name its interface, and then the kernel sends without a route.
 * It must not pass on a packet that it has not judged, and must never wait for anybody.
 */
#define _GNU_SOURCE
#include "raw.h"

#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FRAME_HEAD 14 /* Ethernet, which passt speaks */
#define PREFIX 4      /* the length before each frame */
#define RETRY_MS 1000
#define BURST 64
#define SWEEP_MS 5000
#define DESCRIPTORS 1024
#define PASST_BYTES (512u * 1024 * 1024)
#define LOG_BYTES (1024u * 1024)
enum { OF_TUN = UDP_FLOWS, OF_PASST, OF_SANDBOX };

static int tun, epoll, passt = -1;
static pid_t passt_pid;
static const char *passt_program;
static long long passt_started;
static uint8_t outgoing[PREFIX + FRAME_HEAD + RAW_PACKET]; /* one frame, of which `out_len` bytes from `out_at` on are left */
static size_t out_at, out_len;
static bool waiting; /* for passt to take the rest of it */
static uint8_t incoming[4 * RAW_PACKET];
static size_t in_len;

long long raw_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void watch(int fd, uint64_t what, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.u64 = what};
    if (epoll_ctl(epoll, how, fd, &event) < 0) launch_fail("cannot watch", "a descriptor");
}

/* ---- passt ---- */

static void limit(int which, rlim_t value) {
    struct rlimit l = {value, value};
    setrlimit(which, &l);
}

static void become_passt(int fd) {
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    char *argv[] = {(char *)passt_program, "--foreground", "--quiet", "--stderr", "--fd", number, "--ipv4-only",
                    "--address", "192.0.2.2", "--netmask", "24", "--gateway", "192.0.2.1", "--dns", "none", "--no-map-gw",
                    "--tcp-ports", "none", "--no-udp", "--no-icmp", "--no-dhcp", "--no-ndp", "--no-dhcpv6", "--no-ra", NULL};
    char *nothing[] = {NULL};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(fd, F_SETFD, 0);
    limit(RLIMIT_AS, PASST_BYTES);
    limit(RLIMIT_FSIZE, LOG_BYTES); /* what it says goes to a file */
    signal(SIGXFSZ, SIG_IGN);
    execve(passt_program, argv, nothing);
    launch_fail("cannot run", passt_program);
}

static bool passt_running(void) {
    int pair[2];
    if (passt >= 0) return true;
    long long now = raw_now();
    if (passt_started && now < passt_started + RETRY_MS) return false;
    passt_started = now;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return false;
    pid_t child = fork();
    if (child == 0) become_passt(pair[1]);
    close(pair[1]);
    if (child < 0) {
        close(pair[0]);
        return false;
    }
    passt = pair[0];
    passt_pid = child;
    fcntl(passt, F_SETFL, O_NONBLOCK);
    in_len = out_len = 0;
    watch(passt, OF_PASST, EPOLLIN, EPOLL_CTL_ADD);
    return true;
}

static void want_room(bool wanted) {
    waiting = wanted;
    watch(passt, OF_PASST, EPOLLIN | (wanted ? EPOLLOUT : 0), EPOLL_CTL_MOD);
    watch(tun, OF_TUN, wanted ? 0 : EPOLLIN, EPOLL_CTL_MOD); /* no more packets while one waits */
}

/* It would end with its socket; this way nothing is left for others to collect. */
static void passt_end(void) {
    close(passt);
    kill(passt_pid, SIGKILL);
    waitpid(passt_pid, NULL, 0);
    passt = -1;
}

static void passt_lost(void) {
    if (waiting) want_room(false);
    out_len = in_len = 0;
    passt_end();
}

static void flush_frame(void) {
    while (out_len) {
        ssize_t n = send(passt, outgoing + out_at, out_len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            passt_lost();
            return;
        }
        out_at += (size_t)n;
        out_len -= (size_t)n;
    }
    if (waiting != (out_len > 0)) want_room(out_len > 0);
}

static void send_frame(const struct packet *p) {
    static const uint8_t head[FRAME_HEAD] = {0x52, 0x54, 0, 0x12, 0x34, 0x56, 0x02, 0, 0, 0, 0, 0x02, 0x08, 0x00};
    uint32_t len = htonl((uint32_t)(FRAME_HEAD + p->len));
    memcpy(outgoing, &len, PREFIX);
    memcpy(outgoing + PREFIX, head, FRAME_HEAD);
    memcpy(outgoing + PREFIX + FRAME_HEAD, p->data, p->len);
    out_at = 0;
    out_len = PREFIX + FRAME_HEAD + p->len;
    flush_frame();
}

static void frame_arrived(uint8_t *frame, size_t len) {
    struct packet p;
    if (len < FRAME_HEAD || frame[12] != 0x08 || frame[13] != 0x00) return;
    if (!packet_parse(&p, frame + FRAME_HEAD, len - FRAME_HEAD) || p.protocol != IPPROTO_TCP) return;
    if (p.to == RAW_AGENT && !denied(p.from)) (void)!write(tun, p.data, p.len);
}

static void read_passt(void) {
    ssize_t n = recv(passt, incoming + in_len, sizeof incoming - in_len, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        passt_lost();
        return;
    }
    size_t at = 0;
    in_len += (size_t)n;
    while (in_len - at >= PREFIX) {
        uint32_t len;
        memcpy(&len, incoming + at, PREFIX);
        len = ntohl(len);
        if (len > FRAME_HEAD + RAW_PACKET) {
            passt_lost();
            return;
        }
        if (in_len - at < PREFIX + len) break;
        frame_arrived(incoming + at + PREFIX, len);
        at += PREFIX + len;
    }
    memmove(incoming, incoming + at, in_len - at);
    in_len -= at;
}

/* ---- the interface ---- */

static bool let_through(const struct packet *p) {
    if (p->from != RAW_AGENT) return false;
    if (p->protocol == IPPROTO_UDP) return udp_send(epoll, p);
    if (denied(p->to) || (packet_opens(p) && own_address(p->to))) return false;
    if (passt < 0 && !packet_opens(p)) return false;
    if (!passt_running()) return false;
    send_frame(p);
    return true;
}

static void read_tun(void) {
    static uint8_t data[RAW_PACKET], answer[128];
    struct packet p;
    for (int i = 0; i < BURST && !out_len; i++) {
        ssize_t n = read(tun, data, sizeof data);
        if (n < 0 && errno != EAGAIN && errno != EINTR) launch_fail("lost", "the interface");
        if (n < 0) return;
        if (!packet_parse(&p, data, (size_t)n) || let_through(&p)) continue;
        size_t len = packet_refusal(&p, answer, sizeof answer);
        if (len) (void)!write(tun, answer, len);
    }
}

static void serve(int sandbox) {
    struct epoll_event events[64];
    watch(sandbox, OF_SANDBOX, EPOLLIN, EPOLL_CTL_ADD);
    watch(tun, OF_TUN, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        int n = epoll_wait(epoll, events, 64, SWEEP_MS);
        for (int i = 0; i < n; i++) {
            uint64_t of = events[i].data.u64;
            if (of == OF_SANDBOX) {
                if (passt >= 0) passt_end();
                _exit(0);
            }
            if (of == OF_TUN) read_tun();
            else if (of < UDP_FLOWS) udp_receive((unsigned)of, tun);
            else if (passt >= 0 && events[i].events & EPOLLOUT) flush_frame();
            if (of == OF_PASST && passt >= 0 && events[i].events & ~EPOLLOUT) read_passt();
        }
        udp_expire(raw_now());
    }
}

static void set_up(unsigned uid, unsigned gid, int ready, pid_t pid, int pidfd) {
    tun = raw_interface(pid, pidfd, uid, gid);
    if (uid) launch_drop(uid, gid);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    signal(SIGPIPE, SIG_IGN);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, DESCRIPTORS);
    fcntl(pidfd, F_SETFD, FD_CLOEXEC);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) launch_fail("cannot make", "an epoll");
    (void)!write(ready, "ready", 5); /* a server that has died meanwhile need not know */
    close(ready);
}

/* Only passt, on a descriptor that the server has the other end of: does it work here? */
static void try_passt(unsigned uid, unsigned gid, int fd) {
    if (uid) launch_drop(uid, gid);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    limit(RLIMIT_NOFILE, DESCRIPTORS);
    become_passt(fd);
}

int raw_main(int argc, char **argv) {
    unsigned uid = 0, gid = 0;
    int i = 1, ready = -1, trial = -1;
    for (; i + 1 < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--join")) launch_join(argv[++i]);
        else if (!strcmp(argv[i], "--passt")) passt_program = argv[++i];
        else if (!strcmp(argv[i], "--ready")) ready = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--trial")) trial = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--deny") && deny(argv[i + 1])) i++;
        else if (!strcmp(argv[i], "--drop") && i + 2 < argc) {
            uid = (unsigned)atol(argv[++i]);
            gid = (unsigned)atol(argv[++i]);
        } else break;
    }
    errno = EINVAL;
    if (trial >= 0 && passt_program && (uid || geteuid() != 0)) try_passt(uid, gid, trial);
    if (i + 2 != argc || !passt_program || ready < 0 || (!uid && geteuid() == 0)) launch_fail("cannot use", "its options");
    if (chdir("/") < 0) launch_fail("cannot enter", "/");
    signal(SIGPIPE, SIG_IGN);
    set_up(uid, gid, ready, (pid_t)atol(argv[i]), atoi(argv[i + 1]));
    serve(atoi(argv[i + 1]));
    return 0;
}
