/* `hostler-init pack` and `unpack`: carries the agent's files out of a container and into one, as the agent's user, so that
 * no link of the agent's making leads where the agent can't go; and none is followed. The server makes a snapshot of the
 * stream, and the stream of a snapshot, which it has checked (container/records.py).
 *
 *   pack UID FOLDER...   records on stdout; ends when stdin does, as nobody reads them then
 *   unpack UID           records on stdin, their paths absolute; prints `ok`, or why not
 *
 *   record  u8 kind, u8 sparse, u16 folder, u32 mode, u64 size, i64 seconds, u32 nanos, u32 path_len, u32 link_len,
 *           u32 xattrs_len, u32 extents; path, link, xattrs (u16 name_len, u32 value_len, name, value),
 *           extents (u64 offset, u64 length), data
 *   kinds   `0` file, `1` hard link, `2` symlink, `5` folder, `6` FIFO as in tar; `D` the last look of a folder that was
 *           made; `E` the end; `X` why there is no more, and `T` that there is too much, in the path
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_DEPTH 200
#define MAX_PATH 16384
#define MAX_XATTRS (512 * 1024)
#define MAX_EXTENTS 1000000

struct record {
    uint8_t kind, sparse;
    uint16_t folder;
    uint32_t mode;
    uint64_t size;
    int64_t seconds;
    uint32_t nanos, path_len, link_len, xattrs_len, extents;
} __attribute__((packed));

struct extent {
    uint64_t offset, length;
};

struct linked {
    dev_t dev;
    ino_t ino;
    char path[];
};

static char out[65536], path[MAX_PATH + 1], link_text[MAX_PATH + 1], xattrs[MAX_XATTRS];
static size_t out_len;
static uint16_t folder_number;
static void *links;

static void become(const char *uid_text) {
    uid_t uid = (uid_t)strtoul(uid_text, NULL, 10);
    if (!uid || setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 || !setuid(0))
        _exit(126);
    prctl(PR_SET_DUMPABLE, 0);
    umask(0);
}

/* ---- out of a container ---- */

static void flush_out(void) {
    for (size_t at = 0; at < out_len;) {
        struct pollfd ends[] = {{.fd = 1, .events = POLLOUT}, {.fd = 0, .events = POLLIN}};
        if (poll(ends, 2, -1) < 0 && errno != EINTR) _exit(1);
        if (ends[1].revents) _exit(1); /* nobody is there any more */
        if (!ends[0].revents) continue;
        size_t part = out_len - at < 4096 ? out_len - at : 4096; /* what a pipe that is ready takes without waiting */
        ssize_t n = write(1, out + at, part);
        if (n < 0 && errno != EINTR && errno != EAGAIN) _exit(1);
        if (n > 0) at += (size_t)n;
    }
    out_len = 0;
}

static void emit(const void *data, size_t len) {
    while (len) {
        size_t part = sizeof out - out_len < len ? sizeof out - out_len : len;
        if (data) memcpy(out + out_len, data, part), data = (const char *)data + part;
        else memset(out + out_len, 0, part);
        out_len += part, len -= part;
        if (out_len == sizeof out) flush_out();
    }
}

static void give_up(uint8_t kind, const char *why) {
    struct record r = {.kind = kind, .path_len = (uint32_t)strlen(why)};
    emit(&r, sizeof r);
    emit(why, r.path_len);
    flush_out();
    _exit(1);
}

static struct record described(uint8_t kind, const struct stat *st) {
    return (struct record){.kind = kind,
                           .folder = folder_number,
                           .mode = st->st_mode & 07777,
                           .seconds = st->st_mtim.tv_sec,
                           .nanos = (uint32_t)st->st_mtim.tv_nsec,
                           .path_len = (uint32_t)strlen(path)};
}

static uint32_t read_xattrs(int fd) {
    static char names[65536];
    size_t used = 0;
    ssize_t len = flistxattr(fd, names, sizeof names);
    for (char *name = names; name < names + (len > 0 ? len : 0); name += strlen(name) + 1) {
        uint16_t name_len = (uint16_t)strlen(name);
        if (strncmp(name, "user.", 5) || strchr(name, '=') || used + 6 + name_len >= sizeof xattrs) continue;
        ssize_t n = fgetxattr(fd, name, xattrs + used + 6 + name_len, sizeof xattrs - used - 6 - name_len);
        if (n < 0) continue;
        uint32_t value_len = (uint32_t)n;
        memcpy(xattrs + used, &name_len, 2);
        memcpy(xattrs + used + 2, &value_len, 4);
        memcpy(xattrs + used + 6, name, name_len);
        used += 6 + name_len + value_len;
    }
    return (uint32_t)used;
}

static void emit_record(const struct record *r, const char *link, const struct extent *extents) {
    emit(r, sizeof *r);
    emit(path, r->path_len);
    emit(link, r->link_len);
    emit(xattrs, r->xattrs_len);
    emit(extents, r->extents * sizeof *extents);
}

static int by_file(const void *a, const void *b) {
    const struct linked *x = a, *y = b;
    if (x->dev != y->dev) return x->dev < y->dev ? -1 : 1;
    return x->ino == y->ino ? 0 : x->ino < y->ino ? -1 : 1;
}

/* The path under which a file with several names was packed before; this one is remembered when there is none. */
static const char *packed_before(const struct stat *st) {
    struct linked *one = malloc(sizeof *one + strlen(path) + 1), **found;
    if (!one) give_up('X', "no memory");
    *one = (struct linked){.dev = st->st_dev, .ino = st->st_ino};
    strcpy(one->path, path);
    if (!(found = tsearch(one, &links, by_file))) give_up('X', "no memory");
    if (*found == one) return NULL;
    free(one);
    return (*found)->path;
}

/* A file that could not be packed after all: its next name has to be. */
static void forget_packed(const struct stat *st) {
    struct linked one = {.dev = st->st_dev, .ino = st->st_ino};
    if (st->st_nlink > 1) tdelete(&one, &links, by_file);
}

/* Opens what its mode keeps from its owner, too; `mode` is what it had, and is to have again. */
static int open_anyway(int parent, const char *name, int flags, const struct stat *st, int *mode) {
    char own[64];
    struct stat opened;
    int fd = openat(parent, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    *mode = -1;
    if (fd < 0 && errno == EACCES) {
        int handle = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (handle >= 0 && fstat(handle, &opened) == 0 && (opened.st_mode & S_IFMT) == (st->st_mode & S_IFMT)) {
            snprintf(own, sizeof own, "/proc/self/fd/%d", handle);
            *mode = opened.st_mode & 07777;
            fd = chmod(own, (mode_t)*mode | 0700) < 0 ? -1 : open(own, flags | O_NONBLOCK | O_CLOEXEC);
            if (fd < 0) give_up('X', "a file does not belong to the agent");
        }
        if (handle >= 0) close(handle);
    }
    if (fd < 0 || fstat(fd, &opened) < 0 || (opened.st_mode & S_IFMT) != (st->st_mode & S_IFMT)) {
        if (fd >= 0) close(fd);
        return -1; /* it went, or was exchanged */
    }
    return fd;
}

static struct extent *find_extents(int fd, uint64_t size, uint32_t *count) {
    struct extent *found = NULL;
    uint32_t room = 0;
    for (off_t at = 0; at < (off_t)size;) {
        off_t begin = lseek(fd, at, SEEK_DATA), end = begin < 0 ? -1 : lseek(fd, begin, SEEK_HOLE);
        if (begin < 0 || end < 0 || begin >= (off_t)size) break;
        if (end > (off_t)size) end = (off_t)size;
        if (*count == room) found = realloc(found, (room = room ? 2 * room : 64) * sizeof *found);
        if (!found) give_up('X', "no memory");
        found[(*count)++] = (struct extent){(uint64_t)begin, (uint64_t)(end - begin)};
        if (*count > MAX_EXTENTS) give_up('T', "one of its files is in too many pieces");
        at = end;
    }
    return found;
}

/* As much as was said: what the file has lost meanwhile is zeros. */
static void emit_data(int fd, uint64_t offset, uint64_t length) {
    static char data[65536];
    while (length) {
        size_t part = length < sizeof data ? (size_t)length : sizeof data;
        ssize_t n = pread(fd, data, part, (off_t)offset);
        if (n < 0 && errno != EINTR) give_up('X', strerror(errno));
        if (n < 0) continue;
        if (n == 0) memset(data, 0, part), n = (ssize_t)part;
        emit(data, (size_t)n);
        offset += (uint64_t)n, length -= (uint64_t)n;
    }
}

static bool pack_file(int parent, const char *name, const struct stat *named) {
    struct stat st;
    int mode, fd = open_anyway(parent, name, O_RDONLY, named, &mode);
    if (fd < 0) return false;
    if (mode >= 0) fchmod(fd, (mode_t)mode);
    bool whole = fstat(fd, &st) == 0 && st.st_ino == named->st_ino && st.st_dev == named->st_dev;
    if (whole) {
        struct record r = described('0', &st);
        struct extent *extents = NULL;
        r.size = (uint64_t)st.st_size;
        r.xattrs_len = read_xattrs(fd);
        r.sparse = st.st_blocks * 512 < st.st_size;
        if (r.sparse) {
            uint32_t count = 0;
            extents = find_extents(fd, r.size, &count);
            r.extents = count;
        }
        emit_record(&r, NULL, extents);
        if (!r.sparse) emit_data(fd, 0, r.size);
        for (uint32_t i = 0; i < r.extents; i++) emit_data(fd, extents[i].offset, extents[i].length);
        free(extents);
    }
    close(fd);
    return whole;
}

static void pack_folder(int fd, int mode, int depth);

static void pack_one(int parent, const char *name, int depth) {
    struct stat st;
    const char *before;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return;
    if (S_ISDIR(st.st_mode)) {
        int mode, fd = open_anyway(parent, name, O_RDONLY | O_DIRECTORY, &st, &mode);
        if (fd >= 0 && depth >= MAX_DEPTH) give_up('T', "its folders are deeper than 200");
        if (fd >= 0) pack_folder(fd, mode, depth + 1);
        return;
    }
    struct record r = described('1', &st);
    bool kept = S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) || S_ISFIFO(st.st_mode);
    if (!kept) return;
    if (st.st_nlink > 1 && (before = packed_before(&st))) {
        r.link_len = (uint32_t)strlen(before);
        emit_record(&r, before, NULL);
    } else if (S_ISREG(st.st_mode)) {
        if (!pack_file(parent, name, &st)) forget_packed(&st);
    } else if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(parent, name, link_text, MAX_PATH);
        if (n <= 0) {
            forget_packed(&st);
            return;
        }
        r.kind = '2', r.link_len = (uint32_t)n;
        emit_record(&r, link_text, NULL);
    } else {
        r.kind = '6';
        emit_record(&r, NULL, NULL);
    }
}

static void pack_folder(int fd, int mode, int depth) {
    struct stat st;
    size_t len = strlen(path);
    DIR *d = fdopendir(fd);
    if (!d || fstat(fd, &st) < 0) give_up('X', strerror(errno));
    struct record r = described('5', &st);
    if (mode >= 0) r.mode = (uint32_t)mode;
    r.xattrs_len = read_xattrs(fd);
    emit_record(&r, NULL, NULL);
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (len + 1 + strlen(e->d_name) > MAX_PATH - 256) give_up('T', "one of its paths is too long");
        sprintf(path + len, "%s%s", len ? "/" : "", e->d_name);
        pack_one(dirfd(d), e->d_name, depth);
        path[len] = 0;
    }
    if (mode >= 0) fchmod(fd, (mode_t)mode);
    closedir(d);
}

static int pack_all(int count, char **folders) {
    for (int i = 0; i < count; i++) {
        char *name, *copy = strdup(folders[i]);
        struct stat st;
        int mode, fd = -1, parent = copy ? walk(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), copy + 1, &name, false) : -1;
        folder_number = (uint16_t)i;
        if (parent >= 0 && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            fd = open_anyway(parent, name, O_RDONLY | O_DIRECTORY, &st, &mode);
        if (fd < 0) give_up('X', "one of the agent's folders is not there");
        links = NULL; /* those of another folder stay where they are: what has names in two becomes two */
        pack_folder(fd, mode, 1);
        close(parent);
        free(copy);
    }
    struct record end = {.kind = 'E'};
    emit(&end, sizeof end);
    flush_out();
    return 0;
}

/* ---- into a container ---- */

static void refuse(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void take(void *to, size_t len) {
    if (len && fread(to, len, 1, stdin) != 1) errno = EPIPE, refuse("the files");
}

static void dress(int fd, const struct record *r) {
    struct timespec times[] = {{r->seconds, r->nanos}, {r->seconds, r->nanos}};
    for (size_t at = 0; at + 6 <= r->xattrs_len;) {
        char name[256] = "";
        uint16_t name_len;
        uint32_t value_len;
        memcpy(&name_len, xattrs + at, 2);
        memcpy(&value_len, xattrs + at + 2, 4);
        at += 6;
        if (name_len >= sizeof name || at + name_len + value_len > r->xattrs_len) errno = EINVAL, refuse("an attribute");
        memcpy(name, xattrs + at, name_len);
        (void)!fsetxattr(fd, name, xattrs + at + name_len, value_len, 0); /* a file system may have none */
        at += name_len + value_len;
    }
    if (fchmod(fd, r->mode) < 0 || futimens(fd, times) < 0) refuse("the look of a file");
}

static void take_data(int fd, uint64_t offset, uint64_t length) {
    static char data[65536];
    while (length) {
        size_t part = length < sizeof data ? (size_t)length : sizeof data;
        take(data, part);
        for (size_t at = 0; at < part;) {
            ssize_t n = pwrite(fd, data + at, part - at, (off_t)(offset + at));
            if (n < 0 && errno != EINTR) refuse("a file");
            if (n > 0) at += (size_t)n;
        }
        offset += part, length -= part;
    }
}

static void make_file(int parent, const char *name, const struct record *r) {
    int fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct extent *extents = malloc((r->extents + 1) * sizeof *extents);
    if (fd < 0 || !extents) refuse("a file");
    take(extents, r->extents * sizeof *extents);
    if (!r->sparse) take_data(fd, 0, r->size);
    for (uint32_t i = 0; i < r->extents; i++) take_data(fd, extents[i].offset, extents[i].length);
    if (ftruncate(fd, (off_t)r->size) < 0) refuse("a file");
    dress(fd, r);
    free(extents);
    if (close(fd) < 0) refuse("a file");
}

static void make_hard_link(int parent, const char *name) {
    char *last;
    int from = walk(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), link_text + 1, &last, false);
    if (from < 0 || linkat(from, last, parent, name, 0) < 0) refuse("a link");
    close(from);
}

static void make_one(const struct record *r) {
    struct timespec times[] = {{r->seconds, r->nanos}, {r->seconds, r->nanos}};
    char *name;
    int parent = walk(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), path + 1, &name, false), fd;
    if (parent < 0) refuse("a folder");
    if (r->kind == '0') make_file(parent, name, r);
    else if (r->kind == '1') make_hard_link(parent, name);
    else if (r->kind == '2') {
        if (symlinkat(link_text, parent, name) < 0) refuse("a link");
        if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0) refuse("a link");
    } else if (r->kind == '5') {
        if (mkdirat(parent, name, 0700) < 0) refuse("a folder");
    } else if (r->kind == '6') {
        if (mkfifoat(parent, name, 0600) < 0 || fchmodat(parent, name, r->mode, 0) < 0) refuse("a pipe");
    } else if (r->kind == 'D') {
        if ((fd = open_folder(parent, name)) < 0) refuse("a folder");
        dress(fd, r);
        close(fd);
    } else errno = EINVAL, refuse("a record");
    close(parent);
}

static int unpack_all(void) {
    struct record r;
    for (take(&r, sizeof r); r.kind != 'E'; take(&r, sizeof r)) {
        if (r.path_len < 2 || r.path_len > MAX_PATH || r.link_len > MAX_PATH || r.xattrs_len > MAX_XATTRS ||
            r.extents > MAX_EXTENTS)
            errno = EINVAL, refuse("a record");
        take(path, r.path_len);
        take(link_text, r.link_len);
        take(xattrs, r.xattrs_len);
        path[r.path_len] = link_text[r.link_len] = 0;
        make_one(&r);
    }
    printf("ok\n");
    return fflush(stdout) == 0 ? 0 : 1;
}

int archive_main(int argc, char **argv) {
    if (argc >= 3 && !strcmp(argv[0], "pack")) {
        become(argv[1]);
        return pack_all(argc - 2, argv + 2);
    }
    if (argc == 2 && !strcmp(argv[0], "unpack")) {
        become(argv[1]);
        return unpack_all();
    }
    return 2;
}
