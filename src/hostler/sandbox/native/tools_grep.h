/*
 * grep of tools.c (included by it alone): ripgrep where the sandbox has it, else the C library's regular expressions.
 * It must not run any other program, and must not outlive its time.
 */

/* ---- with ripgrep ---- */

static void start_ripgrep(const char *program, const char *pattern, const char *root, int out, int errors)
{
    char *argv[] = {"rg", "--no-config", "--no-messages", "--hidden", "--glob=!.git", "--engine=auto", "--files-with-matches", "--null",
                    "--color=never", "-e", (char *)pattern, "--", (char *)root, NULL};
    char *env[] = {"PATH=/usr/bin:/bin", NULL};
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    execve(program, argv, env);
    _exit(126);
}

/* Take whole NUL-ended paths out of `pending`. */
static void take_paths(struct matches *found, struct text *pending)
{
    char *at = pending->data, *end = pending->data + pending->size, *stop;
    struct stat st;
    while ((stop = memchr(at, 0, (size_t)(end - at)))) {
        if (!lstat(at, &st)) keep(found, at, &st);
        at = stop + 1;
    }
    pending->size = (size_t)(end - at);
    memmove(pending->data, at, pending->size);
}

static void listen_to(struct matches *found, struct text *errors, int out, int err)
{
    struct pollfd ends[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
    struct text pending = {0};
    char chunk[16384];
    while (!expired && (ends[0].fd >= 0 || ends[1].fd >= 0)) {
        if (poll(ends, 2, 500) <= 0) continue; /* the alarm may ring just before the call */
        for (int i = 0; i < 2; i++) {
            if (ends[i].fd < 0 || !ends[i].revents) continue;
            ssize_t n = read(ends[i].fd, chunk, sizeof chunk);
            if (n <= 0) ends[i].fd = -1;
            else if (i == 0) {
                put(&pending, chunk, (size_t)n);
                take_paths(found, &pending);
            } else if (errors->size < 4096) {
                put(errors, chunk, n < 2048 ? (size_t)n : 2048);
            }
        }
    }
}

/* Returns 0 when no process could be started: the search is then done in this one. */
static int ripgrep(const char *program, const char *pattern, const char *root, struct walk *w)
{
    int out[2], err[2], status = 0;
    struct text errors = {0};
    if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC)) fail("grep: %s", reason(errno));
    pid_t child = fork();
    if (child < 0) return 0;
    if (child == 0) start_ripgrep(program, pattern, root, out[1], err[1]);
    close(out[1]);
    close(err[1]);
    listen_to(&w->found, &errors, out[0], err[0]);
    if (expired) {
        kill(child, SIGKILL);
        w->stopped = "out of time";
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    /* 1 is "nothing found"; 2 without a word is "some files could not be read" */
    int broken = !WIFEXITED(status) || WEXITSTATUS(status) > 2 || (WEXITSTATUS(status) == 2 && errors.size);
    if (broken && !expired && !w->found.total) {
        while (errors.size && errors.data[errors.size - 1] == '\n') errors.data[--errors.size] = 0;
        fail("grep: rg failed: %s", errors.size ? errors.data : "it ended before its time");
    }
    return 1;
}

/* ---- without ---- */

static regex_t expression;

static const char *class_of(char letter)
{
    switch (letter) {
    case 'd': return "0-9";
    case 'w': return "[:alnum:]_";
    case 's': return "[:space:]";
    }
    return NULL;
}

static char plain_escape(char letter)
{
    return letter == 'n' ? '\n' : letter == 't' ? '\t' : letter == 'r' ? '\r' : letter;
}

/* A bracket in the POSIX manner, where '\' is no escape and ']', '^' and '-' have their own places. */
static const char *translate_bracket(const char *p, struct text *out)
{
    struct text inside = {0};
    int negated = *p == '^', closing = 0, caret = 0, dash = 0;
    p += negated;
    for (int first = 1; *p && (*p != ']' || first); first = 0) {
        const char *named = p[0] == '[' && p[1] == ':' ? strstr(p, ":]") : NULL;
        char c = *p++;
        if (named) {
            put(&inside, p - 1, (size_t)(named + 3 - p));
            p = named + 2;
            continue;
        }
        if (c == '\\' && class_of(*p)) {
            put(&inside, class_of(*p), strlen(class_of(*p)));
            p++;
            continue;
        }
        int escaped = c == '\\' && *p;
        if (escaped) c = plain_escape(*p++);
        if (c == ']') closing = 1;
        else if (c == '^') caret = 1;
        else if (c == '-' && (escaped || first || *p == ']')) dash = 1;
        else put(&inside, &c, 1);
    }
    if (*p != ']') fail("grep: invalid regex: unclosed character class");
    if (caret && !negated && !closing && !inside.size) { /* "[^" would negate */
        put(out, dash ? "[-^]" : "\\^", dash ? 4 : 2);
        return p + 1;
    }
    put(out, negated ? "[^" : "[", negated ? 2 : 1);
    put(out, "]", (size_t)closing);
    put(out, inside.data, inside.size);
    put(out, "^", (size_t)caret);
    put(out, "-", (size_t)dash);
    put(out, "]", 1);
    free(inside.data);
    return p + 1;
}

static const char *translate_escape(const char *p, struct text *out)
{
    char lower = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
    const char *class = class_of(lower);
    if (class) {
        put(out, lower == *p ? "[" : "[^", lower == *p ? 1 : 2);
        put(out, class, strlen(class));
        put(out, "]", 1);
    } else if (strchr("ntr", *p)) {
        char c = plain_escape(*p);
        put(out, &c, 1);
    } else {
        put(out, p - 1, 2);
    }
    return p + 1;
}

/* The common dialect of models into POSIX extended expressions; what has no counterpart is refused, not guessed. */
static void compile(const char *p)
{
    struct text out = {0};
    int flags = REG_EXTENDED | REG_NOSUB;
    put(&out, "", 0);
    if (!strncmp(p, "(?i)", 4)) {
        flags |= REG_ICASE;
        p += 4;
    }
    while (*p) {
        char c = *p++;
        if (c == '\\' && *p) p = translate_escape(p, &out);
        else if (c == '[') p = translate_bracket(p, &out);
        else if (c == '(' && p[0] == '?' && p[1] == ':') put(&out, "(", 1), p += 2;
        else if (c == '(' && p[0] == '?') fail("grep: invalid regex: (?%c is not supported here", p[1]);
        else if (c == '?' && out.size && strchr("*+?}", out.data[out.size - 1])) continue; /* lazy: same lines match */
        else put(&out, &c, 1);
    }
    int error = regcomp(&expression, out.data, flags);
    char text[128];
    if (!error) return;
    regerror(error, &expression, text, sizeof text);
    fail("grep: invalid regex: %s", text);
}

static int file_matches(int directory, const char *name)
{
    char line[65536];
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), hit = 0;
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    if (!file) return 0;
    size_t head = fread(line, 1, 512, file);
    if (!memchr(line, 0, head) && !fseek(file, 0, SEEK_SET)) {
        while (!hit && !expired && fgets(line, sizeof line, file)) {
            line[strcspn(line, "\r\n")] = 0;
            hit = !regexec(&expression, line, 0, NULL, 0);
        }
    }
    fclose(file);
    return hit;
}

static void built_in_grep(const char *pattern, const char *root, int is_file, struct walk *w)
{
    struct stat st;
    compile(pattern);
    if (is_file) {
        if (file_matches(AT_FDCWD, root) && !stat(root, &st)) keep(&w->found, root, &st);
        return;
    }
    add_pattern("**");
    w->accept = file_matches;
    w->skip_bulk = 1;
    walk_from(w, root);
}

static void cmd_grep(int argc, char **argv)
{
    char *pattern = field(NULL), *path = field(NULL), *most = field(NULL);
    struct walk w = {.found = {.limit = *most ? strtoul(most, NULL, 10) : GREP_RESULTS}};
    struct stat st;
    int capped = *most != 0;
    char *root = search_root("grep", path);
    if (stat(root, &st)) fail("grep: %s: %s", path, reason(errno));
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) fail("grep: %s: not a regular file or directory", path);
    struct sigaction alarm_clock = {.sa_handler = expire}; /* no SA_RESTART: it must wake poll */
    sigaction(SIGALRM, &alarm_clock, NULL);
    alarm(SEARCH_SECONDS);
    int there = argc > 2 && !access(argv[2], X_OK);
    if (!there || !ripgrep(argv[2], pattern, root, &w)) built_in_grep(pattern, root, S_ISREG(st.st_mode), &w);
    say_matches(&w.found, "no matches", w.stopped, !capped);
}
