/* hostler-init: process 1 of a sandbox. It runs the calls that the server asks for over an inherited socket, keeps each
 * result until it is acknowledged, and outlives the server. It must not let the agent's processes read or signal it, and
 * must never wait for anybody: not for the server, not for a process of the agent.
 *
 * Wire (SOCK_SEQPACKET, little endian, one message each way, see initlink.py):
 *   request  u32 seq, u8 op, u8 flags, u16 id_len, u32 timeout_ms, u32 payload_len, id, payload
 *   answer   u32 seq, u8 status, u8 flags, u16 0, i32 exit_code, i32 signal, u64 output_bytes, u32 out, u32 err, body
 */
#define _GNU_SOURCE
#include "init.h"
#include "shell.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VERSION 1
#define MAX_CALLS 256
#define MAX_CONNS 4
#define MAX_ID 512
#define MAX_MESSAGE (160 * 1024)
#define INLINE_BODY (60 * 1024)
#define MAX_PAYLOAD (64u * 1024 * 1024)
#define MAX_STATE (8 * 1024 * 1024)
#define MAX_ENV 512
#define FIRST_CONTACT_MS 15000
#define WATCH_MS 250
#define OWN_LINE_MS 5000
#define PROXY_PORT 3128

enum { HELLO = 1, EXEC, SHELL, RESTART, ATTACH, CANCEL, ACK, DUMP, RESTORE, LISTENER, SHUTDOWN, QUELL };
enum { OK = 0, DUPLICATE, UNKNOWN, BUSY, FAILED };
enum { IN_PAYLOAD_FD = 1, IN_STDIN_FD = 2 };
enum { OUT_TIMED_OUT = 1, OUT_CANCELLED = 2, OUT_SHELL_ENDED = 4, OUT_BODY_FD = 8, OUT_NO_MEMORY = 16 };

struct request {
    uint32_t seq;
    uint8_t op, flags;
    uint16_t id_len;
    uint32_t timeout_ms, payload_len;
} __attribute__((packed));

struct answer {
    uint32_t seq;
    uint8_t status, flags;
    uint16_t zero;
    int32_t exit_code, signal;
    uint64_t output_bytes;
    uint32_t out_len, err_len;
} __attribute__((packed));

struct call {
    struct call *next;
    char id[MAX_ID + 1];
    uint8_t kind;
    enum { QUEUED, RUNNING, DONE } state;
    pid_t pid;
    long long deadline;
    uint32_t timeout_ms;
    char *script;
    size_t script_len;
    struct capture out, err;
    int exit_code, signal;
    uint8_t flags;
    int waiter; /* index of the connection that wants the result, -1 when nobody does */
    uint32_t seq;
    bool unsent;
};

static struct call *calls; /* in order of arrival */
static size_t call_count;
static int conns[MAX_CONNS] = {-1, -1, -1, -1};
static int listen_fd = -1, signal_fd = -1, proxy_fd = -1;
static bool contacted;
static long long started;

static char *environment[MAX_ENV + 1];
static uint64_t memory_limit, nproc_limit, fsize_limit, nofile_limit = 65536;

static struct {
    pid_t pid; /* 0 when there is none */
    int control, report, memory; /* its stdin, its reports, the script */
    struct capture out;          /* what it wrote since the last call ended */
    enum { IDLE, RESTORING, IN_CALL, DUMPING } doing;
    struct call *call;
    struct pidlist keep;    /* background processes of earlier calls */
    struct pidlist adopted; /* the same, after their bash ended */
    char reported[32];
    size_t reported_len;
    long long own_deadline; /* of a restore or a dump */
    int dump_conn;
    uint32_t dump_seq;
} shell = {.control = -1, .report = -1, .memory = -1, .dump_conn = -1};

static char *saved_state;
static size_t saved_state_len;

static long long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void die(const char *what) {
    dprintf(2, "hostler-init: %s: %s\n", what, strerror(errno));
    _exit(70);
}

static bool write_all(int fd, const void *data, size_t len) {
    const char *p = data;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static int memory_file(const void *data, size_t len) {
    int fd = memfd_create("hostler", MFD_CLOEXEC);
    if (fd < 0) return -1;
    if (!write_all(fd, data, len) || lseek(fd, 0, SEEK_SET) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* ---- answers ---- */

static void drop_conn(int c) {
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

static void reply(int c, uint32_t seq, uint8_t status, int32_t value, int fd) {
    struct answer a = {.seq = seq, .status = status, .exit_code = value};
    if (!send_message(c, &a, NULL, 0, fd)) drop_conn(c);
}

static void send_result(struct call *k) {
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

/* ---- calls ---- */

static struct call *find_call(const char *id) {
    for (struct call *k = calls; k; k = k->next)
        if (!strcmp(k->id, id)) return k;
    return NULL;
}

static void finish(struct call *k) {
    free(k->script);
    k->script = NULL;
    k->state = DONE;
    k->pid = 0;
    if (k->flags & (OUT_TIMED_OUT | OUT_CANCELLED)) k->exit_code = -1;
    send_result(k);
}

static void forget(struct call *k) {
    for (struct call **p = &calls; *p; p = &(*p)->next)
        if (*p == k) {
            *p = k->next;
            break;
        }
    capture_free(&k->out);
    capture_free(&k->err);
    free(k->script);
    free(k);
    call_count--;
}

static void record_status(struct call *k, int status) {
    k->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    k->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static bool is_live_root(pid_t pid) {
    if (pid == shell.pid) return true;
    for (struct call *k = calls; k; k = k->next)
        if (k->pid == pid) return true;
    return false;
}

/* All that the agent runs descends from a live call, from bash or from an adopted process. What does not has lost its
 * parent, or tried to get away. */
static bool match_stray(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)arg;
    for (size_t steps = 0; p && steps <= all->len; steps++) {
        if (is_live_root(p->pid) || pidlist_has(&shell.adopted, p->pid, p->start)) return false;
        p = proc_find(all, p->ppid);
    }
    return true;
}

static bool match_exec(const struct pidlist *all, const struct proc *p, void *arg) {
    return proc_below(all, p, ((struct call *)arg)->pid) || match_stray(all, p, NULL);
}

/* What the running shell call started, and bash itself; background processes of earlier calls stay. */
static bool match_shell_call(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)arg;
    if (proc_below_any(all, p, &shell.keep)) return false;
    return proc_below(all, p, shell.pid) || match_stray(all, p, NULL);
}

static bool match_shell(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)arg;
    return (shell.pid && proc_below(all, p, shell.pid)) || proc_below_any(all, p, &shell.adopted) ||
           match_stray(all, p, NULL);
}

static void adopt_strays(void) {
    struct pidlist all = {0};
    proc_scan(&all);
    for (size_t i = 0; i < all.len; i++)
        if (all.items[i].ppid == 1 && all.items[i].state != 'Z' && match_stray(&all, &all.items[i], NULL))
            pidlist_add(&shell.adopted, all.items[i]);
    pidlist_free(&all);
}

static void limit(int what, uint64_t value) {
    struct rlimit r = {value, value}, old;
    if (!value || getrlimit(what, &old) < 0) return;
    if (old.rlim_max != RLIM_INFINITY && r.rlim_max > old.rlim_max) r.rlim_cur = r.rlim_max = old.rlim_max;
    setrlimit(what, &r);
}

/* In the child: nothing of ours may be left behind. */
static void become_agent(const char *cwd) {
    sigset_t none;
    sigemptyset(&none);
    for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    limit(RLIMIT_NPROC, nproc_limit);
    limit(RLIMIT_FSIZE, fsize_limit);
    limit(RLIMIT_NOFILE, nofile_limit);
    struct rlimit zero = {0, 0};
    setrlimit(RLIMIT_CORE, &zero);
    if (chdir(cwd) < 0) {
        dprintf(2, "hostler: cannot enter %s: %s\n", cwd, strerror(errno));
        _exit(126);
    }
}

static void close_others(void) {
#ifdef SYS_close_range
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
#endif
}

static int pipe_in(int *write_end) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0) return -1;
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    *write_end = p[1];
    return p[0];
}

static void put_fd(int from, int to) {
    if (from == to) fcntl(from, F_SETFD, 0);
    else if (dup2(from, to) < 0) _exit(126);
}

static void exec_child(const char *cwd, char **argv, int in, int out, int err) {
    close_others();
    put_fd(in, 0);
    put_fd(out, 1);
    put_fd(err, 2);
    become_agent(cwd);
    execvpe(argv[0], argv, environment);
    int e = errno;
    dprintf(2, "hostler: cannot run %s: %s\n", argv[0], strerror(e));
    _exit(e == ENOENT ? 127 : 126);
}

static char **split(char *payload, size_t len, const char **cwd) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) n += payload[i] == 0;
    if (len == 0 || payload[len - 1] != 0 || n < 2) return NULL;
    char **argv = calloc(n, sizeof *argv), *p = payload;
    if (!argv) return NULL;
    *cwd = p;
    for (size_t i = 0; i + 1 < n; i++) {
        p += strlen(p) + 1;
        argv[i] = p;
    }
    return argv;
}

static void cannot_start(struct call *k) {
    const char *why = "hostler: the sandbox cannot start another process\n";
    capture_add(k->kind == EXEC ? &k->err : &k->out, (const unsigned char *)why, strlen(why));
    k->exit_code = 126;
    finish(k);
}

static void start_exec(struct call *k, char *payload, size_t len, int in) {
    const char *cwd;
    char **argv = split(payload, len, &cwd);
    int out_w = -1, err_w = -1, null = -1;
    capture_init(&k->out, pipe_in(&out_w));
    capture_init(&k->err, pipe_in(&err_w));
    if (in < 0) in = null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    k->state = RUNNING;
    pid_t pid = argv && out_w >= 0 && err_w >= 0 && in >= 0 ? fork() : -1;
    if (pid == 0) exec_child(cwd, argv, in, out_w, err_w);
    if (out_w >= 0) close(out_w);
    if (err_w >= 0) close(err_w);
    if (null >= 0) close(null);
    free(argv);
    if (pid < 0) {
        cannot_start(k);
        return;
    }
    k->pid = pid;
    k->deadline = now_ms() + k->timeout_ms;
}

static void finish_exec(struct call *k, int status) {
    record_status(k, status);
    k->pid = 0;
    proc_kill(match_stray, NULL); /* a call's leftovers end with it */
    capture_drain(&k->out);
    capture_drain(&k->err);
    if (k->out.fd >= 0) close(k->out.fd), k->out.fd = -1;
    if (k->err.fd >= 0) close(k->err.fd), k->err.fd = -1;
    finish(k);
}

/* ---- the persistent shell ---- */

static void close_shell_files(void) {
    int *fds[] = {&shell.control, &shell.report, &shell.memory};
    for (size_t i = 0; i < 3; i++)
        if (*fds[i] >= 0) close(*fds[i]), *fds[i] = -1;
    capture_free(&shell.out);
}

static void shell_child(int control, int report, int out) {
    static char *argv[] = {"bash", "--noprofile", "--norc", "-s", NULL};
    close_others();
    put_fd(shell.memory, SCRIPT_FD);
    put_fd(report, REPORT_FD);
    put_fd(control, 0);
    put_fd(out, 1);
    put_fd(out, 2);
    become_agent("/workspace");
    execve("/bin/bash", argv, environment);
    _exit(127);
}

static bool set_script(const char *script, size_t len) {
    return ftruncate(shell.memory, 0) == 0 && lseek(shell.memory, 0, SEEK_SET) == 0 &&
           write_all(shell.memory, script, len) && write_all(shell.memory, "", 1) &&
           lseek(shell.memory, 0, SEEK_SET) == 0;
}

static bool start_shell(void) {
    int control[2] = {-1, -1}, report_w = -1, out_w = -1;
    close_shell_files();
    if (pipe2(control, O_CLOEXEC) < 0) return false;
    shell.control = control[1];
    shell.report = pipe_in(&report_w);
    shell.memory = memfd_create("script", MFD_CLOEXEC);
    capture_init(&shell.out, pipe_in(&out_w));
    pid_t pid = shell.report >= 0 && shell.memory >= 0 && out_w >= 0 ? fork() : -1;
    if (pid == 0) shell_child(control[0], report_w, out_w);
    close(control[0]);
    if (report_w >= 0) close(report_w);
    if (out_w >= 0) close(out_w);
    if (pid < 0) {
        close_shell_files();
        return false;
    }
    shell.pid = pid;
    shell.reported_len = 0;
    shell.doing = IDLE;
    write_all(shell.control, LINE_SETUP, sizeof LINE_SETUP - 1);
    if (saved_state && set_script(saved_state, saved_state_len)) {
        write_all(shell.control, LINE_RESTORE, sizeof LINE_RESTORE - 1);
        shell.doing = RESTORING;
        shell.own_deadline = now_ms() + OWN_LINE_MS;
    }
    free(saved_state);
    saved_state = NULL;
    return true;
}

static void snapshot_background(void) {
    struct pidlist all = {0};
    proc_scan(&all);
    shell.keep.len = 0;
    for (size_t i = 0; i < all.len; i++)
        if (all.items[i].pid != shell.pid && proc_below(&all, &all.items[i], shell.pid))
            pidlist_add(&shell.keep, all.items[i]);
    for (size_t i = 0; i < shell.adopted.len; i++) pidlist_add(&shell.keep, shell.adopted.items[i]);
    pidlist_free(&all);
}

static void shell_call_over(struct call *k) {
    capture_drain(&shell.out);
    int fd = shell.out.fd;
    k->out = shell.out;
    k->out.fd = -1;
    capture_init(&shell.out, fd);
    shell.call = NULL;
    shell.doing = IDLE;
    finish(k);
}

static void next_shell_call(void) {
    while (shell.doing == IDLE || !shell.pid) {
        struct call *k = calls;
        while (k && !(k->state == QUEUED && k->kind != EXEC)) k = k->next;
        if (!k) return;
        if (k->kind == RESTART) {
            proc_kill(match_shell, NULL);
            shell.pid = 0;
            shell.adopted.len = 0;
            close_shell_files();
            finish(k);
            continue;
        }
        if (!shell.pid) {
            if (!start_shell()) {
                cannot_start(k);
                continue;
            }
            if (shell.doing == RESTORING) return;
        }
        snapshot_background();
        k->state = RUNNING;
        k->deadline = now_ms() + k->timeout_ms;
        shell.call = k;
        shell.doing = IN_CALL;
        if (!set_script(k->script, k->script_len) || !write_all(shell.control, LINE_RUN, sizeof LINE_RUN - 1))
            kill(shell.pid, SIGKILL);
        free(k->script);
        k->script = NULL;
    }
}

static void answer_dump(void) {
    struct stat st;
    char *text = NULL;
    bool ok = fstat(shell.memory, &st) == 0 && st.st_size <= MAX_STATE && (text = malloc((size_t)st.st_size + 1)) &&
              pread(shell.memory, text, (size_t)st.st_size, 0) == st.st_size;
    int fd = ok ? memory_file(text, (size_t)st.st_size) : -1;
    if (shell.dump_conn >= 0)
        reply(shell.dump_conn, shell.dump_seq, fd >= 0 ? OK : FAILED, fd >= 0 ? (int32_t)st.st_size : 0, fd);
    if (fd >= 0) close(fd);
    free(text);
    shell.dump_conn = -1;
    shell.doing = IDLE;
}

static void shell_reported(void) {
    ssize_t n = read(shell.report, shell.reported + shell.reported_len, sizeof shell.reported - 1 - shell.reported_len);
    if (n <= 0) {
        if (n == 0) close(shell.report), shell.report = -1; /* bash replaced itself; its end is what counts now */
        return;
    }
    shell.reported_len += (size_t)n;
    shell.reported[shell.reported_len] = 0;
    if (!strchr(shell.reported, '\n')) {
        if (shell.reported_len == sizeof shell.reported - 1) shell.reported_len = 0;
        return;
    }
    int code = atoi(shell.reported);
    shell.reported_len = 0;
    if (shell.doing == IN_CALL) {
        shell.call->exit_code = code & 0xff;
        shell_call_over(shell.call);
    } else if (shell.doing == DUMPING) answer_dump();
    else {
        capture_drain(&shell.out);
        shell.doing = IDLE;
    }
}

static void shell_exited(int status) {
    shell.pid = 0;
    adopt_strays();
    if (shell.doing == DUMPING && shell.dump_conn >= 0) reply(shell.dump_conn, shell.dump_seq, FAILED, 0, -1);
    shell.dump_conn = -1;
    struct call *k = shell.call;
    if (k) {
        record_status(k, status);
        k->flags |= OUT_SHELL_ENDED;
        shell_call_over(k);
    }
    shell.doing = IDLE;
    close_shell_files();
}

static void handle_exits(void) {
    struct exited e;
    exits_collect();
    while (exits_next(&e)) {
        if (e.pid == shell.pid) {
            shell_exited(e.status);
            continue;
        }
        struct call *k = calls;
        while (k && k->pid != e.pid) k = k->next;
        if (k) finish_exec(k, e.status);
        else {
            size_t before = shell.adopted.len;
            pidlist_remove(&shell.adopted, e.pid);
            if (shell.adopted.len != before) adopt_strays();
        }
        exits_collect();
    }
}

static void stop_call(struct call *k, uint8_t why) {
    if (k->state == DONE) return;
    k->flags |= why;
    if (k->state == QUEUED) finish(k);
    else if (k->kind == EXEC) proc_kill(match_exec, k);
    else { /* the end of bash, collected by the loop, finishes the call */
        proc_kill(match_shell_call, NULL);
        adopt_strays();
    }
}

/* ---- requests ---- */

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

static void on_dump(int c, uint32_t seq) {
    if (!shell.pid) { /* nothing newer than what we were given */
        int fd = saved_state ? memory_file(saved_state, saved_state_len) : -1;
        reply(c, seq, OK, fd >= 0 ? (int32_t)saved_state_len : 0, fd);
        if (fd >= 0) close(fd);
        return;
    }
    if (shell.doing != IDLE || ftruncate(shell.memory, 0) < 0 || lseek(shell.memory, 0, SEEK_SET) < 0) {
        reply(c, seq, BUSY, 0, -1);
        return;
    }
    shell.doing = DUMPING;
    shell.own_deadline = now_ms() + OWN_LINE_MS;
    shell.dump_conn = c;
    shell.dump_seq = seq;
    write_all(shell.control, LINE_DUMP, sizeof LINE_DUMP - 1);
}

static void on_restore(int c, const struct request *r, const char *payload) {
    free(saved_state);
    saved_state = shell.pid ? NULL : malloc((size_t)r->payload_len + 1);
    if (saved_state) memcpy(saved_state, payload, r->payload_len), saved_state_len = r->payload_len;
    reply(c, r->seq, saved_state ? OK : FAILED, 0, -1);
}

static bool match_all(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)all, (void)arg;
    return p->pid > 1;
}

/* The host has a reason to end all that runs, and says it to whoever waits. */
static void on_quell(int c, const struct request *r, const char *why) {
    for (struct call *k = calls; k; k = k->next)
        if (k->state == RUNNING)
            capture_add(k->kind == EXEC ? &k->err : &shell.out, (const unsigned char *)why, r->payload_len);
    proc_kill(match_all, NULL);
    reply(c, r->seq, OK, 0, -1);
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

static void read_conn(int c) {
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

static void accept_conn(void) {
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    for (int c = 0; c < MAX_CONNS; c++)
        if (conns[c] < 0) {
            conns[c] = fd;
            return;
        }
    close(fd);
}

/* ---- the loop ---- */

static void watch_memory(void) {
    struct pidlist all = {0};
    uint64_t sum = 0, most = 0;
    pid_t biggest = 0;
    proc_scan(&all);
    for (size_t i = 0; i < all.len; i++) {
        uint64_t bytes = proc_anonymous_bytes(all.items[i].pid);
        sum += bytes;
        if (bytes > most) most = bytes, biggest = all.items[i].pid;
    }
    if (sum > memory_limit && biggest) kill(biggest, SIGKILL);
    pidlist_free(&all);
}

static int next_wait(long long now) {
    long long wait = -1;
    if (!contacted) wait = started + FIRST_CONTACT_MS - now;
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
    if (!contacted && now >= started + FIRST_CONTACT_MS) _exit(75);
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

static int open_proxy(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PROXY_PORT)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof to) < 0 || listen(fd, 128) < 0) die("the proxy's address");
    return fd;
}

/* NUL-ended lines: "memory=N", "processes=N", "file=N", "files=N", "proxy", "env:NAME=VALUE" */
static void read_config(int fd) {
    struct stat st;
    size_t vars = 0;
    if (fstat(fd, &st) < 0) die("no configuration");
    char *text = calloc(1, (size_t)st.st_size + 1);
    if (!text || pread(fd, text, (size_t)st.st_size, 0) != st.st_size) die("the configuration");
    close(fd);
    for (char *p = text; p < text + st.st_size; p += strlen(p) + 1) {
        if (!strncmp(p, "env:", 4) && vars < MAX_ENV) environment[vars++] = p + 4;
        else if (!strncmp(p, "memory=", 7)) memory_limit = strtoull(p + 7, NULL, 10);
        else if (!strncmp(p, "processes=", 10)) nproc_limit = strtoull(p + 10, NULL, 10);
        else if (!strncmp(p, "file=", 5)) fsize_limit = strtoull(p + 5, NULL, 10);
        else if (!strncmp(p, "files=", 6)) nofile_limit = strtoull(p + 6, NULL, 10);
        else if (!strcmp(p, "proxy")) proxy_fd = open_proxy();
    }
}

static void set_up(int argc, char **argv) {
    if (argc != 3) die("usage: hostler-init LISTEN_FD CONFIG_FD");
    if (getpid() != 1) die("must be process 1 of a sandbox");
    listen_fd = atoi(argv[1]);
    prctl(PR_SET_DUMPABLE, 0);
    umask(022);
    fcntl(listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(listen_fd, F_SETFL, O_NONBLOCK);
    close_others();
    read_config(atoi(argv[2]));
    for (size_t i = 0; environment[i]; i++)
        if (!strncmp(environment[i], "PATH=", 5)) putenv(environment[i]); /* execvpe searches our own PATH */
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
    set_up(argc, argv);
    for (;;) {
        gather();
        if (poll(polled, polled_len, next_wait(now_ms())) < 0 && errno != EINTR) die("poll");
        serve_once();
    }
}
