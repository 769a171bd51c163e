/* What the init is made of, shared by its parts. */
#ifndef HOSTLER_STATE_H
#define HOSTLER_STATE_H

#include "init.h"

#define VERSION 2
#define MAX_CALLS 256
#define MAX_CONNS 4
#define MAX_ID 512
#define MAX_QUEUED 4096
#define MAX_MESSAGE (160 * 1024)
#define INLINE_BODY (60 * 1024)
#define MAX_PAYLOAD (64u * 1024 * 1024)
#define MAX_STATE (8 * 1024 * 1024)
#define MAX_ENV 512
#define FIRST_CONTACT_MS 15000
#define FIRST_CONTACT_IN_CONTAINER_MS 60000 /* an engine may be slow to start the relay */
#define WATCH_MS 250
#define OWN_LINE_MS 5000
#define PROXY_PORT 3128
#define LONELY_WITH_RESULTS 24
#define INIT_FOLDER "/opt/hostler/run" /* in a container; only its root may enter */
#define INIT_SOCKET INIT_FOLDER "/init.sock"

enum { HELLO = 1, EXEC, SHELL, RESTART, ATTACH, CANCEL, ACK, DUMP, RESTORE, LISTENER, SHUTDOWN, QUELL, HELD, CONFIGURE };
enum { OK = 0, DUPLICATE, UNKNOWN, BUSY, FAILED };
enum { IN_PAYLOAD_FD = 1, IN_STDIN_FD = 2, IN_AS_KEEPER = 4 };
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
    bool keeper; /* runs as the container's root, for the server and not for the agent */
    int waiter; /* index of the connection that wants the result, -1 when nobody does */
    uint32_t seq;
    bool unsent;
};

/* ---- state.c: what there is ---- */

extern struct call *calls; /* in order of arrival */
extern size_t call_count;
extern int conns[MAX_CONNS];
extern int listen_fd, signal_fd, proxy_fd, oom_fd;
extern bool contacted;                  /* somebody said hello */
extern bool configured;                 /* nothing runs before */
extern bool in_container;               /* we are its root, and the agent is another user */
extern unsigned agent_uid;              /* 0: the agent is the user that we are */
extern char *environment[MAX_ENV + 2];  /* one more for the shell's driver */
extern uint64_t memory_limit, nproc_limit, fsize_limit, nofile_limit, lonely_limit;

extern struct shell {
    pid_t pid;                   /* 0 when there is none */
    int control, report, memory; /* see shell.h */
    struct capture out;          /* what it wrote since the last call ended */
    enum { IDLE, RESTORING, IN_CALL, DUMPING } doing;
    struct call *call;
    struct pidlist keep;    /* background processes of earlier calls */
    struct pidlist adopted; /* the same, after their bash ended */
    char tag[9]; /* of the order that bash is at */
    char reported[32];
    size_t reported_len;
    long long own_deadline; /* of a restore or a dump */
    int dump_conn;
    uint32_t dump_seq;
} shell;

long long now_ms(void);
void die(const char *what) __attribute__((noreturn));
bool write_all(int fd, const void *data, size_t len);
int memory_file(const void *data, size_t len);
uint64_t shell_memory_bytes(void);

/* ---- config.c: what a sandbox is told at its start ---- */

void apply_config(char *text, size_t len); /* keeps pointers into `text` */
void become_user(void);                    /* in the child: lets go of every right that a container's root has */

/* ---- container.c: as the first process of a container ---- */

void container_listen(void);
void own_folder(const char *path, unsigned mode);
void make_folders(char *path);
void make_link(char *path_and_target);
void add_account(void);

/* ---- answers.c: messages to the server ---- */

void drop_conn(int c);
void reply(int c, uint32_t seq, uint8_t status, int32_t value, int fd);
void send_result(struct call *k);

/* ---- calls.c: calls and the processes they own ---- */

struct call *find_call(const char *id);
void finish(struct call *k);
void forget(struct call *k);
void record_status(struct call *k, int status);
void cannot_start(struct call *k);
void start_exec(struct call *k, char *payload, size_t len, int in);
void finish_exec(struct call *k, int status);
bool match_stray(const struct pidlist *all, const struct proc *p, void *arg);
bool match_all(const struct pidlist *all, const struct proc *p, void *arg);
bool match_exec(const struct pidlist *all, const struct proc *p, void *arg);
bool match_shell_call(const struct pidlist *all, const struct proc *p, void *arg);
bool match_shell(const struct pidlist *all, const struct proc *p, void *arg);
void adopt_strays(void);
pid_t fork_agent(void);
void become_agent(const char *cwd, bool keeper);
void close_others(void);
int pipe_in(int *write_end);
void put_fd(int from, int to);

/* ---- shell.c: the persistent bash, and the end of processes ---- */

void next_shell_call(void);
void shell_reported(void);
void handle_exits(void);
void stop_call(struct call *k, uint8_t why);
void on_dump(int c, uint32_t seq);
void on_restore(int c, const struct request *r, const char *payload);

/* ---- requests.c: messages of the server ---- */

void read_conn(int c);
void accept_conn(void);

#endif
