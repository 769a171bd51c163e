/* `hostler-init relay`: carries the requests of a server outside of the container, which come on stdin, to the init, and
 * its answers to stdout. Where the init takes and gives descriptors, the stream carries the bytes. It must not hold more
 * than one message of each direction outside of memory files, and ends when the server has been silent for too long.
 *
 *   request  u32 length of the rest, then the init's request, id, payload, stdin
 *   answer   u32 length of the rest, then the init's answer, body
 */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define INLINE (32 * 1024)
#define SILENCE_MS 200000
#define CHUNK 65536

static struct {
    unsigned char message[4 + sizeof(struct request) + MAX_ID + INLINE];
    size_t have, want; /* of `message` */
    size_t payload_left, stdin_left;
    int payload, in; /* memory files */
} request;

static struct {
    unsigned char data[4 + MAX_MESSAGE];
    size_t at, len;
    int body; /* a memory file to send behind `data` */
} answer;

static int init_fd;

static void begin_request(void) {
    request.have = 0;
    request.want = 4 + sizeof(struct request);
    request.payload_left = request.stdin_left = 0;
    request.payload = request.in = -1;
}

static int new_memory(void) {
    int fd = memfd_create("relay", MFD_CLOEXEC);
    if (fd < 0) die("a memory file");
    return fd;
}

static void read_lengths(void) {
    uint32_t len;
    struct request r;
    memcpy(&len, request.message, 4);
    memcpy(&r, request.message + 4, sizeof r);
    uint64_t known = sizeof r + (uint64_t)r.id_len + r.payload_len;
    if (r.id_len > MAX_ID || r.payload_len > MAX_PAYLOAD || len < known || len - known > MAX_PAYLOAD)
        errno = EPROTO, die("a request");
    request.want += r.id_len;
    request.stdin_left = len - known;
    r.flags &= IN_AS_KEEPER;
    if (r.payload_len > INLINE) {
        request.payload_left = r.payload_len;
        request.payload = new_memory();
        r.flags |= IN_PAYLOAD_FD;
    } else request.want += r.payload_len;
    if (request.stdin_left) {
        request.in = new_memory();
        r.flags |= IN_STDIN_FD;
    }
    memcpy(request.message + 4, &r, sizeof r);
}

static void send_request(void) {
    int fds[2], n = 0;
    if (request.payload >= 0) fds[n++] = request.payload;
    if (request.in >= 0) fds[n++] = request.in;
    struct iovec iov = {request.message + 4, request.have - 4};
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    for (int i = 0; i < n; i++) lseek(fds[i], 0, SEEK_SET);
    if (n) {
        m.msg_control = control.space;
        m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
        memcpy(CMSG_DATA(h), fds, (size_t)n * sizeof(int));
    }
    while (sendmsg(init_fd, &m, MSG_NOSIGNAL) < 0)
        if (errno != EINTR) die("the first process");
    for (int i = 0; i < n; i++) close(fds[i]);
    begin_request();
}

static size_t to_memory(int fd, size_t *left, const unsigned char *data, size_t len) {
    size_t n = len < *left ? len : *left;
    if (!write_all(fd, data, n)) die("a memory file");
    *left -= n;
    return n;
}

static void take(const unsigned char *data, size_t len) {
    while (len) {
        size_t n;
        if (request.have < request.want) {
            n = request.want - request.have < len ? request.want - request.have : len;
            memcpy(request.message + request.have, data, n);
            request.have += n;
            if (request.have == 4 + sizeof(struct request)) read_lengths();
        } else if (request.payload_left) n = to_memory(request.payload, &request.payload_left, data, len);
        else n = to_memory(request.in, &request.stdin_left, data, len);
        data += n;
        len -= n;
        if (request.have == request.want && !request.payload_left && !request.stdin_left) send_request();
    }
}

static void fetch_answer(void) {
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {answer.data + 4, MAX_MESSAGE};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(init_fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < (ssize_t)sizeof(struct answer)) _exit(0); /* the init is gone */
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    struct stat st = {0};
    answer.body = -1;
    if (h && h->cmsg_type == SCM_RIGHTS) memcpy(&answer.body, CMSG_DATA(h), sizeof(int));
    if (answer.body >= 0 && fstat(answer.body, &st) < 0) die("a result");
    struct answer *a = (struct answer *)(void *)(answer.data + 4);
    a->flags &= (uint8_t)~OUT_BODY_FD;
    uint32_t len = (uint32_t)((size_t)n + (size_t)st.st_size);
    memcpy(answer.data, &len, 4);
    answer.at = 0;
    answer.len = 4 + (size_t)n;
}

static bool sending(void) { return answer.at < answer.len || answer.body >= 0; }

static void send_answer(void) {
    if (answer.at == answer.len && answer.body >= 0) { /* the next part of the body */
        ssize_t n = read(answer.body, answer.data, CHUNK);
        answer.at = 0;
        answer.len = n > 0 ? (size_t)n : 0;
        if (n <= 0) close(answer.body), answer.body = -1;
    }
    if (answer.at == answer.len) return;
    ssize_t n = write(1, answer.data + answer.at, answer.len - answer.at);
    if (n < 0 && errno != EAGAIN && errno != EINTR) _exit(0); /* the server is gone */
    if (n > 0) answer.at += (size_t)n;
}

int relay_main(void) {
    static unsigned char data[CHUNK];
    init_fd = connect_to_init();
    drop_capabilities();
    fcntl(1, F_SETFL, O_NONBLOCK);
    begin_request();
    answer.body = -1;
    for (;;) {
        struct pollfd p[3] = {{0, POLLIN, 0}, {init_fd, sending() ? 0 : POLLIN, 0}, {1, sending() ? POLLOUT : 0, 0}};
        int n = poll(p, 3, SILENCE_MS);
        if (n == 0) return 0;
        if (n < 0 && errno != EINTR) die("poll");
        if (p[2].revents & (POLLERR | POLLHUP)) return 0;
        if (p[2].revents) send_answer();
        if (p[1].revents && !sending()) fetch_answer();
        if (p[0].revents) {
            ssize_t got = read(0, data, sizeof data);
            if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) return 0;
            if (got > 0) take(data, (size_t)got);
        }
    }
}
