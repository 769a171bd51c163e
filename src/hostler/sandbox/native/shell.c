/* The persistent bash: one at most, its calls in order, its state kept and given back. */
#define _GNU_SOURCE
#include "shell.h"
#include "state.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static char *saved_state; /* of an earlier shell, for the next one */
static size_t saved_state_len;

/* Whoever has opened the script's file by /proc keeps it: it must not grow any more once nobody counts it. */
static void retire_memory(void) {
    const int for_good = F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (shell.memory >= 0 && (ftruncate(shell.memory, 0) < 0 || fcntl(shell.memory, F_ADD_SEALS, for_good) < 0))
        proc_kill(match_all, NULL);
}

/* A script of ours is never larger than a request: a larger one is the agent's, who uses the file as hidden memory. */
uint64_t shell_memory_bytes(void) {
    struct stat st;
    if (shell.memory < 0 || fstat(shell.memory, &st) < 0) return 0;
    uint64_t bytes = (uint64_t)st.st_blocks * 512;
    if (bytes > MAX_PAYLOAD + 65536 && shell.pid) kill(shell.pid, SIGKILL);
    return bytes;
}

void close_shell_files(void) {
    retire_memory();
    int *fds[] = {&shell.control, &shell.report, &shell.memory};
    for (size_t i = 0; i < 3; i++)
        if (*fds[i] >= 0) close(*fds[i]), *fds[i] = -1;
    capture_free(&shell.out);
}

static void shell_child(int control, int report, int out) {
    static char *argv[] = {"bash", "--noprofile", "--norc", "-c", "builtin eval \"$__hostler_driver\"", "bash", NULL};
    size_t vars = 0;
    while (environment[vars]) vars++;
    environment[vars] = (char *)DRIVER; /* in the child only; the driver unsets it */
    close_others();
    put_fd(shell.memory, SCRIPT_FD);
    put_fd(report, REPORT_FD);
    put_fd(control, CONTROL_FD);
    put_fd(open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    put_fd(out, 1);
    put_fd(out, 2);
    become_agent("/workspace", false);
    execve("/bin/bash", argv, environment);
    _exit(127);
}

static bool set_script(const char *script, size_t len) {
    return ftruncate(shell.memory, 0) == 0 && lseek(shell.memory, 0, SEEK_SET) == 0 &&
           write_all(shell.memory, script, len) && write_all(shell.memory, "", 1) &&
           lseek(shell.memory, 0, SEEK_SET) == 0;
}

/* One order to bash. A stopped bash whose pipe somebody has filled must not make us wait: such a bash is given up. */
static bool order(char what) {
    unsigned tag;
    char text[1 + TAG_LEN + 1];
    if (getrandom(&tag, sizeof tag, GRND_NONBLOCK) != sizeof tag) tag = (unsigned)now_ms() * 2654435761u;
    snprintf(shell.tag, sizeof shell.tag, "%08x", tag);
    snprintf(text, sizeof text, "%c%s", what, shell.tag);
    shell.reported_len = 0;
    return write_all(shell.control, text, 1 + TAG_LEN);
}

static bool start_shell(void) {
    int control[2] = {-1, -1}, report_w = -1, out_w = -1;
    close_shell_files();
    if (pipe2(control, O_CLOEXEC) < 0) return false;
    shell.control = control[1];
    fcntl(shell.control, F_SETFL, O_NONBLOCK);
    shell.report = pipe_in(&report_w);
    shell.memory = memfd_create("script", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    capture_init(&shell.out, pipe_in(&out_w));
    pid_t pid = shell.report >= 0 && shell.memory >= 0 && out_w >= 0 ? fork_agent() : -1;
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
    if (saved_state && set_script(saved_state, saved_state_len) && order('s')) {
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

void next_shell_call(void) {
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
        if (!set_script(k->script, k->script_len) || !order('r')) kill(shell.pid, SIGKILL);
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

void shell_reported(void) {
    ssize_t n = read(shell.report, shell.reported + shell.reported_len, sizeof shell.reported - 1 - shell.reported_len);
    if (n <= 0) {
        if (n == 0) close(shell.report), shell.report = -1; /* bash replaced itself; its end is what counts now */
        return;
    }
    shell.reported_len += (size_t)n;
    shell.reported[shell.reported_len] = 0;
    char *end = strchr(shell.reported, '\n'), *tag = strchr(shell.reported, ' ');
    if (!end && shell.reported_len < sizeof shell.reported - 1) return;
    bool ours = end && !end[1] && tag && !strncmp(tag + 1, shell.tag, TAG_LEN) &&
                tag + 1 + TAG_LEN == end;
    shell.reported_len = 0;
    if (shell.doing == IDLE || (!ours && shell.doing != RESTORING)) { /* no word of the driver: nothing it says counts */
        kill(shell.pid, SIGKILL);
        return;
    }
    if (shell.doing == IN_CALL) {
        shell.call->exit_code = atoi(shell.reported) & 0xff;
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

void handle_exits(void) {
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

void stop_call(struct call *k, uint8_t why) {
    if (k->state == DONE) return;
    k->flags |= why;
    if (k->state == QUEUED) finish(k);
    else if (k->kind == EXEC) proc_kill(match_exec, k);
    else { /* the end of bash, collected by the loop, finishes the call */
        proc_kill(match_shell_call, NULL);
        adopt_strays();
    }
}

void on_dump(int c, uint32_t seq) {
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
    if (!order('d')) kill(shell.pid, SIGKILL);
}

void on_restore(int c, const struct request *r, const char *payload) {
    free(saved_state);
    saved_state = shell.pid ? NULL : malloc((size_t)r->payload_len + 1);
    if (saved_state) memcpy(saved_state, payload, r->payload_len), saved_state_len = r->payload_len;
    reply(c, r->seq, saved_state ? OK : FAILED, 0, -1);
}
