/*
 * The agent's file tools: one static program that runs inside the sandbox as the agent's own user, so that paths,
 * symlinks and permissions are the sandbox's and never the host's. It must not trust its input to be well meant, must
 * not hold more than a bounded amount of memory, and must not talk to anything but the file system and its own stdio.
 *
 *   tools read MEDIA_LIMIT | write | edit | glob | grep RIPGREP | spill DIRECTORY...
 *
 * Input: netstrings on stdin ("5:hello,"), a fixed order of fields for each tool. Output: the result on stdout, exit 0;
 * or one line of error text for the model on stderr, exit 1. Exit 2 means that the caller broke this contract.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define INPUT_LIMIT ((size_t)64 << 20)
#define TEXT_LIMIT ((size_t)256 << 10)
#define IMAGE_LIMIT ((size_t)(5 << 20) / 4 * 3) /* 5 MiB once it is base64 */
#define PDF_LIMIT ((size_t)20 << 20)
#define EDITED_LIMIT ((size_t)64 << 20)
#define MAX_HOPS 40

struct text {
    char *data;
    size_t size, room;
};

static char *input, *input_end; /* what is left of stdin */

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((noreturn)) static void misuse(const char *what)
{
    fprintf(stderr, "tools: %s\n", what);
    exit(2);
}

/* The words for an error are ours: libcs differ, and the model should see the same ones everywhere. */
static const char *reason(int error)
{
    static char other[128];
    switch (error) {
    case ENOENT: return "no such file or directory";
    case ENOTDIR: return "not a directory";
    case EISDIR: return "is a directory";
    case EACCES:
    case EPERM: return "permission denied";
    case EEXIST: return "file already exists";
    case ELOOP: return "too many levels of symbolic links";
    case ENOSPC: return "no space left on device";
    case EDQUOT: return "disk quota exceeded";
    case EROFS: return "read-only file system";
    case EFBIG: return "file too large";
    case ENAMETOOLONG: return "file name too long";
    }
    snprintf(other, sizeof other, "%s", strerror(error));
    for (char *c = other; *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c += 'a' - 'A';
    return other;
}

static void *need(void *memory)
{
    if (!memory) fail("out of memory");
    return memory;
}

static void put(struct text *to, const void *data, size_t size)
{
    if (to->size + size + 1 > to->room) {
        to->room = (to->size + size + 1) * 2;
        to->data = need(realloc(to->data, to->room));
    }
    if (size) memcpy(to->data + to->size, data, size);
    to->size += size;
    to->data[to->size] = 0;
}

static char *joined(const char *directory, size_t length, const char *name)
{
    struct text path = {0};
    put(&path, directory, length);
    if (!length || directory[length - 1] != '/') put(&path, "/", 1);
    put(&path, name, strlen(name));
    return path.data;
}

/* Read to the end of the file or to `limit` bytes, whichever comes first. Returns -1 with errno. */
static int load(int fd, struct text *into, size_t limit)
{
    char chunk[65536];
    while (into->size < limit) {
        size_t want = limit - into->size < sizeof chunk ? limit - into->size : sizeof chunk;
        ssize_t n = read(fd, chunk, want);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        if (n == 0) break;
        put(into, chunk, (size_t)n);
    }
    put(into, "", 0);
    return 0;
}

static int write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -1;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static void say(const char *data, size_t size)
{
    if (write_all(STDOUT_FILENO, data, size)) misuse("cannot write the result");
}

static void take_input(void)
{
    struct text all = {0};
    if (load(STDIN_FILENO, &all, INPUT_LIMIT)) misuse("cannot read the input");
    input = all.data;
    input_end = all.data + all.size;
}

/* The next field, NUL-terminated; `size` may be NULL for strings, whose inner NULs the caller has refused already. */
static char *field(size_t *size)
{
    char *colon = input;
    size_t length = 0;
    while (colon < input_end && *colon >= '0' && *colon <= '9' && length <= INPUT_LIMIT)
        length = length * 10 + (size_t)(*colon++ - '0');
    if (colon == input || colon >= input_end || *colon != ':' || length >= (size_t)(input_end - colon - 1))
        misuse("malformed or missing field");
    char *data = colon + 1;
    if (data[length] != ',') misuse("malformed field");
    data[length] = 0;
    input = data + length + 1;
    if (size) *size = length;
    return data;
}

static int valid_utf8(const unsigned char *s, size_t size)
{
    size_t i = 0;
    while (i < size) {
        unsigned char c = s[i];
        size_t more = c < 0x80 ? 0 : c >= 0xC2 && c <= 0xDF ? 1 : (c & 0xF0) == 0xE0 ? 2 : c >= 0xF0 && c <= 0xF4 ? 3 : 9;
        if (more > 3 || i + more >= size + (more == 0)) return 0;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xC0) != 0x80) return 0;
        if ((c == 0xE0 && s[i + 1] < 0xA0) || (c == 0xED && s[i + 1] > 0x9F)) return 0;
        if ((c == 0xF0 && s[i + 1] < 0x90) || (c == 0xF4 && s[i + 1] > 0x8F)) return 0;
        i += more + 1;
    }
    return 1;
}

/* Open a regular file. It is looked at before it is opened: opening a FIFO or a device can block or do things. */
static int open_regular(const char *tool, const char *path, struct stat *st)
{
    if (stat(path, st)) fail("%s: %s: %s", tool, path, reason(errno));
    if (!S_ISREG(st->st_mode)) fail("%s: %s: not a regular file", tool, path);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, st)) fail("%s: %s: %s", tool, path, reason(errno));
    if (!S_ISREG(st->st_mode)) fail("%s: %s: not a regular file", tool, path);
    return fd;
}

/* ---- read ---- */

static int named_like_media(const char *path)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i])) return 1;
    return 0;
}

/* By content, not by name: a block that is not what it says makes every later model request fail. */
static const char *media_type(int fd)
{
    unsigned char head[12] = {0};
    if (pread(fd, head, sizeof head, 0) < 5) return NULL;
    if (!memcmp(head, "\x89PNG\r\n\x1a\n", 8)) return "image/png";
    if (!memcmp(head, "\xff\xd8\xff", 3)) return "image/jpeg";
    if (!memcmp(head, "GIF87a", 6) || !memcmp(head, "GIF89a", 6)) return "image/gif";
    if (!memcmp(head, "RIFF", 4) && !memcmp(head + 8, "WEBP", 4)) return "image/webp";
    if (!memcmp(head, "%PDF-", 5)) return "application/pdf";
    return NULL;
}

static void read_media(int fd, const char *path, const char *type, size_t size, size_t most)
{
    size_t limit = strcmp(type, "application/pdf") ? IMAGE_LIMIT : PDF_LIMIT;
    if (limit > most) limit = most;
    struct text body = {0};
    if (size <= limit) {
        if (load(fd, &body, limit + 1)) fail("read: %s: %s", path, reason(errno));
        size = body.size;
    }
    if (size > limit) fail("read: %s is %zu bytes, exceeds %zu-byte limit for image/PDF files.", path, size, limit);
    say(type, strlen(type));
    say("\n", 1);
    say(body.data, body.size);
}

static void say_text(const char *path, struct text *body)
{
    if (!valid_utf8((unsigned char *)body->data, body->size))
        fail("read: %s: not valid UTF-8 text (binary files are only supported for image/PDF extensions)", path);
    say("text\n", 5);
    say(body->data, body->size);
}

__attribute__((noreturn)) static void range_too_big(const char *path, long first, long last, long start, long end)
{
    if (last - first == 1)
        fail("read: line %ld of %s alone exceeds %zu-byte limit. The read tool cannot return part of a line, so "
             "view_range cannot narrow this further.", first + 1, path, TEXT_LIMIT);
    fail("read: view_range [%ld, %ld] of %s exceeds %zu-byte limit. Narrow the view_range to read a smaller portion.",
         start, end, path, TEXT_LIMIT);
}

/* Lines `start` to `end` (from 1, inclusive; an end of 0 or less is the end of the file), in bounded memory. */
static void read_range(int fd, const char *path, long start, long end)
{
    long first = start > 1 ? start - 1 : 0, last = end > 0 ? end : LONG_MAX, line = 0;
    struct text kept = {0};
    char chunk[65536];
    put(&kept, "", 0);
    while (line < last && first < last) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("read: %s: %s", path, reason(errno));
        if (n == 0) break;
        for (char *at = chunk, *stop = chunk + n; at < stop && line < last;) {
            char *newline = memchr(at, '\n', (size_t)(stop - at));
            char *line_end = newline ? newline : stop;
            if (line >= first) put(&kept, at, (size_t)(line_end - at));
            if (line >= first && newline && line + 1 < last) put(&kept, "\n", 1);
            if (kept.size > TEXT_LIMIT) range_too_big(path, first, last, start, end);
            line += newline != NULL;
            at = line_end + (newline != NULL);
        }
    }
    say_text(path, &kept);
}

static void cmd_read(int argc, char **argv)
{
    if (argc < 3) misuse("read needs MEDIA_LIMIT");
    char *path = field(NULL), *start = field(NULL), *end = field(NULL);
    struct stat st;
    int fd = open_regular("read", path, &st);
    const char *type = named_like_media(path) ? media_type(fd) : NULL;
    if (type && *start) fail("read: view_range is not supported for image/PDF files");
    if (type) {
        read_media(fd, path, type, (size_t)st.st_size, strtoul(argv[2], NULL, 10));
        return;
    }
    if (*start) {
        read_range(fd, path, strtol(start, NULL, 10), strtol(end, NULL, 10));
        return;
    }
    struct text body = {0};
    size_t size = (size_t)st.st_size;
    if (size <= TEXT_LIMIT) { /* files of /proc say 0 and are not */
        if (load(fd, &body, TEXT_LIMIT + 1)) fail("read: %s: %s", path, reason(errno));
        size = body.size;
    }
    if (size > TEXT_LIMIT)
        fail("read: %s is %zu bytes, exceeds %zu-byte limit. Use the view_range parameter to read specific line "
             "ranges, e.g. view_range: [1, 500].", path, size, TEXT_LIMIT);
    say_text(path, &body);
}

/* ---- write, edit, spill ---- */

/* Where the last component leads, through symlinks that may dangle. NULL with ELOOP. */
static char *follow(const char *path)
{
    char target[PATH_MAX], *here = need(strdup(path));
    for (int hops = 0; hops <= MAX_HOPS; hops++) {
        ssize_t n = readlink(here, target, sizeof target - 1);
        if (n < 0) return here;
        target[n] = 0;
        char *slash = strrchr(here, '/');
        char *next = target[0] == '/' || !slash ? strdup(target) : joined(here, (size_t)(slash - here), target);
        free(here);
        here = need(next);
    }
    errno = ELOOP;
    return NULL;
}

static int make_parents(const char *path)
{
    char *copy = need(strdup(path));
    struct stat st;
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, 0777) && errno != EEXIST) {
            int error = errno;
            if (stat(copy, &st) || !S_ISDIR(st.st_mode)) {
                errno = error;
                return -1;
            }
        }
        *slash = '/';
    }
    free(copy);
    return 0;
}

static int overwrite(const char *path, const char *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return -1;
    if (write_all(fd, data, size)) return -1;
    return close(fd);
}

/* Write beside the file and rename over it: a reader, and a crash, see the old text or the new one. Returns 1 when
 * there is no way to do that here and the file was left alone. */
static int swap_in(const char *path, const char *data, size_t size, const struct stat *old)
{
    const char *slash = strrchr(path, '/');
    char *temporary = slash ? joined(path, (size_t)(slash - path), ".hostler-XXXXXX") : need(strdup(".hostler-XXXXXX"));
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return 1;
    mode_t mask = umask(0);
    umask(mask);
    int status = write_all(fd, data, size);
    if (!status && old && fchown(fd, (uid_t)-1, old->st_gid) && old->st_gid != getegid()) status = 1;
    if (!status && fchmod(fd, old ? old->st_mode & 07777 : 0666 & ~mask)) status = 1;
    int error = errno;
    if (close(fd) && !status) {
        status = -1;
        error = errno;
    }
    if (!status && rename(temporary, path)) status = 1;
    if (status) unlink(temporary);
    free(temporary);
    errno = error;
    return status;
}

/* Put `data` in place of the file. Symlinks are followed, mode and group kept. Returns -1 with errno. */
static int replace_file(const char *path, const char *data, size_t size)
{
    struct stat st;
    char *real = follow(path);
    if (!real || make_parents(real)) return -1;
    int exists = !stat(real, &st);
    if (exists && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    if (exists && !S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return -1;
    }
    if (exists && access(real, W_OK)) return -1;
    /* A new file would part hard links, and take the file away from another owner. */
    int status = exists && (st.st_nlink > 1 || st.st_uid != geteuid()) ? 1 : swap_in(real, data, size, exists ? &st : NULL);
    return status == 1 ? overwrite(real, data, size) : status;
}

static void cmd_write(void)
{
    size_t size;
    char *path = field(NULL), *content = field(&size);
    if (replace_file(path, content, size))
        fail("write: %s: %s", path, errno == EINVAL ? "not a regular file" : reason(errno));
    dprintf(STDOUT_FILENO, "wrote %zu bytes to %s", size, path);
}

static size_t occurrences(const struct text *body, const char *old, size_t size)
{
    size_t count = 0;
    char *at = body->data, *end = body->data + body->size;
    while ((at = memmem(at, (size_t)(end - at), old, size))) {
        count++;
        at += size;
    }
    return count;
}

static void cmd_edit(void)
{
    size_t old_size, new_size;
    char *path = field(NULL), *old = field(&old_size), *new = field(&new_size);
    int all = field(NULL)[0] == '1';
    struct text body = {0}, edited = {0};
    struct stat st;
    int fd = open_regular("edit", path, &st);
    if (load(fd, &body, TEXT_LIMIT + 1)) fail("edit: %s: %s", path, reason(errno));
    if (body.size > TEXT_LIMIT || (size_t)st.st_size > TEXT_LIMIT)
        fail("edit: %s is %zu bytes, exceeds %zu-byte limit. The edit tool loads the whole file and cannot modify a "
             "file this large.", path, (size_t)st.st_size > body.size ? (size_t)st.st_size : body.size, TEXT_LIMIT);
    if (!valid_utf8((unsigned char *)body.data, body.size))
        fail("edit: %s: not valid UTF-8 text (cannot edit binary files)", path);
    if (!old_size) fail("edit: old_string must not be empty");
    size_t count = occurrences(&body, old, old_size);
    if (!count) fail("edit: old_string not found in %s", path);
    if (count > 1 && !all) fail("edit: old_string appears %zu times in %s (must be unique)", count, path);
    if (new_size > EDITED_LIMIT / count) fail("edit: %s would grow over %zu bytes", path, EDITED_LIMIT);
    char *at = body.data, *end = body.data + body.size, *hit;
    while ((hit = memmem(at, (size_t)(end - at), old, old_size))) {
        put(&edited, at, (size_t)(hit - at));
        put(&edited, new, new_size);
        at = hit + old_size;
    }
    put(&edited, at, (size_t)(end - at));
    if (replace_file(path, edited.data, edited.size)) fail("edit: %s: %s", path, reason(errno));
    dprintf(STDOUT_FILENO, "edited %s (%zu replacement(s))", path, count);
}

/* Keep a long output for the model to look into: in the first of the directories that takes it. */
static void cmd_spill(int argc, char **argv)
{
    size_t size;
    char *name = field(NULL), *content = field(&size);
    int error = ENOENT;
    for (int i = 2; i < argc; i++) {
        char *path = joined(argv[i], strlen(argv[i]), name);
        if (!replace_file(path, content, size)) {
            say(path, strlen(path));
            return;
        }
        error = errno;
        free(path);
    }
    fail("%s", reason(error));
}

#include "tools_search.h"

int main(int argc, char **argv)
{
    const char *tool = argc > 1 ? argv[1] : "";
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error text, not a death that leaves a half file */
    take_input();
    if (!strcmp(tool, "read")) cmd_read(argc, argv);
    else if (!strcmp(tool, "write")) cmd_write();
    else if (!strcmp(tool, "edit")) cmd_edit();
    else if (!strcmp(tool, "glob")) cmd_glob();
    else if (!strcmp(tool, "grep")) cmd_grep(argc, argv);
    else if (!strcmp(tool, "spill")) cmd_spill(argc, argv);
    else misuse("usage: tools read|write|edit|glob|grep|spill");
    return 0;
}
