/* `hostler-init files`: places inputs and collects outputs from inside, where a planted link leads nowhere but into the
 * sandbox; and even there none is followed. What lies in the agent's folders is done as the agent's user, all else as
 * root in folders of root's: whoever starts this sees to it.
 *
 *   files put TAG        records on stdin; prints the paths that something of the agent's stands in the way of
 *   files drop           paths on stdin, each ended by NUL: removed, with what folders they leave empty, two levels down
 *   files missing        paths on stdin, each ended by NUL; prints those where nothing is
 *   files list FOLDER    path NUL size NUL mtime_ns NUL for each regular file
 *   files read FOLDER OFFSET LENGTH   path on stdin; u64 inode, then the bytes; exit 3 when it is no file of that folder
 *
 *   record  u16 path_len, u8 flags, u32 number, u64 offset, u32 len, path, data
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_OUTPUTS 10000
#define MAX_DEPTH 64
#define MAX_PATH 4096
#define FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

enum { EXECUTABLE = 1, LAST = 2, REPLACE = 4 };

struct record {
    uint16_t path_len;
    uint8_t flags;
    uint32_t number;
    uint64_t offset;
    uint32_t len;
} __attribute__((packed));

static void fail(const char *what) {
    fprintf(stderr, "files: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Not every kernel that calls itself Linux keeps O_NOFOLLOW beside O_DIRECTORY (gVisor does not), so it is looked at. */
int open_folder(int parent, const char *name) {
    struct stat named, opened;
    int fd = openat(parent, name, FOLDER);
    if (fstatat(parent, name, &named, AT_SYMLINK_NOFOLLOW) < 0) named.st_mode = 0;
    if (named.st_mode && !S_ISDIR(named.st_mode)) errno = ENOTDIR;
    else if (fd < 0) return -1;
    else if (fstat(fd, &opened) == 0 && opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) return fd;
    else errno = ENOTDIR;
    if (fd >= 0) {
        close(fd);
        errno = ENOTDIR;
    }
    return -1;
}

/* The folder that holds the last name of `path`; -1 with errno when the way there is no way of plain folders. */
int walk(int top, char *path, char **name, bool make) {
    int fd = top;
    for (char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        *slash = 0;
        if (make && *path && mkdirat(fd, path, 0755) < 0 && errno != EEXIST) {
            close(fd);
            return -1;
        }
        int below = *path ? open_folder(fd, path) : fd;
        if (below != fd) {
            int e = errno;
            close(fd);
            errno = e;
        }
        if (below < 0) return -1;
        fd = below;
    }
    *name = path;
    return fd;
}

static bool in_the_way(void) {
    return errno == ELOOP || errno == ENOTDIR || errno == EISDIR || errno == EACCES || errno == EEXIST;
}

static void finish_file(int parent, const char *half, const char *name, int fd, uint8_t flags) {
    if (fchmod(fd, flags & EXECUTABLE ? 0755 : 0644) < 0) fail(name);
    if (!(flags & REPLACE)) {
        if (linkat(parent, half, parent, name, 0) < 0 && errno != EEXIST) fail(name);
        unlinkat(parent, half, 0);
    } else if (renameat(parent, half, parent, name) < 0) fail(name);
}

/* false when something is in the way */
static bool put(const struct record *r, char *path, const char *data, const char *tag) {
    char half[160], *name;
    struct stat st;
    int parent = walk(open("/", FOLDER), path + 1, &name, true);
    if (parent < 0) {
        if (in_the_way()) return false;
        fail("a folder on the way");
    }
    if (!(r->flags & REPLACE) && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        close(parent);
        return !S_ISDIR(st.st_mode);
    }
    snprintf(half, sizeof half, ".hostler-%s-%u", tag, r->number);
    int fd = openat(parent, half, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (r->offset ? 0 : O_EXCL), 0600);
    if (fd < 0 && in_the_way()) {
        close(parent);
        return false;
    }
    if (fd < 0) fail(name);
    for (size_t at = 0; at < r->len;) {
        ssize_t n = pwrite(fd, data + at, r->len - at, (off_t)(r->offset + at));
        if (n <= 0) {
            unlinkat(parent, half, 0);
            fail(name);
        }
        at += (size_t)n;
    }
    if (r->flags & LAST) finish_file(parent, half, name, fd, r->flags);
    close(fd);
    close(parent);
    return true;
}

static bool read_all(void *to, size_t len) { return len == 0 || fread(to, len, 1, stdin) == 1; }

static int put_all(const char *tag) {
    struct record r;
    char path[MAX_PATH + 1], shown[MAX_PATH + 1];
    while (read_all(&r, sizeof r)) {
        char *data = r.path_len <= MAX_PATH ? malloc((size_t)r.len + 1) : NULL;
        if (!data || !read_all(path, r.path_len) || !read_all(data, r.len)) fail("a record");
        path[r.path_len] = 0;
        strcpy(shown, path);
        if (!put(&r, path, data, tag)) printf("%s%c", shown, 0);
        free(data);
    }
    return 0;
}

static int drop_all(void) {
    char *path = NULL;
    size_t size = 0;
    while (getdelim(&path, &size, 0, stdin) > 0) {
        char *name, *copy = strdup(path);
        int parent = copy ? walk(open("/", FOLDER), copy + 1, &name, false) : -1;
        if (parent >= 0) {
            unlinkat(parent, name, 0);
            close(parent);
        }
        free(copy);
        /* /mnt/session/uploads and /mnt/skills themselves stay */
        size_t top = !strncmp(path, "/mnt/session/uploads/", 21) ? 20 : !strncmp(path, "/mnt/skills/", 12) ? 11 : 0;
        for (char *slash; top && (slash = strrchr(path, '/')) && slash > path + top;) {
            *slash = 0;
            if (rmdir(path) < 0) break;
        }
    }
    return 0;
}

static int show_missing(void) {
    char *path = NULL;
    size_t size = 0;
    struct stat st;
    while (getdelim(&path, &size, 0, stdin) > 0)
        if (lstat(path, &st) < 0) printf("%s%c", path, 0);
    return 0;
}

static void collect(int folder, const char *prefix, int depth, int *found) {
    DIR *d = fdopendir(folder);
    if (!d) {
        close(folder);
        return;
    }
    for (struct dirent *e; *found < MAX_OUTPUTS && (e = readdir(d));) {
        struct stat st;
        char path[MAX_PATH];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) continue;
        if (snprintf(path, sizeof path, "%s%s", prefix, e->d_name) >= (int)sizeof path - 1) continue;
        if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH) {
            int below = open_folder(dirfd(d), e->d_name);
            strcat(path, "/");
            if (below >= 0) collect(below, path, depth + 1, found);
        } else if (S_ISREG(st.st_mode)) {
            long long mtime = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
            printf("%s%c%lld%c%lld%c", path, 0, (long long)st.st_size, 0, mtime, 0);
            ++*found;
        }
    }
    closedir(d);
}

static int list(const char *folder) {
    int fd = open_folder(AT_FDCWD, folder), found = 0;
    if (fd >= 0) collect(fd, "", 0, &found);
    return 0;
}

static int read_part(const char *folder, off_t offset, size_t length) {
    static char data[65536], path[MAX_PATH + 1];
    char *name;
    struct stat st;
    path[fread(path, 1, MAX_PATH, stdin)] = 0;
    for (char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) /* no empty name, no way up */
        if (!*p || *p == '/' || !strcmp(p, ".") || !strncmp(p, "./", 2) || !strcmp(p, "..") || !strncmp(p, "../", 3))
            return 3;
    int top = open_folder(AT_FDCWD, folder), parent = top >= 0 ? walk(top, path, &name, false) : -1;
    int fd = parent >= 0 ? openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) return 3;
    uint64_t inode = st.st_ino;
    fwrite(&inode, sizeof inode, 1, stdout);
    while (length) {
        ssize_t n = pread(fd, data, length < sizeof data ? length : sizeof data, offset);
        if (n < 0) fail("reading");
        if (n == 0) break;
        fwrite(data, 1, (size_t)n, stdout);
        offset += n;
        length -= (size_t)n;
    }
    return 0;
}

int files_main(int argc, char **argv) {
    int status = 2;
    if (argc == 3 && !strcmp(argv[1], "put")) status = put_all(argv[2]);
    else if (argc == 2 && !strcmp(argv[1], "drop")) status = drop_all();
    else if (argc == 2 && !strcmp(argv[1], "missing")) status = show_missing();
    else if (argc == 3 && !strcmp(argv[1], "list")) status = list(argv[2]);
    else if (argc == 5 && !strcmp(argv[1], "read"))
        status = read_part(argv[2], (off_t)strtoll(argv[3], NULL, 10), (size_t)strtoull(argv[4], NULL, 10));
    return fflush(stdout) == 0 ? status : 1;
}
