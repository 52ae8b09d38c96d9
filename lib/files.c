/* files.c: whole files in, pipes in, files read piece by piece, atomic files
   out, directories, locks.

   May touch: the file system and base.c.  Nothing is mapped: a file that is
   cut or changed while it is read is an error with its name.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* "PATH: cannot WHAT: the system's reason" */
_Noreturn static void refused(const char *path, const char *what) {
    gm_fail(GM_EIO, "%s: cannot %s: %s", path, what, strerror(errno));
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool gm_same_file(const char *a, const char *b) {
    struct stat one, two;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && same_file(&one, &two);
}

bool gm_exists(const char *path) {
    return access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

const char **gm_dir_names(gm_arena *arena, const char *dir,
                          const char *patterns, long *count) {
    const char **name = NULL;
    size_t n = 0, room = 0;
    DIR *all = opendir(dir);
    for (const struct dirent *e; all && (e = readdir(all));) {
        if (!gm_name_matches(patterns, e->d_name)) continue;
        name = gm_grow(arena, name, n, &room, sizeof *name);
        name[n++] = gm_format(arena, "%s", e->d_name);
    }
    *count = all ? (long)n : -1;
    if (all) closedir(all);
    return name;
}

/* ------------------------------------------------------------------ inputs */

static void input_release(void *input) { close(((gm_input *)input)->fd); }

/* `-` is standard input.  A pipe or device has no size, and is waited for
   unless `flags` say not to (O_NONBLOCK). */
static gm_input *input_open(gm_arena *arena, const char *path, int flags) {
    const bool standard = strcmp(path, GM_STANDARD) == 0;
    gm_input *in = gm_alloc(arena, 1, sizeof *in);
    struct stat info;
    in->path = gm_format(arena, "%s", standard ? "standard input" : path);
    in->fd = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                      : open(path, O_RDONLY | O_CLOEXEC | flags);
    if (in->fd < 0) refused(in->path, "open");
    gm_own(&in->owned, input_release, in);
    if (fstat(in->fd, &info) != 0) refused(in->path, "stat");
    in->stream = standard || !S_ISREG(info.st_mode);
    if (S_ISDIR(info.st_mode) || (in->stream && flags & O_NONBLOCK))
        gm_bad(in->path, "not a regular file");
    in->size = in->stream ? 0 : (size_t)info.st_size;
    in->changed = info.st_mtim;
    return in;
}

gm_input *gm_input_open(gm_arena *arena, const char *path) {
    return input_open(arena, path, O_NONBLOCK);
}

void gm_input_read(const gm_input *in, int64_t from, size_t count, void *to) {
    const size_t MOST = 1 << 30;    /* what one read may ask for */
    for (size_t at = 0; at < count;) {
        size_t want = count - at < MOST ? count - at : MOST;
        ssize_t n = pread(in->fd, (char *)to + at, want, from + (off_t)at);
        if (n < 0) refused(in->path, "read");
        if (n == 0)
            gm_fail(GM_EIO, "%s: changed or shrank while it was being read",
                    in->path);
        at += (size_t)n;
    }
}

/* Fails when it has another size or time of change than when it was opened.
   A file put in its place by a rename does not count: what is read is still
   the old one. */
static void input_check(const gm_input *in) {
    struct stat now;
    if (in->stream) return;
    if (fstat(in->fd, &now) != 0) refused(in->path, "stat");
    if ((size_t)now.st_size == in->size &&
        now.st_mtim.tv_sec == in->changed.tv_sec &&
        now.st_mtim.tv_nsec == in->changed.tv_nsec)
        return;
    gm_fail(GM_EIO, "%s: changed while it was being read", in->path);
}

void gm_input_close(gm_input *in) {
    input_check(in);
    gm_disown(&in->owned);
    input_release(in);
}

void gm_inputs_check(void) {
    for (const gm_owned *o = gm_owned_all(); o; o = o->below)
        if (o->release == input_release) input_check(o->thing);
}

/* What pipes gave: they are read once, but may be asked for again. */
static gm_arena kept;
static struct stream {
    struct stream *next;
    const char *path, *text;
    size_t bytes;
} *streams;

static const struct stream *stream_read(const gm_input *in, const char *path) {
    const size_t MOST = 1 << 28;        /* of what may never end */
    struct stream *s = gm_alloc(&kept, 1, sizeof *s);
    size_t room = 0, n = 0;
    char *text = NULL;
    for (ssize_t got = 1; got; n += (size_t)got) {
        text = gm_grow(&kept, text, n, &room, 1);
        got = read(in->fd, text + n, room - n);
        if (got < 0) refused(in->path, "read");
        if (n + (size_t)got > MOST)
            gm_bad(in->path, "expected at most %zu bytes of what is no regular "
                   "file, found more", MOST);
    }
    *s = (struct stream){streams, gm_format(&kept, "%s", path), text, n};
    return streams = s;
}

static char *text_of(gm_arena *arena, const char *path, size_t *bytes,
                     int flags) {
    gm_input *in = NULL;
    if (!kept.chunk) streams = NULL;    /* a failing frame gave it back */
    const struct stream *s = streams;
    while (s && strcmp(s->path, path) != 0) s = s->next;
    if (!s) in = input_open(arena, path, flags);
    if (in && in->stream) s = stream_read(in, path);
    const size_t n = s ? s->bytes : in->size;
    char *text = gm_alloc(arena, n + 1, 1);
    if (s && n) memcpy(text, s->text, n);
    if (!s) gm_input_read(in, 0, n, text);
    if (bytes) *bytes = n;
    if (in) gm_input_close(in);
    return text;
}

char *gm_file_text(gm_arena *arena, const char *path, size_t *bytes) {
    return text_of(arena, path, bytes, 0);
}

char *gm_regular_text(gm_arena *arena, const char *path, size_t *bytes) {
    return text_of(arena, path, bytes, O_NONBLOCK);
}

void gm_file_hash(const char *path, char hex[65]) {
    gm_arena scratch = {0};
    gm_sha sha;
    gm_input *in = gm_input_open(&scratch, path);
    uint8_t piece[1 << 16];
    gm_sha_begin(&sha);
    for (size_t at = 0, n; at < in->size; at += n) {
        n = in->size - at < sizeof piece ? in->size - at : sizeof piece;
        gm_input_read(in, (int64_t)at, n, piece);
        gm_sha_add(&sha, piece, n);
    }
    gm_sha_end(&sha, hex);
    gm_input_close(in);
    gm_arena_free(&scratch);
}

void gm_copy_file(gm_arena *arena, const char *from, const char *to) {
    gm_mark mark = gm_arena_mark(arena);
    gm_out out;
    size_t bytes;
    const char *text = gm_regular_text(arena, from, &bytes);
    gm_out_open(arena, to, &out);
    gm_out_write(&out, text, bytes);
    gm_out_commit(&out);
    gm_arena_rewind(arena, mark);
}

/* ----------------------------------------------------------------- outputs */

/* Unfinished files.  A handler of signals walks this list: it is whole after
   each single store, and a path outlives its place in the list. */
static gm_out *unfinished;

void gm_out_remove_all(void) {
    const gm_out *o = __atomic_load_n(&unfinished, __ATOMIC_ACQUIRE);
    for (; o; o = o->next) unlink(o->partial);
}

/* It is over: no name to remove, nothing open. */
static void out_end(gm_out *out) {
    gm_out **at = &unfinished;
    while (*at && *at != out) at = &(*at)->next;
    if (*at) *at = out->next;
    gm_disown(&out->owned);
    if (out->file) fclose(out->file);
    if (out->hold >= 0) close(out->hold);
    out->file = NULL;
    out->hold = -1;
    out->partial = NULL;
}

void gm_out_abandon(gm_out *out) {
    if (!out->file && out->hold < 0) return;
    if (out->partial) unlink(out->partial);
    out_end(out);
}

static void out_release(void *out) { gm_out_abandon(out); }

/* Empties PATH.partial, of which fd holds the lock.  0: done; -1: there is a
   new one of that name by now; else errno. */
static int partial_take(int fd, const char *path) {
    struct stat info, there;
    if (lstat(path, &there) != 0) return errno == ENOENT ? -1 : errno;
    bool looked = fstat(fd, &info) == 0;
    /* it got its final name, or was removed, before the lock */
    if (looked && !same_file(&info, &there)) return -1;
    if (looked && !S_ISREG(info.st_mode)) return EEXIST;
    /* it has a second name: what is in there stays */
    if (looked && info.st_nlink > 1) return unlink(path) == 0 ? -1 : errno;
    if (looked && ftruncate(fd, 0) == 0) return 0;
    int why = errno;
    unlink(path);
    return why;
}

/* PATH.partial, empty and ours alone: its lock is held until it has its final
   name, or the process ends however it may.  One that a killed process left is
   taken over.  Links are not followed: what they point to is not ours.  -1:
   errno says why, EWOULDBLOCK: another process is writing it. */
static int partial_open(const char *path, mode_t mode) {
    for (;;) {
        int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC |
                      O_NONBLOCK, mode);
        if (fd < 0) return -1;
        bool mine = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
        int why = mine ? partial_take(fd, path) : EWOULDBLOCK;
        if (why == 0) return fd;
        close(fd);
        errno = why;
        if (why > 0) return -1;
    }
}

/* What a path leads to through all links. */
static const char *link_end(gm_arena *arena, const char *path) {
    const char *end = path;
    char to[PATH_MAX];
    for (int links = 0; links < 40; links++) {
        const int n = (int)readlink(end, to, sizeof to);
        if (n < 0) return end;
        end = *to == '/' ? gm_format(arena, "%.*s", n, to)
            : gm_format(arena, "%s/%.*s", gm_parent(arena, end), n, to);
    }
    errno = ELOOP;
    refused(path, "follow");
}

bool gm_is_file(const char *path) {
    struct stat info;
    return strcmp(path, GM_STANDARD) != 0 &&
           (stat(path, &info) != 0 || S_ISREG(info.st_mode));
}

void gm_remove_file(gm_arena *arena, const char *path) {
    const char *end = link_end(arena, path);
    struct stat info;
    if (lstat(end, &info) == 0 &&       /* no device, no pipe */
        (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) && unlink(end) != 0)
        refused(path, "remove");
}

/* PATH.partial beside the file that all links lead to.  Of one that it will
   replace (`was`) it keeps owner and permissions, where we may give them. */
static int open_partial(gm_arena *arena, gm_out *out, const struct stat *was) {
    const mode_t mode = was->st_mode ? (was->st_mode & 0666) | 0200 : 0666;
    const char *partial = gm_format(arena, "%s.partial", out->end);
    int fd = partial_open(partial, mode);
    if (fd < 0 && errno == EWOULDBLOCK)
        gm_fail(GM_EIO, "%s: another gamma is writing this file", partial);
    if (fd < 0) refused(partial, "create");     /* not ours to remove */
    out->mode = was->st_mode;
    if (out->mode && fchown(fd, was->st_uid, was->st_gid) != 0 &&
        fchown(fd, (uid_t)-1, was->st_gid) != 0)
        errno = 0;
    out->partial = out->now = partial;
    out->next = unfinished;
    __atomic_store_n(&unfinished, out, __ATOMIC_RELEASE);
    return fd;
}

bool gm_stdout_taken;

/* Written to at once: what is no regular file, or has no name any more; what is
   standard output already, but no device, which may be /dev/null. */
void gm_out_open(gm_arena *arena, const char *path, gm_out *out) {
    struct stat was = {0}, other;
    bool standard = strcmp(path, GM_STANDARD) == 0;
    const bool there = !standard && stat(path, &was) == 0;
    int fd;
    path = gm_format(arena, "%s", standard ? "standard output" : path);
    *out = (gm_out){.path = path, .now = path, .hold = -1,
                    .end = link_end(arena, path)};
    if (there && !S_ISCHR(was.st_mode) && fstat(STDOUT_FILENO, &other) == 0)
        standard = same_file(&other, &was);
    if (standard)
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    else if (there && !(S_ISREG(was.st_mode) && lstat(out->end, &other) == 0 &&
                        same_file(&other, &was)))
        fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    else
        fd = open_partial(arena, out, &was);
    if (fd < 0) refused(path, "create");
    gm_stdout_taken = gm_stdout_taken || standard;
    gm_own(&out->owned, out_release, out);
    out->file = fdopen(fd, "wb");
    if (out->file) return;
    out->hold = fd;
    refused(out->now, "create");
}

void gm_out_write(gm_out *out, const void *data, size_t bytes) {
    if (bytes && fwrite(data, 1, bytes, out->file) != bytes)
        refused(out->now, "write");
    out->bytes += (int64_t)bytes;
}

void gm_out_write_at(gm_out *out, int64_t at, const void *data,
                     size_t bytes) {
    if (fseeko(out->file, (off_t)at, SEEK_SET) != 0)
        refused(out->now, "seek");
    gm_out_write(out, data, bytes);
}

void gm_out_print(gm_out *out, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int bytes = out->file ? vfprintf(out->file, format, args)
                          : vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (bytes < 0) refused(out->now, "write");
    out->bytes += bytes;
}

/* A rename is durable only once its directory is.  Some file systems cannot
   sync directories (EINVAL); that is no failure of ours. */
static void sync_parent(const char *path) {
    gm_arena scratch = {0};
    const char *parent = gm_parent(&scratch, path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) refused(parent, "open");
    int why = fsync(fd) == 0 || errno == EINVAL ? 0 : errno;
    close(fd);
    errno = why;
    if (why) refused(parent, "sync");
    gm_arena_free(&scratch);
}

/* The lock is held through `hold` while the file gets its name.  Nothing made
   from a file that changed gets it.  A device or pipe may have no sync. */
void gm_out_commit(gm_out *out) {
    FILE *file = out->file;
    if (fflush(file) != 0) refused(out->now, "write");
    if (out->mode) fchmod(fileno(file), out->mode & 0777);
    if (fsync(fileno(file)) != 0 &&
        (out->partial || (errno != EINVAL && errno != EROFS)))
        refused(out->now, "sync");
    out->hold = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
    if (out->hold < 0) refused(out->now, "close");
    out->file = NULL;
    if (fclose(file) != 0) refused(out->now, "close");
    gm_inputs_check();
    const bool named = out->partial;
    if (named && rename(out->partial, out->end) != 0)
        refused(out->partial, "rename to its final name");
    out_end(out);
    if (named) sync_parent(out->end);
}

/* ------------------------------------------------------------- directories */

void gm_make_dir(const char *path) {
    char prefix[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof prefix)
        gm_fail(GM_EINPUT, "directory name of %zu bytes, expected 1 to %zu", n,
                sizeof prefix - 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(prefix, path, i);
        prefix[i] = 0;
        struct stat info;
        if (mkdir(prefix, 0777) == 0) continue;
        int why = errno;
        if (stat(prefix, &info) == 0 && S_ISDIR(info.st_mode)) continue;
        gm_fail(GM_EIO, "%s: cannot make directory: %s", prefix,
                why == EEXIST ? "exists and is no directory" : strerror(why));
    }
}

static void lock_release(void *lock) { close(((gm_lock *)lock)->fd); }

/* The lock is on the directory itself: nothing is created, so a read-only one
   can be locked too, and the kernel drops it however the process ends. */
gm_lock *gm_dir_lock(gm_arena *arena, const char *dir) {
    gm_lock *lock = gm_alloc(arena, 1, sizeof *lock);
    struct stat info, held;
    lock->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock->fd < 0) refused(dir, "open the directory");
    gm_own(&lock->owned, lock_release, lock);
    if (fstat(lock->fd, &info) != 0) refused(dir, "open the directory");
    for (const gm_owned *o = lock->owned.below; o; o = o->below)
        if (o->release == lock_release &&
            fstat(((const gm_lock *)o->thing)->fd, &held) == 0 &&
            same_file(&held, &info))
            return lock;
    /* a file system without locks is not EWOULDBLOCK */
    if (flock(lock->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        gm_fail(GM_EIO, "%s: another gamma is working in this directory; wait "
                "for it or name another", dir);
    return lock;
}

void gm_dir_unlock(gm_lock *lock) {
    if (!lock) return;
    gm_disown(&lock->owned);
    lock_release(lock);
}
