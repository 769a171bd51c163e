/* hostler-init: process 1 of a sandbox. It runs the calls that the server asks for over an inherited socket, keeps each
 * result until it is acknowledged, and outlives the server. It must not let the agent's processes read or signal it, and
 * must never wait for anybody: not for the server, not for a process of the agent.
 *
 * Wire (SOCK_SEQPACKET, little endian, one message each way, see initlink.py):
 *   request  u32 seq, u8 op, u8 flags, u16 id_len, u32 timeout_ms, u32 payload_len, id, payload
 *   answer   u32 seq, u8 status, u8 flags, u16 0, i32 exit_code, i32 signal, u64 output_bytes, u32 out, u32 err, body
 *
 * In a container (`hostler-init container`) it makes the socket itself, in a folder of root's, and is told by the first
 * connection what the sandbox is; the server reaches it through relay.c.
 */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

static long long started;

static long long first_contact_ms(void) { return in_container ? FIRST_CONTACT_IN_CONTAINER_MS : FIRST_CONTACT_MS; }

static void watch_memory(void) {
    struct pidlist all = {0};
    uint64_t sum = proc_detached_bytes();
    if (sum > memory_limit / 4) proc_free_detached();
    sum += shell_memory_bytes();
    proc_scan(&all);
    uint64_t *bytes = calloc(all.len + 1, sizeof *bytes);
    for (size_t i = 0; bytes && i < all.len; i++) sum += bytes[i] = proc_anonymous_bytes(all.items[i].pid);
    for (size_t n = 0; bytes && n < all.len && sum > memory_limit; n++) { /* a pack of small ones counts like a big one */
        size_t most = 0;
        for (size_t i = 1; i < all.len; i++)
            if (bytes[i] > bytes[most]) most = i;
        if (!bytes[most]) break;
        kill(all.items[most].pid, SIGKILL);
        sum -= bytes[most] < sum ? bytes[most] : sum;
        bytes[most] = 0;
    }
    free(bytes);
    pidlist_free(&all);
}

/* Nobody has been connected for so long that no server will come: what runs for nobody ends, the files stay. A result that
 * nobody has fetched is worth a longer wait, a running call an endless one: it has its own timeout. */
static long long lonely_left(long long now) {
    static long long since;
    bool busy = !lonely_limit || !contacted;
    for (int c = 0; c < MAX_CONNS; c++) busy = busy || conns[c] >= 0;
    for (struct call *k = calls; k; k = k->next) busy = busy || k->state != DONE;
    if (busy) since = 0;
    if (busy) return -1;
    if (!since) since = now;
    long long left = since + (long long)lonely_limit * 1000 * (calls ? LONELY_WITH_RESULTS : 1) - now;
    return left < 0 ? 0 : left;
}

static int next_wait(long long now) {
    long long wait = lonely_left(now);
    if (!contacted) wait = started + first_contact_ms() - now;
    for (struct call *k = calls; k; k = k->next)
        if (k->state == RUNNING && k->timeout_ms && !(k->flags & OUT_TIMED_OUT)) {
            long long left = k->deadline - now;
            if (wait < 0 || left < wait) wait = left < 0 ? 0 : left;
        }
    if (shell.pid && (shell.doing == RESTORING || shell.doing == DUMPING)) {
        long long left = shell.own_deadline - now;
        if (wait < 0 || left < wait) wait = left < 0 ? 0 : left;
    }
    bool busy = shell.pid || shell.adopted.len;
    for (struct call *k = calls; k && !busy; k = k->next) busy = k->state == RUNNING;
    if (memory_limit && busy && (wait < 0 || wait > WATCH_MS)) wait = WATCH_MS;
    return wait > 1000000 ? 1000000 : (int)wait;
}

static void on_time(void) {
    static long long watched;
    long long now = now_ms();
    if (!contacted && now >= started + first_contact_ms()) _exit(75);
    if (lonely_left(now) == 0) _exit(0);
    for (struct call *k = calls; k; k = k->next)
        if (k->state == RUNNING && k->timeout_ms && now >= k->deadline && !(k->flags & OUT_TIMED_OUT))
            stop_call(k, OUT_TIMED_OUT);
    if (shell.pid && (shell.doing == RESTORING || shell.doing == DUMPING) && now >= shell.own_deadline)
        kill(shell.pid, SIGKILL);
    if (memory_limit && now >= watched + WATCH_MS) {
        watched = now;
        watch_memory();
    }
}

#define MAX_POLL (8 + MAX_CONNS + 2 * MAX_CALLS)
static struct pollfd polled[MAX_POLL];
static size_t polled_len;

static void want(int fd, short events) {
    if (fd >= 0 && polled_len < MAX_POLL) polled[polled_len++] = (struct pollfd){fd, events, 0};
}

static bool ready(int fd) {
    if (fd >= 0)
        for (size_t i = 0; i < polled_len; i++)
            if (polled[i].fd == fd) return polled[i].revents != 0;
    return false;
}

static void gather(void) {
    polled_len = 0;
    want(signal_fd, POLLIN);
    want(listen_fd, POLLIN);
    want(shell.report, POLLIN);
    want(shell.out.fd, POLLIN);
    for (int c = 0; c < MAX_CONNS; c++) {
        short events = POLLIN;
        for (struct call *k = calls; k; k = k->next)
            if (k->unsent && k->waiter == c) events |= POLLOUT;
        want(conns[c], events);
    }
    for (struct call *k = calls; k; k = k->next)
        if (k->kind == EXEC && k->state == RUNNING) want(k->out.fd, POLLIN), want(k->err.fd, POLLIN);
}

static void serve_once(void) {
    struct signalfd_siginfo info;
    if (ready(signal_fd)) (void)!read(signal_fd, &info, sizeof info);
    if (ready(shell.out.fd)) capture_read(&shell.out);
    for (struct call *k = calls; k; k = k->next)
        if (k->kind == EXEC && k->state == RUNNING) {
            if (ready(k->out.fd)) capture_read(&k->out);
            if (ready(k->err.fd)) capture_read(&k->err);
        }
    if (ready(shell.report)) shell_reported();
    handle_exits();
    on_time();
    handle_exits();
    for (int c = 0; c < MAX_CONNS; c++)
        if (ready(conns[c])) {
            for (struct call *k = calls; k; k = k->next)
                if (k->unsent && k->waiter == c) send_result(k);
            if (conns[c] >= 0) read_conn(c);
        }
    if (ready(listen_fd)) accept_conn();
    handle_exits();
    next_shell_call();
}

static void read_config(int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0) die("no configuration");
    char *text = calloc(1, (size_t)st.st_size + 1);
    if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size) die("the configuration");
    close(fd);
    apply_config(text, (size_t)st.st_size);
}

static void set_up(int argc, char **argv) {
    in_container = argc == 2 && !strcmp(argv[1], "container");
    if (argc != 3 && !in_container) die("usage: hostler-init LISTEN_FD CONFIG_FD");
    if (getpid() != 1) die("must be process 1 of a sandbox");
    if (in_container) container_listen();
    else listen_fd = atoi(argv[1]);
    oom_fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    prctl(PR_SET_DUMPABLE, 0);
    umask(022);
    fcntl(listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(listen_fd, F_SETFL, O_NONBLOCK);
    close_others();
    if (!in_container) read_config(atoi(argv[2])); /* a container's comes with the first connection */
    sigset_t set;
    sigfillset(&set);
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0) die("signalfd");
    capture_init(&shell.out, -1);
    started = now_ms();
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "launch")) return launch_main(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "relay")) return relay_main();
    if (argc > 1 && !strcmp(argv[1], "channels")) return channels_main();
    if (argc > 1 && !strcmp(argv[1], "files")) return files_main(argc - 1, argv + 1);
    if (argc > 1 && (!strcmp(argv[1], "pack") || !strcmp(argv[1], "unpack"))) return archive_main(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "raw")) return raw_main(argc - 1, argv + 1);
    set_up(argc, argv);
    for (;;) {
        gather();
        if (poll(polled, polled_len, next_wait(now_ms())) < 0 && errno != EINTR) die("poll");
        serve_once();
    }
}
