/* The parts of hostler-init that stand by themselves. See init.c for what the program is. */
#ifndef HOSTLER_INIT_H
#define HOSTLER_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OUTPUT_LIMIT (16u * 1024 * 1024) /* contract.OUTPUT_LIMIT: head and tail get half each */
#define MAX_PIDS 65536

/* ---- capture.c: what is kept of a stream, head and tail ---- */

struct capture {
    int fd;          /* read end of the pipe, -1 when closed */
    uint64_t total;  /* all bytes ever seen */
    uint32_t head_len, tail_len, tail_pos;
    uint32_t head_cap, tail_cap;
    unsigned char *head, *tail;
};

void capture_init(struct capture *c, int fd);
void capture_add(struct capture *c, const unsigned char *data, size_t len);
bool capture_read(struct capture *c);  /* one read; false at the end of the stream or when nothing is there */
void capture_drain(struct capture *c); /* what is in the pipe now, no more */
size_t capture_size(const struct capture *c);
void capture_copy(const struct capture *c, unsigned char *to);
void capture_free(struct capture *c);

/* ---- proctree.c: who descends from whom ---- */

struct proc {
    pid_t pid, ppid;
    unsigned long long start;
    char state;
};

struct pidlist {
    struct proc *items;
    size_t len, cap;
};

bool pidlist_add(struct pidlist *l, struct proc p);
bool pidlist_has(const struct pidlist *l, pid_t pid, unsigned long long start);
void pidlist_remove(struct pidlist *l, pid_t pid);
void pidlist_free(struct pidlist *l);

void proc_scan(struct pidlist *out);                                  /* every process of this pid namespace but us */
const struct proc *proc_find(const struct pidlist *l, pid_t pid);
bool proc_below(const struct pidlist *all, const struct proc *p, pid_t root); /* p is root or descends from it */
bool proc_below_any(const struct pidlist *all, const struct proc *p, const struct pidlist *roots);
uint64_t proc_anonymous_bytes(pid_t pid);
uint64_t proc_detached_bytes(void);                 /* System V memory that no process has attached */
void proc_free_detached(void);
uint64_t proc_deleted_bytes(const char *same_disk); /* files without a name that some process has open */

/* Stop, then kill, whatever `match` names, again and again until a scan finds nothing new. */
void proc_kill(bool (*match)(const struct pidlist *all, const struct proc *p, void *arg), void *arg);

/* Reaped children wait here until the main loop looks at them. */
struct exited {
    pid_t pid;
    int status;
};
void exits_collect(void);
bool exits_next(struct exited *e);

/* ---- launch.c: the step before bwrap ---- */
int launch_main(int argc, char **argv);
_Noreturn void launch_fail(const char *what, const char *which);
void launch_join(const char *fd);                /* the control group whose cgroup.procs this is */
void launch_drop(unsigned uid, unsigned gid);    /* for good */

/* ---- raw.c: the raw network ---- */
int raw_main(int argc, char **argv);

/* ---- relay.c, channels.c, files.c: what a server starts beside us in a container ---- */
int relay_main(void);
int channels_main(void);
int files_main(int argc, char **argv);
int open_folder(int parent, const char *name); /* a plain one, or -1 */
int walk(int top, char *path, char **name, bool make);

/* archive.c: likewise */
int archive_main(int argc, char **argv);
int connect_to_init(void);
void drop_capabilities(void);

#endif
