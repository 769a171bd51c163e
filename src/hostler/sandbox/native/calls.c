/* Starts and ends the processes of calls, and knows whose child is whose. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct call *find_call(const char *id) {
    for (struct call *k = calls; k; k = k->next)
        if (!strcmp(k->id, id)) return k;
    return NULL;
}

void finish(struct call *k) {
    free(k->script);
    k->script = NULL;
    k->state = DONE;
    k->pid = 0;
    if (k->flags & (OUT_TIMED_OUT | OUT_CANCELLED)) k->exit_code = -1;
    send_result(k);
}

void forget(struct call *k) {
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

void record_status(struct call *k, int status) {
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
bool match_stray(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)arg;
    for (size_t steps = 0; p && steps <= all->len; steps++) {
        if (is_live_root(p->pid) || pidlist_has(&shell.adopted, p->pid, p->start)) return false;
        p = proc_find(all, p->ppid);
    }
    return true;
}

bool match_all(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)all, (void)arg;
    return p->pid > 1;
}

bool match_exec(const struct pidlist *all, const struct proc *p, void *arg) {
    return proc_below(all, p, ((struct call *)arg)->pid) || match_stray(all, p, NULL);
}

/* What the running shell call started, and bash itself; background processes of earlier calls stay. */
bool match_shell_call(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)arg;
    if (proc_below_any(all, p, &shell.keep)) return false;
    return proc_below(all, p, shell.pid) || match_stray(all, p, NULL);
}

bool match_shell(const struct pidlist *all, const struct proc *p, void *arg) {
    (void)arg;
    return (shell.pid && proc_below(all, p, shell.pid)) || proc_below_any(all, p, &shell.adopted) ||
           match_stray(all, p, NULL);
}

void adopt_strays(void) {
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

/* What is in a memory file belongs to no process, so whoever adds up processes would not see it. */
static void refuse_memory_files(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), /* the number; the filter of all has judged the architecture */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 447 /* memfd_secret */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0) _exit(126);
}

/* In the child: nothing of ours may be left behind. */
void become_agent(const char *cwd, bool keeper) {
    sigset_t none;
    sigemptyset(&none);
    for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (keeper) return;
    limit(RLIMIT_NPROC, nproc_limit);
    limit(RLIMIT_FSIZE, fsize_limit);
    limit(RLIMIT_NOFILE, nofile_limit);
    struct rlimit no_core = {1, 1}; /* of 0 the kernel would still start the host's program for core dumps */
    setrlimit(RLIMIT_CORE, &no_core);
    become_user();
    if (memory_limit) refuse_memory_files();
    bool entered = chdir(cwd) == 0;
    if (!entered && errno == EACCES && !strcmp(cwd, "/workspace")) /* else an agent that locked it had no way back */
        entered = chmod(cwd, 0755) == 0 && chdir(cwd) == 0;
    if (!entered) {
        dprintf(2, "hostler: cannot enter %s: %s\n", cwd, strerror(errno));
        _exit(126);
    }
}

void close_others(void) {
#ifdef SYS_close_range
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
#endif
}

int pipe_in(int *write_end) {
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0) return -1;
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    *write_end = p[1];
    return p[0];
}

void put_fd(int from, int to) {
    if (from == to) fcntl(from, F_SETFD, 0);
    else if (dup2(from, to) < 0) _exit(126);
}

static void exec_child(const struct call *k, const char *cwd, char **argv, int in, int out, int err) {
    close_others();
    put_fd(in, 0);
    put_fd(out, 1);
    put_fd(err, 2);
    become_agent(cwd, k->keeper);
    execvpe(argv[0], argv, environment);
    int e = errno;
    dprintf(2, "hostler: cannot run %s: %s\n", argv[0], strerror(e));
    _exit(e == ENOENT ? 127 : 126);
}

/* When the kernel must end a process for want of memory, it shall be the agent's, never this one. */
pid_t fork_agent(void) {
    (void)!write(oom_fd, "500", 3);
    pid_t pid = fork();
    if (pid) (void)!write(oom_fd, "0", 1);
    return pid;
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

void cannot_start(struct call *k) {
    const char *why = "hostler: the sandbox cannot start another process\n";
    capture_add(k->kind == EXEC ? &k->err : &k->out, (const unsigned char *)why, strlen(why));
    k->exit_code = 126;
    finish(k);
}

void start_exec(struct call *k, char *payload, size_t len, int in) {
    const char *cwd;
    char **argv = split(payload, len, &cwd);
    int out_w = -1, err_w = -1, null = -1;
    capture_init(&k->out, pipe_in(&out_w));
    capture_init(&k->err, pipe_in(&err_w));
    if (in < 0) in = null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    k->state = RUNNING;
    pid_t pid = argv && out_w >= 0 && err_w >= 0 && in >= 0 ? fork_agent() : -1;
    if (pid == 0) exec_child(k, cwd, argv, in, out_w, err_w);
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

void finish_exec(struct call *k, int status) {
    record_status(k, status);
    k->pid = 0;
    proc_kill(match_stray, NULL); /* a call's leftovers end with it */
    capture_drain(&k->out);
    capture_drain(&k->err);
    if (k->out.fd >= 0) close(k->out.fd), k->out.fd = -1;
    if (k->err.fd >= 0) close(k->err.fd), k->err.fd = -1;
    finish(k);
}
