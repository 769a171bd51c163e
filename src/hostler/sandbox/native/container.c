/* What hostler-init does itself as the first process of a container: its socket, the agent's folders and account. It
 * works on folders that only root can change, and never on what lies in one of the agent's. */
#define _GNU_SOURCE
#include "state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* What an image has in folders that a session finds empty; some engines copy it into the memory that hides it. */
static void clear_folder(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char below[4096];
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (snprintf(below, sizeof below, "%s/%s", path, e->d_name) >= (int)sizeof below) continue;
        if (e->d_type == DT_DIR) clear_folder(below), rmdir(below);
        else unlink(below);
    }
    if (d) closedir(d);
}

void container_listen(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = INIT_SOCKET};
    if (getuid() != 0) errno = EPERM, die("the first process of a container must be its root");
    if (mkdir(INIT_FOLDER, 0700) < 0 && errno != EEXIST) die(INIT_FOLDER);
    /* A runtime may give a folder in memory the mode of what it hides: nobody else may enter ours, all may see the other. */
    if (chmod(INIT_FOLDER, 0700) < 0) die(INIT_FOLDER);
    chmod("/root", 0755);
    clear_folder("/root"), clear_folder("/run"), clear_folder("/srv");
    chmod("/", 0755); /* of an imported image it may be closed to its owner, and root here may not pass over modes */
    unlink(INIT_SOCKET);
    listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&to, sizeof to) < 0 || listen(listen_fd, 16) < 0)
        die(INIT_SOCKET);
}

int connect_to_init(void) {
    struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = INIT_SOCKET};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    for (int tries = 0; tries < 500; tries++) { /* the container may have been started a moment ago */
        if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
        if (errno != ENOENT && errno != ECONNREFUSED) break;
        usleep(2000);
    }
    die("cannot reach the first process of this container");
}

void make_folders(char *path) {
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        if (mkdir(path, 0755) < 0 && errno != EEXIST) die(path);
        *p = '/';
    }
    if (mkdir(path, 0755) < 0 && errno != EEXIST) die(path);
}

/* A folder that the agent owns already is left as it is. */
void own_folder(const char *path, unsigned mode) {
    struct stat st;
    char *copy = strdup(path);
    if (!copy) die(path);
    make_folders(copy);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    free(copy);
    if (fd < 0 && errno == EACCES) return; /* the agent's, who has shut it */
    if (fd < 0 || fstat(fd, &st) < 0) die(path);
    if (st.st_uid != agent_uid && (fchmod(fd, mode) < 0 || fchown(fd, agent_uid, agent_uid) < 0)) die(path);
    close(fd);
}

void make_link(char *text) {
    char *target = strchr(text, '='), *name = strrchr(text, '/');
    struct stat st;
    if (!target) errno = EINVAL, die("a link");
    *target++ = 0;
    name = strrchr(text, '/');
    if (name && name > text) {
        *name = 0;
        make_folders(text);
        *name = '/';
    }
    if (lstat(text, &st) == 0 && !S_ISDIR(st.st_mode)) unlink(text);
    if (symlink(target, text) < 0 && errno != EEXIST) die(text);
}

static void add_line(const char *path, const char *line, const char *id) {
    char text[65536];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0) die(path);
    text[n] = 0;
    if (!strstr(text, id)) {
        if (n && text[n - 1] != '\n') (void)!write(fd, "\n", 1);
        if (!write_all(fd, line, strlen(line))) die(path);
    }
    close(fd);
}

/* Programs ask who they are: an image that does not know the agent's user and group is told. */
void add_account(void) {
    char line[160], id[32];
    snprintf(id, sizeof id, ":%u:", agent_uid);
    snprintf(line, sizeof line, "agent:x:%u:%u:agent:/home/agent:/bin/bash\n", agent_uid, agent_uid);
    add_line("/etc/passwd", line, id);
    snprintf(line, sizeof line, "agent:x:%u:\n", agent_uid);
    add_line("/etc/group", line, id);
}
