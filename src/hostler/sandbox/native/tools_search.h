/*
 * glob and grep of tools.c (included by it alone): a bounded walk that never follows a symlink, and its two filters.
 * It must not print more than the newest matches it was asked for, however many there are.
 */

#define GLOB_RESULTS 100
#define GREP_RESULTS 1000
#define MAX_ENTRIES 500000
#define MAX_DEPTH 200
#define MAX_ALTERNATIVES 64
#define MAX_SEGMENTS 63
#define SEARCH_SECONDS 30

static volatile sig_atomic_t expired;

static void expire(int number)
{
    (void)number;
    expired = 1;
}

/* ---- the newest matches ---- */

struct match {
    char *path;
    int64_t mtime;
};

struct matches {
    struct match *list;
    size_t count, limit, total;
};

static int newest_first(const void *left, const void *right)
{
    const struct match *a = left, *b = right;
    if (a->mtime != b->mtime) return a->mtime < b->mtime ? 1 : -1;
    return strcmp(a->path, b->path);
}

static void cut(struct matches *found)
{
    qsort(found->list, found->count, sizeof *found->list, newest_first);
    for (; found->count > found->limit; found->count--) free(found->list[found->count - 1].path);
}

static void keep(struct matches *found, const char *path, const struct stat *st)
{
    if (!found->list) found->list = need(calloc(2 * found->limit + 1, sizeof *found->list));
    found->list[found->count++] = (struct match){need(strdup(path)), st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec};
    found->total++;
    if (found->count > 2 * found->limit) cut(found);
}

/* One path a line, so a line break inside a name is shown as an escape. */
static void say_path(struct text *out, const char *path)
{
    if (out->size) put(out, "\n", 1);
    for (; *path; path++) {
        if (*path == '\n') put(out, "\\n", 2);
        else put(out, path, 1);
    }
}

static void say_matches(struct matches *found, const char *none, const char *stopped, int tell_more)
{
    struct text out = {0};
    char note[200];
    if (found->list) cut(found);
    for (size_t i = 0; i < found->count; i++) say_path(&out, found->list[i].path);
    if (!found->count) put(&out, none, strlen(none));
    if (tell_more && found->total > found->count) {
        int n = snprintf(note, sizeof note, "\n[%zu more files match: narrow the pattern or the path]", found->total - found->count);
        put(&out, note, (size_t)n);
    }
    if (stopped) {
        int n = snprintf(note, sizeof note, "\n[the search stopped early, %s: narrow the path]", stopped);
        put(&out, note, (size_t)n);
    }
    say(out.data, out.size);
}

/* ---- patterns ---- */

static uint32_t code_point(const char **at)
{
    const unsigned char *s = (const unsigned char *)*at;
    int more = *s < 0xC2 ? 0 : *s < 0xE0 ? 1 : *s < 0xF0 ? 2 : *s < 0xF5 ? 3 : 0;
    uint32_t value = more ? *s & (0x3Fu >> more) : *s;
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xC0) != 0x80) {
            more = 0;
            value = *s;
            break;
        }
        value = value << 6 | (s[i] & 0x3F);
    }
    *at += more + 1;
    return value;
}

/* Match `c` against the class that begins after '['. Returns the text behind ']', or NULL when it never closes. */
static const char *match_class(const char *p, uint32_t c, int *hit)
{
    int negated = *p == '!' || *p == '^', found = 0;
    p += negated;
    for (int first = 1; *p && (*p != ']' || first); first = 0) {
        if (*p == '\\' && p[1]) p++;
        uint32_t low = code_point(&p), high = low;
        if (*p == '-' && p[1] && p[1] != ']') {
            p++;
            if (*p == '\\' && p[1]) p++;
            high = code_point(&p);
        }
        found |= low <= c && c <= high;
    }
    *hit = found != negated;
    return *p == ']' ? p + 1 : NULL;
}

/* One step of a pattern that is not '*'. Returns the rest of the pattern, or NULL for no match. */
static const char *match_one(const char *p, uint32_t c)
{
    int hit = 0;
    if (*p == '?') return p + 1;
    if (*p == '[') {
        const char *rest = match_class(p + 1, c, &hit);
        if (rest) return hit ? rest : NULL;
    }
    if (*p == '\\' && p[1]) p++;
    return *p && code_point(&p) == c ? p : NULL;
}

static int match_name(const char *p, const char *name)
{
    const char *star = NULL, *retry = NULL;
    while (*name) {
        if (*p == '*') {
            while (*p == '*') p++;
            star = p;
            retry = name;
            continue;
        }
        const char *next = name, *rest = match_one(p, code_point(&next));
        if (rest) {
            p = rest;
            name = next;
        } else if (star) {
            code_point(&retry);
            p = star;
            name = retry;
        } else {
            return 0;
        }
    }
    while (*p == '*') p++;
    return !*p;
}

struct pattern {
    char *segments[MAX_SEGMENTS];
    int count;
};

static struct pattern patterns[MAX_ALTERNATIVES];
static int alternatives;

static int any_depth(const struct pattern *p, int i)
{
    return i < p->count && !strcmp(p->segments[i], "**");
}

static void add_pattern(const char *text)
{
    if (alternatives == MAX_ALTERNATIVES) fail("glob: pattern has more than %d alternatives", MAX_ALTERNATIVES);
    struct pattern *p = &patterns[alternatives++];
    char *rest = need(strdup(text)), *save = NULL;
    for (char *s = strtok_r(rest, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
        if (!strcmp(s, "..")) fail("glob: '..' is not permitted in the pattern");
        if (!strcmp(s, ".") || (!strcmp(s, "**") && p->count && any_depth(p, p->count - 1))) continue;
        if (p->count == MAX_SEGMENTS) fail("glob: pattern has more than %d segments", MAX_SEGMENTS);
        p->segments[p->count++] = s;
    }
}

/* The end of the alternative that starts at `s`: an unnested ',' or '}', or NULL. */
static const char *alternative_end(const char *s)
{
    int depth = 0;
    for (; *s; s++) {
        if (*s == '\\' && s[1]) s++;
        else if (*s == '{') depth++;
        else if (!depth && (*s == ',' || *s == '}')) return s;
        else if (*s == '}') depth--;
    }
    return NULL;
}

/* Expand the first {a,b}; without a comma or an end a brace is only a brace. */
static void expand(const char *text, const char *from)
{
    const char *open = from;
    while (*open && *open != '{') open += *open == '\\' && open[1] ? 2 : 1;
    if (!*open) {
        add_pattern(text);
        return;
    }
    const char *close = alternative_end(open + 1), *first = close;
    while (close && *close == ',') close = alternative_end(close + 1);
    if (!close || close == first) {
        expand(text, open + 1);
        return;
    }
    for (const char *s = open + 1; s <= close;) {
        const char *end = alternative_end(s);
        struct text one = {0};
        put(&one, text, (size_t)(open - text));
        put(&one, s, (size_t)(end - s));
        put(&one, close + 1, strlen(close + 1));
        expand(one.data, one.data + (open - text));
        free(one.data);
        s = end + 1;
    }
}

/* ---- the walk ---- */

struct walk {
    struct matches found;
    struct text path;
    long entries;
    int skip_bulk; /* grep has no business in .git and node_modules */
    int (*accept)(int directory, const char *name);
    const char *stopped;
};

typedef uint64_t states[MAX_ALTERNATIVES]; /* for each alternative, the segments that may come next */

static int step(const states now, const char *name, states next, int *leads_on)
{
    int matched = 0;
    *leads_on = 0;
    for (int a = 0; a < alternatives; a++) {
        const struct pattern *p = &patterns[a];
        uint64_t open = now[a];
        next[a] = 0;
        for (int i = 0; i < p->count; i++) {
            if (!(open >> i & 1)) continue;
            if (any_depth(p, i)) {
                next[a] |= UINT64_C(1) << i;
                open |= UINT64_C(1) << (i + 1);
                matched |= i + 1 == p->count;
            } else if (match_name(p->segments[i], name)) {
                next[a] |= UINT64_C(1) << (i + 1);
                matched |= i + 1 == p->count;
            }
        }
        *leads_on |= (next[a] & ((UINT64_C(1) << p->count) - 1)) != 0;
    }
    return matched;
}

static void walk_directory(struct walk *w, int fd, const states now, int depth);

static void descend(struct walk *w, int fd, const char *name, const states next, int depth)
{
    if (depth >= MAX_DEPTH) {
        w->stopped = "too deep";
        return;
    }
    int child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (child >= 0) walk_directory(w, child, next, depth + 1);
}

static void visit(struct walk *w, int fd, const char *name, const states now, int depth)
{
    states next;
    struct stat st;
    int leads_on, matched = step(now, name, next, &leads_on);
    size_t length = w->path.size;
    if (!matched && !leads_on) return;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW)) return;
    put(&w->path, "/", length > 1 || w->path.data[0] != '/');
    put(&w->path, name, strlen(name));
    if (S_ISDIR(st.st_mode)) {
        int bulk = w->skip_bulk && (!strcmp(name, ".git") || !strcmp(name, "node_modules"));
        if (leads_on && !bulk) descend(w, fd, name, next, depth);
    } else if (matched) {
        struct stat target;
        int directory = S_ISLNK(st.st_mode) && !fstatat(fd, name, &target, 0) && S_ISDIR(target.st_mode);
        if (!directory && (!w->accept || (S_ISREG(st.st_mode) && w->accept(fd, name)))) keep(&w->found, w->path.data, &st);
    }
    w->path.size = length;
    w->path.data[length] = 0;
}

static void walk_directory(struct walk *w, int fd, const states now, int depth)
{
    DIR *directory = fdopendir(fd);
    struct dirent *entry;
    if (!directory) {
        close(fd);
        return;
    }
    while (!w->stopped && (entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (++w->entries > MAX_ENTRIES) w->stopped = "too many files";
        else if (expired) w->stopped = "out of time";
        else visit(w, fd, entry->d_name, now, depth);
    }
    closedir(directory);
}

static void walk_from(struct walk *w, const char *root)
{
    states start;
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    for (int a = 0; a < alternatives; a++) start[a] = 1;
    put(&w->path, root, strlen(root));
    walk_directory(w, fd, start, 0);
}

static char *search_root(const char *tool, const char *path)
{
    char *root = realpath(*path ? path : ".", NULL);
    if (!root) fail("%s: %s: %s", tool, *path ? path : ".", reason(errno));
    return root;
}

/* ---- glob ---- */

/* The part of a pattern up to which it is a plain path: it is walked to as the kernel does, symlinks and all. */
static size_t plain_prefix(const char *pattern)
{
    size_t length = 0;
    for (size_t i = 0; pattern[i] && !strchr("*?[{\\", pattern[i]); i++)
        if (pattern[i] == '/') length = i + 1;
    return length;
}

static void cmd_glob(void)
{
    char *pattern = field(NULL), *path = field(NULL);
    struct walk w = {.found = {.limit = GLOB_RESULTS}};
    if (strlen(pattern) >= PATH_MAX) fail("glob: pattern is longer than %d bytes", PATH_MAX - 1);
    size_t plain = plain_prefix(pattern);
    expand(pattern + plain, pattern + plain);
    char *root = search_root("glob", path);
    struct stat st;
    if (stat(root, &st) || !S_ISDIR(st.st_mode)) fail("glob: %s: not a directory", path);
    if (plain) {
        char *prefix = need(strndup(pattern, plain));
        char *below = *pattern == '/' ? prefix : joined(root, strlen(root), prefix);
        root = realpath(below, NULL);
    }
    signal(SIGALRM, expire);
    alarm(SEARCH_SECONDS);
    if (root) walk_from(&w, root);
    say_matches(&w.found, "No files found", w.stopped, 0);
}

#include "tools_grep.h"
