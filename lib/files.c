/* files.c: whole files in, files read piece by piece, atomic files out,
   directories, locks.

   May touch: the file system and base.c.  Nothing is mapped: a file that is
   cut or changed while it is read is an error with its name.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
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

/* ------------------------------------------------------------------ inputs */

static void input_release(void *input) { close(((gm_input *)input)->fd); }

gm_input *gm_input_open(gm_arena *arena, const char *path) {
    gm_input *in = gm_alloc(arena, 1, sizeof *in);
    struct stat info;
    in->path = gm_format(arena, "%s", path);
    in->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0) refused(path, "open");
    gm_own(&in->owned, input_release, in);
    if (fstat(in->fd, &info) != 0) refused(path, "stat");
    if (!S_ISREG(info.st_mode)) gm_bad(path, "not a regular file");
    in->size = (size_t)info.st_size;
    in->changed = info.st_mtim;
    return in;
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

char *gm_file_text(gm_arena *arena, const char *path, size_t *bytes) {
    gm_input *in = gm_input_open(arena, path);
    char *text = gm_alloc(arena, in->size + 1, 1);
    gm_input_read(in, 0, in->size, text);
    if (bytes) *bytes = in->size;
    gm_input_close(in);
    return text;
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
    gm_out out;
    size_t bytes;
    const char *text = gm_file_text(arena, from, &bytes);
    gm_out_open(arena, to, &out);
    gm_out_write(&out, text, bytes);
    gm_out_commit(&out);
}

/* ----------------------------------------------------------------- outputs */

/* Unfinished ones.  A handler of signals walks this list: it is whole after
   each single store, and a path outlives its place in the list. */
static gm_out *unfinished;

void gm_out_remove_all(void) {
    const gm_out *o = __atomic_load_n(&unfinished, __ATOMIC_ACQUIRE);
    for (; o; o = o->next) unlink(o->partial);
}

/* It is over: no name to remove, nothing open. */
static void out_end(gm_out *out) {
    gm_out **at = &unfinished;
    while (*at != out) at = &(*at)->next;
    *at = out->next;
    gm_disown(&out->owned);
    if (out->file) fclose(out->file);
    if (out->hold >= 0) close(out->hold);
    out->file = NULL;
    out->partial = NULL;
}

void gm_out_abandon(gm_out *out) {
    if (!out->partial) return;
    unlink(out->partial);
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
static int partial_open(const char *path) {
    for (;;) {
        int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC |
                      O_NONBLOCK, 0666);
        if (fd < 0) return -1;
        bool mine = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
        int why = mine ? partial_take(fd, path) : EWOULDBLOCK;
        if (why == 0) return fd;
        close(fd);
        errno = why;
        if (why > 0) return -1;
    }
}

void gm_out_open(gm_arena *arena, const char *path, gm_out *out) {
    *out = (gm_out){.path = gm_format(arena, "%s", path), .hold = -1};
    char *partial = gm_format(arena, "%s.partial", path);
    int fd = partial_open(partial);
    if (fd < 0 && errno == EWOULDBLOCK)
        gm_fail(GM_EIO, "%s: another gamma is writing this file", partial);
    if (fd < 0) refused(partial, "create");     /* not ours to remove */
    out->partial = partial;
    out->next = unfinished;
    __atomic_store_n(&unfinished, out, __ATOMIC_RELEASE);
    gm_own(&out->owned, out_release, out);
    out->file = fdopen(fd, "wb");
    if (out->file) return;
    out->hold = fd;
    refused(partial, "create");
}

void gm_out_write(gm_out *out, const void *data, size_t bytes) {
    if (bytes && fwrite(data, 1, bytes, out->file) != bytes)
        refused(out->partial, "write");
    out->bytes += (int64_t)bytes;
}

void gm_out_write_at(gm_out *out, int64_t at, const void *data,
                     size_t bytes) {
    if (fseeko(out->file, (off_t)at, SEEK_SET) != 0)
        refused(out->partial, "seek");
    gm_out_write(out, data, bytes);
}

void gm_out_print(gm_out *out, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int bytes = out->file ? vfprintf(out->file, format, args)
                          : vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (bytes < 0) refused(out->partial, "write");
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
   from a file that changed gets it. */
void gm_out_commit(gm_out *out) {
    if (fflush(out->file) != 0) refused(out->partial, "write");
    if (fsync(fileno(out->file)) != 0) refused(out->partial, "sync");
    out->hold = fcntl(fileno(out->file), F_DUPFD_CLOEXEC, 0);
    if (out->hold < 0) refused(out->partial, "close");
    FILE *file = out->file;
    out->file = NULL;
    if (fclose(file) != 0) refused(out->partial, "close");
    gm_inputs_check();
    if (rename(out->partial, out->path) != 0)
        refused(out->partial, "rename to its final name");
    out_end(out);
    sync_parent(out->path);
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
