/* io.c: the only file, with tokenizer.c, that sees untrusted bytes: maps,
   JSON, safetensors, checkpoints, npy, TSV in; atomic files out.

   May touch: the file system and base.c.  Every length, offset and product
   read from a file is checked where it is read; what passes here needs no
   check later.  Numbers are read and printed with the C library's own
   routines: the program never calls setlocale, so the C locale is in force
   and the decimal point is a point whatever the user's environment says.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A name from a file, shortened so that what follows it in a message of 1024
   bytes is never cut off. */
#define NAME "\"%.160s\""

enum {
    MAX_DEPTH = 64,             /* of JSON: bounds our recursion            */
    MAX_NUMBER = 512,           /* characters of one JSON number            */
    MAX_HEADER = 100000000,     /* safetensors' own limit on header bytes   */
    MAX_RANK = 8
};

/* ------------------------------------------------- what a signal must know */

/* Live maps and unfinished outputs where a handler of signals can read them:
   in fixed places, without a pointer into an arena.  What finds no place is
   missing from a handler's message, or left behind as PATH.partial. */
enum { LIVE_MAPS = 1024, LIVE_OUTS = 64 };

static struct live_map {
    const uint8_t *data;                /* NULL: free */
    size_t size;
    struct stat was;
    char path[1024];                    /* "": longer than this */
    gm_owned owned;
} live_map[LIVE_MAPS];

static struct live_out {
    bool used;
    char path[4096];
} live_out[LIVE_OUTS];

static char changed_path[1024];         /* the first found when it was closed */

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The same file with another size or time of change.  One put in its place by
   a rename does not count: the map goes on showing the old one. */
static bool live_changed(const struct live_map *l) {
    struct stat now;
    if (!l->data || !*l->path || stat(l->path, &now) != 0) return false;
    return same_file(&now, &l->was) &&
           (now.st_size != l->was.st_size ||
            now.st_mtim.tv_sec != l->was.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != l->was.st_mtim.tv_nsec);
}

static void live_release(void *slot) {
    struct live_map *l = slot;
    munmap((void *)(uintptr_t)l->data, l->size);
    l->data = NULL;
}

static void live_add(const gm_map *map, const struct stat *info) {
    struct live_map *l = live_map;
    while (l < live_map + LIVE_MAPS && l->data) l++;
    if (l == live_map + LIVE_MAPS || !map->size) return;
    l->size = map->size;
    l->was = *info;
    *l->path = 0;
    if (strlen(map->path) < sizeof l->path) strcpy(l->path, map->path);
    __atomic_store_n(&l->data, map->data, __ATOMIC_RELEASE);
    gm_own(&l->owned, live_release, l);
}

/* Unmaps it, unless a frame that failed has done so. */
static void live_remove(const gm_map *map) {
    for (struct live_map *l = live_map; l < live_map + LIVE_MAPS; l++) {
        if (!map->size || l->data != map->data) continue;
        if (!*changed_path && live_changed(l)) strcpy(changed_path, l->path);
        gm_disown(&l->owned);
        live_release(l);
        return;
    }
}

const char *gm_map_at(const void *at) {
    uintptr_t a = (uintptr_t)at;
    for (struct live_map *l = live_map; l < live_map + LIVE_MAPS; l++) {
        uintptr_t first = (uintptr_t)__atomic_load_n(&l->data,
                                                     __ATOMIC_ACQUIRE);
        /* the last page reaches beyond the file's end */
        if (first && a >= first && (a - first) >> 12 <= (l->size - 1) >> 12)
            return *l->path ? l->path : "an input file";
    }
    return NULL;
}

_Noreturn static void changed(const char *path) {
    gm_fail(GM_EIO, "%s: changed while it was being read", path);
}

void gm_maps_check(void) {
    if (*changed_path) changed(changed_path);
    for (struct live_map *l = live_map; l < live_map + LIVE_MAPS; l++)
        if (live_changed(l)) changed(l->path);
}

static void out_add(const char *path) {
    struct live_out *o = live_out;
    while (o < live_out + LIVE_OUTS && o->used) o++;
    if (o == live_out + LIVE_OUTS || strlen(path) >= sizeof o->path) return;
    strcpy(o->path, path);
    __atomic_store_n(&o->used, true, __ATOMIC_RELEASE);
}

static void out_remove(const char *path) {
    for (struct live_out *o = live_out; o < live_out + LIVE_OUTS; o++)
        if (o->used && strcmp(o->path, path) == 0) o->used = false;
}

void gm_out_remove_all(void) {
    for (struct live_out *o = live_out; o < live_out + LIVE_OUTS; o++)
        if (__atomic_load_n(&o->used, __ATOMIC_ACQUIRE)) unlink(o->path);
}

/* ------------------------------------------------------------------ files */

void gm_map_open(gm_arena *arena, const char *path, gm_map *map) {
    *map = (gm_map){.path = gm_format(arena, "%s", path)};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) gm_fail(GM_EIO, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    const bool looked = fstat(fd, &info) == 0;
    const bool regular = looked && S_ISREG(info.st_mode);
    int why = errno;
    if (regular && info.st_size == 0) {
        map->data = (const uint8_t *)"";    /* mmap refuses empty files */
    } else if (regular) {
        map->size = (size_t)info.st_size;
        void *data = mmap(NULL, map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        why = errno;
        if (data != MAP_FAILED) map->data = data, live_add(map, &info);
    }
    close(fd);
    if (map->data) return;
    if (!looked) gm_fail(GM_EIO, "%s: cannot stat: %s", path, strerror(why));
    if (!regular) gm_fail(GM_EINPUT, "%s: not a regular file", path);
    gm_fail(GM_EIO, "%s: cannot map %zu bytes: %s", path, map->size,
            strerror(why));
}

void gm_release(const void *data, size_t bytes) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    /* of memory that is no file's, this would forget what it holds */
    if (first < end && gm_map_at(data))
        madvise((void *)first, end - first, MADV_DONTNEED);
}

void gm_map_close(gm_map *map) {
    live_remove(map);
    *map = (gm_map){0};
}

void gm_make_dir(const char *path) {
    char prefix[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof prefix)
        gm_fail(GM_EINPUT, "directory name of %zu bytes, "
                       "expected 1 to %zu", n, sizeof prefix - 1);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(prefix, path, i);
        prefix[i] = 0;
        struct stat info;
        if (mkdir(prefix, 0777) == 0) continue;
        int why = errno;
        if (stat(prefix, &info) == 0 && S_ISDIR(info.st_mode)) continue;
        gm_fail(GM_EIO, "%s: cannot make directory: %s", prefix,
                       why == EEXIST ? "exists and is no directory"
                                     : strerror(why));
    }
}

/* Directories that this process has locked. */
enum { MAX_LOCKS = 16 };
static struct lock {
    int fd;
    struct stat info;
    gm_owned owned;
} lock_held[MAX_LOCKS];

static void lock_release(void *held) {
    gm_dir_unlock(((struct lock *)held)->fd);
}

/* The lock is on the directory itself: nothing is created, so a read-only one
   can be locked too, and the kernel drops it however the process ends. */
void gm_dir_lock(const char *dir, int *lock) {
    struct stat info;
    int i = 0;
    *lock = -1;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        int why = errno;
        if (fd >= 0) close(fd);
        gm_fail(GM_EIO, "%s: cannot open the directory: %s", dir,
                       strerror(why));
    }
    while (i < MAX_LOCKS && !(lock_held[i].fd > 0 &&
                              same_file(&lock_held[i].info, &info)))
        i++;
    /* ours already, or a file system without locks (not EWOULDBLOCK) */
    if (i < MAX_LOCKS) {
        close(fd);
        return;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        bool other = errno == EWOULDBLOCK;
        close(fd);
        if (!other) return;
        gm_fail(GM_EIO, "%s: another gamma is working in this "
                       "directory; wait for it or name another", dir);
    }
    *lock = fd;
    for (i = 0; i < MAX_LOCKS && lock_held[i].fd > 0;) i++;
    if (i == MAX_LOCKS) return;
    lock_held[i].fd = fd;
    lock_held[i].info = info;
    gm_own(&lock_held[i].owned, lock_release, &lock_held[i]);
}

void gm_dir_unlock(int lock) {
    for (int i = 0; i < MAX_LOCKS && lock > 0; i++)
        if (lock_held[i].fd == lock) {
            lock_held[i].fd = 0;
            gm_disown(&lock_held[i].owned);
        }
    if (lock > 0) close(lock);
}

bool gm_same_file(const char *a, const char *b) {
    struct stat one, two;
    return stat(a, &one) == 0 && stat(b, &two) == 0 && same_file(&one, &two);
}

bool gm_exists(const char *path) {
    return access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

_Noreturn static void out_failed(const char *what, const char *path) {
    gm_fail(GM_EIO, "%s: cannot %s: %s", path, what, strerror(errno));
}

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
        if (!mine) return close(fd), errno = EWOULDBLOCK, -1;
        int why = partial_take(fd, path);
        if (why == 0) return fd;
        close(fd);
        if (why > 0) return errno = why, -1;
    }
}

static void out_release(void *out) { gm_out_abandon(out); }

void gm_out_open(gm_arena *arena, const char *path, gm_out *out) {
    *out = (gm_out){.path = gm_format(arena, "%s", path), .hold = -1};
    char *partial = gm_format(arena, "%s.partial", path);
    int fd = partial_open(partial);
    if (fd < 0 && errno == EWOULDBLOCK)
        gm_fail(GM_EIO, "%s: another gamma is writing this file", partial);
    if (fd >= 0) out->file = fdopen(fd, "wb");
    if (!out->file) {
        int why = errno;
        /* without a descriptor it may be another's: not ours to remove */
        if (fd >= 0) unlink(partial), close(fd);
        errno = why;
        out_failed("create", partial);
    }
    out->partial = partial;
    out_add(partial);
    gm_own(&out->owned, out_release, out);
}

void gm_out_write(gm_out *out, const void *data, size_t bytes) {
    if (bytes && fwrite(data, 1, bytes, out->file) != bytes)
        out_failed("write", out->partial);
    out->bytes += (int64_t)bytes;
}

void gm_out_write_at(gm_out *out, int64_t at, const void *data,
                     size_t bytes) {
    if (fseeko(out->file, (off_t)at, SEEK_SET) != 0)
        out_failed("seek", out->partial);
    gm_out_write(out, data, bytes);
}

void gm_out_print(gm_out *out, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int bytes = vfprintf(out->file, format, args);
    va_end(args);
    if (bytes < 0) out_failed("write", out->partial);
    out->bytes += bytes;
}

/* A rename is durable only once its directory is.  Some file systems cannot
   sync directories (EINVAL); that is no failure of ours. */
static void sync_parent(const gm_out *out) {
    char parent[4096] = ".";
    const char *slash = strrchr(out->path, '/');
    size_t n = slash ? (size_t)(slash - out->path) + 1 : 0;
    if (n >= sizeof parent) n = 0;
    if (n) memcpy(parent, out->path, n), parent[n] = 0;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) out_failed("open", parent);
    bool fine = fsync(fd) == 0 || errno == EINVAL;
    int why = errno;
    close(fd);
    errno = why;
    if (!fine) out_failed("sync", parent);
}

/* Everything on the disk, the lock still held through `hold`. */
static void out_finish(gm_out *out) {
    if (fflush(out->file) != 0) out_failed("write", out->partial);
    if (fsync(fileno(out->file)) != 0) out_failed("sync", out->partial);
    out->hold = fcntl(fileno(out->file), F_DUPFD_CLOEXEC, 0);
    int closed = out->hold < 0 ? -1 : fclose(out->file);
    if (out->hold >= 0) out->file = NULL;
    if (closed != 0) out_failed("close", out->partial);
}

/* It is over: no name to remove, nothing open. */
static void out_end(gm_out *out) {
    gm_disown(&out->owned);
    out_remove(out->partial);
    if (out->file) fclose(out->file);
    if (out->hold >= 0) close(out->hold);
    out->file = NULL;
    out->partial = NULL;
}

/* Nothing made from a file that changed gets its final name. */
void gm_out_commit(gm_out *out) {
    out_finish(out);
    gm_maps_check();
    if (rename(out->partial, out->path) != 0)
        out_failed("rename to its final name", out->partial);
    out_end(out);
    sync_parent(out);
}

void gm_out_abandon(gm_out *out) {
    if (!out->partial) return;
    unlink(out->partial);
    out_end(out);
}

void gm_copy_file(gm_arena *arena, const char *from, const char *to) {
    gm_map map;
    gm_out out;
    gm_map_open(arena, from, &map);
    gm_out_open(arena, to, &out);
    gm_out_write(&out, map.data, map.size);
    gm_out_commit(&out);
    gm_map_close(&map);
}

/* ------------------------------------------------------------------ UTF-8 */

/* The Unicode standard, table 3-7: which second bytes are well-formed after
   which first byte, so that no overlong form, surrogate or value above
   10FFFF gets through. */
int gm_utf8(const char *at, const char *end, uint32_t *point) {
    const uint8_t *b = (const uint8_t *)at;
    ptrdiff_t left = end - at;
    if (left < 1) return 0;
    if (b[0] < 0x80) return *point = b[0], 1;
    int n = b[0] < 0xC2 ? 0 : b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3
          : b[0] < 0xF5 ? 4 : 0;
    if (n == 0 || left < n) return 0;
    uint8_t least = b[0] == 0xE0 ? 0xA0 : b[0] == 0xF0 ? 0x90 : 0x80;
    uint8_t most = b[0] == 0xED ? 0x9F : b[0] == 0xF4 ? 0x8F : 0xBF;
    if (b[1] < least || b[1] > most) return 0;
    uint32_t value = b[0] & (0x7Fu >> n);
    value = value << 6 | (b[1] & 0x3Fu);
    for (int i = 2; i < n; i++) {
        if ((b[i] & 0xC0) != 0x80) return 0;
        value = value << 6 | (b[i] & 0x3Fu);
    }
    *point = value;
    return n;
}

int gm_utf8_put(uint32_t point, char *to) {
    if (point < 0x80) return to[0] = (char)point, 1;
    int n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, point >>= 6)
        to[i] = (char)(0x80 | (point & 0x3F));
    to[0] = (char)((0xF00u >> n & 0xFF) | point);
    return n;
}

/* ------------------------------------------------------------------- JSON */

struct parser {
    gm_arena *arena;
    const char *path, *text, *at, *end;
    char *strings;          /* where the next decoded string goes          */
    gm_json *pool;          /* unused nodes, pool_left of them             */
    size_t pool_left, pool_size;
};

/* PATH: line L, column C (in bytes, from 1): MESSAGE */
__attribute__((format(printf, 3, 4)))
_Noreturn static void json_bad(const struct parser *p, const char *at,
                          const char *format, ...) {
    char message[512];
    long line = 1, column = 1;
    for (const char *c = p->text; c < at; c++) {
        column++;
        if (*c == '\n') line++, column = 1;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    gm_fail(GM_EINPUT, "%s: line %ld, column %ld: %s",
                   p->path, line, column, message);
}

/* "expected WANTED, found 'x'" (or byte 0x01, or the end) at p->at. */
_Noreturn static void json_expected(const struct parser *p, const char *wanted) {
    if (p->at == p->end)
        json_bad(p, p->at, "expected %s, found the end", wanted);
    uint8_t c = (uint8_t)*p->at;
    if (c > ' ' && c < 0x7F)
        json_bad(p, p->at, "expected %s, found '%c'", wanted, c);
    json_bad(p, p->at, "expected %s, found byte 0x%02X", wanted, c);
}

static void skip_space(struct parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' ||
                              *p->at == '\t' || *p->at == '\r'))
        p->at++;
}

static bool json_take(struct parser *p, char c) {
    if (p->at == p->end || *p->at != c) return false;
    p->at++;
    return true;
}

static gm_json *json_node(struct parser *p) {
    if (p->pool_left == 0) {
        if (p->pool_size < 8192) p->pool_size *= 2;
        p->pool = gm_alloc(p->arena, p->pool_size, sizeof *p->pool);
        p->pool_left = p->pool_size;
    }
    p->pool_left--;
    return p->pool++;
}

/* Four hexadecimal digits at p->at, or -1. */
static int32_t json_hex4(struct parser *p) {
    int32_t value = 0;
    if (p->end - p->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p->at[i];
        int digit = c >= '0' && c <= '9' ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    p->at += 4;
    return value;
}

/* What follows \u: one code point, which may take a second \uDC00..DFFF. */
static void json_unicode(struct parser *p, const char *start, char **to) {
    int32_t high = json_hex4(p), low;
    if (high < 0) json_bad(p, start, "expected 4 hexadecimal digits "
                                            "after \\u");
    uint32_t point = (uint32_t)high;
    if (high >= 0xDC00 && high <= 0xDFFF)
        json_bad(p, start, "low surrogate \\u%04X without a high one",
                        point);
    if (high >= 0xD800 && high <= 0xDBFF) {
        low = json_take(p, '\\') && json_take(p, 'u') ? json_hex4(p) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            json_bad(p, start, "high surrogate \\u%04X without a low "
                                      "one", point);
        point = 0x10000 + ((point - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
    }
    *to += gm_utf8_put(point, *to);
}

static void json_escape(struct parser *p, char **to) {
    static const char from[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *start = p->at++;
    if (json_take(p, 'u')) {
        json_unicode(p, start, to);
        return;
    }
    const char *which = p->at < p->end && *p->at ? strchr(from, *p->at) : NULL;
    if (!which) json_expected(p, "one of \"\\/bfnrtu after \\");
    *(*to)++ = meant[which - from];
    p->at++;
}

/* A decoded string is never longer than its literal less the two quotes, so
   that with its NUL it fits where one buffer of the text's size is shared by
   all strings. */
static void json_string(struct parser *p, const char **string,
                             size_t *length) {
    const char *start = p->at++;
    char *to = p->strings;
    while (!json_take(p, '"')) {
        uint32_t point;
        if (p->at == p->end)
            json_bad(p, start, "string without closing quote");
        if (*p->at == '\\') {
            json_escape(p, &to);
            continue;
        }
        int n = gm_utf8(p->at, p->end, &point);
        if (n == 0)
            json_bad(p, p->at, "byte 0x%02X is not valid UTF-8 here",
                            (uint8_t)*p->at);
        if (point < ' ')
            json_bad(p, p->at, "control character 0x%02X in a string",
                            point);
        while (n-- > 0) *to++ = *p->at++;
    }
    *string = p->strings;
    *length = (size_t)(to - p->strings);
    *to++ = 0;
    p->strings = to;
}

static bool json_digits(struct parser *p) {
    const char *start = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') p->at++;
    return p->at > start;
}

/* v->integer when the literal is one that fits; v->number always. */
static void json_value_of(struct parser *p, const char *start,
                               bool real, gm_json *v) {
    char copy[MAX_NUMBER + 1];
    size_t n = (size_t)(p->at - start);
    if (n > MAX_NUMBER)
        json_bad(p, start, "number of %zu characters, expected at "
                                  "most %d", n, MAX_NUMBER);
    memcpy(copy, start, n);
    copy[n] = 0;
    errno = 0;
    if (!real) v->integer = strtoll(copy, NULL, 10);
    v->is_integer = !real && errno == 0;
    v->number = v->is_integer ? (double)v->integer : strtod(copy, NULL);
    if (!v->is_integer) v->integer = 0;
    if (!isfinite(v->number))
        json_bad(p, start, "number %.40s does not fit a double", copy);
}

static void json_number(struct parser *p, gm_json *v) {
    const char *start = p->at;
    bool real = false;
    v->type = GM_JSON_NUMBER;
    json_take(p, '-');
    if (!json_take(p, '0') && !json_digits(p))
        json_expected(p, "a digit");
    if (json_take(p, '.')) {
        real = true;
        if (!json_digits(p)) json_expected(p, "a digit");
    }
    if (json_take(p, 'e') || json_take(p, 'E')) {
        real = true;
        if (!json_take(p, '-')) json_take(p, '+');
        if (!json_digits(p)) json_expected(p, "a digit");
    }
    json_value_of(p, start, real, v);
}

static void json_word(struct parser *p, const char *word,
                           gm_json_type type, double number, gm_json *v) {
    size_t n = strlen(word);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
        json_expected(p, "a value");
    p->at += n;
    v->type = type;
    v->number = number;
    v->integer = (int64_t)number;
}

static int by_key(const void *a, const void *b) {
    const gm_json *x = *(gm_json *const *)a, *y = *(gm_json *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->at > y->at) - (x->at < y->at);
}

/* Sorted, not compared pairwise: a vocabulary has 10^5 keys. */
static void json_unique(struct parser *p, const gm_json *object) {
    if (object->length < 2) return;
    gm_mark mark = gm_arena_mark(p->arena);
    const gm_json **member =
        gm_alloc(p->arena, object->length, sizeof *member);
    size_t n = 0;
    for (const gm_json *c = object->child; c; c = c->next) member[n++] = c;
    qsort(member, n, sizeof *member, by_key);
    for (size_t i = 1; i < n; i++)
        if (strcmp(member[i - 1]->key, member[i]->key) == 0)
            json_bad(p, p->text + member[i]->at,
                              "key " NAME " appears twice in one object",
                              member[i]->key);
    gm_arena_rewind(p->arena, mark);
}

static void json_value(struct parser *p, int depth, gm_json *v);

/* "key" :   Keys are C strings for everyone else, so NUL is refused. */
static void json_key(struct parser *p, gm_json *v) {
    size_t length;
    skip_space(p);
    const char *start = p->at;
    if (p->at == p->end || *p->at != '"')
        json_expected(p, "a key in quotes");
    json_string(p, &v->key, &length);
    /* NOLINTNEXTLINE(clang-analyzer-*): json_bad never returns GM_OK */
    if (strlen(v->key) != length)
        json_bad(p, start, "key contains \\u0000");
    skip_space(p);
    if (!(json_take(p, ':'))) json_expected(p, "':'");
}

/* The members or elements between brackets; p->at is at the opening one. */
static void json_list(struct parser *p, int depth, gm_json *v) {
    bool object = *p->at == '{';
    char close = object ? '}' : ']';
    const gm_json **link = &v->child;
    v->type = object ? GM_JSON_OBJECT : GM_JSON_ARRAY;
    if (depth >= MAX_DEPTH)
        json_bad(p, p->at, "nested more than %d deep", MAX_DEPTH);
    p->at++;
    skip_space(p);
    if (json_take(p, close)) return;
    do {
        gm_json *child = json_node(p);
        if (object) json_key(p, child);
        json_value(p, depth + 1, child);
        *link = child;
        link = &child->next;
        v->length++;
        skip_space(p);
    } while (json_take(p, ','));
    if (!json_take(p, close))
        json_expected(p, object ? "',' or '}'" : "',' or ']'");
    if (object) json_unique(p, v);
}

static void json_value(struct parser *p, int depth, gm_json *v) {
    skip_space(p);
    v->at = (size_t)(p->at - p->text);
    switch (p->at < p->end ? *p->at : 0) {
    case '{':
    case '[': json_list(p, depth, v); return;
    case '"':
        v->type = GM_JSON_STRING;
        json_string(p, &v->string, &v->length);
        return;
    case 't': json_word(p, "true", GM_JSON_BOOL, 1, v); return;
    case 'f': json_word(p, "false", GM_JSON_BOOL, 0, v); return;
    case 'n': json_word(p, "null", GM_JSON_NULL, 0, v); return;
    case '-':
    case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        json_number(p, v);
        return;
    default: json_expected(p, "a value");
    }
}

void gm_json_parse(gm_arena *arena, const char *path, const char *text,
                        size_t bytes, const gm_json **out) {
    struct parser p = {.arena = arena, .path = path, .text = text, .at = text,
                       .end = text + bytes, .pool_size = 16};
    p.strings = gm_alloc(arena, bytes + 1, 1);
    gm_json *root = json_node(&p);
    json_value(&p, 0, root);
    skip_space(&p);
    if (p.at != p.end) json_expected(&p, "the end");
    *out = root;
}

const gm_json *gm_json_get(const gm_json *object, const char *key) {
    if (!object || object->type != GM_JSON_OBJECT) return NULL;
    for (const gm_json *c = object->child; c; c = c->next)
        if (strcmp(c->key, key) == 0) return c;
    return NULL;
}

void gm_json_read(gm_arena *arena, const char *path, const gm_json **out) {
    gm_map map;
    gm_map_open(arena, path, &map);
    gm_json_parse(arena, path, (const char *)map.data, map.size, out);
    gm_map_close(&map);
}

/* Text of known or unknown destination: with to = NULL it is only counted. */
struct text { char *to; size_t n; };

static void text_add(struct text *t, const char *data, size_t n) {
    if (t->to) memcpy(t->to + t->n, data, n);
    t->n += n;
}

__attribute__((format(printf, 2, 3)))
static void text_print(struct text *t, const char *format, ...) {
    char piece[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    text_add(t, piece, (size_t)n);
}

static void text_quote(struct text *t, const char *text) {
    text_add(t, "\"", 1);
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        if (c == '"' || c == '\\') text_print(t, "\\%c", c);
        else if (c < ' ') text_print(t, "\\u%04x", c);
        else text_add(t, text, 1);
    }
    text_add(t, "\"", 1);
}

char *gm_json_quote(gm_arena *arena, const char *text) {
    struct text t = {0};
    text_quote(&t, text);
    t.to = gm_alloc(arena, t.n + 1, 1);
    t.n = 0;
    text_quote(&t, text);
    return t.to;
}

/* ----------------------------------------------------- numbers of a tensor */

static const struct { const char *name; size_t bytes; gm_dtype dtype; }
dtypes[] = {
    {"F32", 4, GM_F32}, {"F16", 2, GM_F16}, {"BF16", 2, GM_BF16},
    {"F64", 8, GM_F64}, {"U8", 1, GM_U8}, {"I8", 1, GM_I8},
    {"I32", 4, GM_I32}, {"I64", 8, GM_I64},
    /* Known, sized and never read: they only need to be skipped safely. */
    {"OTHER", 0, GM_OTHER}, {"BOOL", 1, GM_OTHER}, {"I16", 2, GM_OTHER},
    {"U16", 2, GM_OTHER}, {"U32", 4, GM_OTHER}, {"U64", 8, GM_OTHER},
    {"F8_E4M3", 1, GM_OTHER}, {"F8_E5M2", 1, GM_OTHER},
};
enum { DTYPES = sizeof dtypes / sizeof dtypes[0] };

size_t gm_dtype_bytes(gm_dtype dtype) { return dtypes[dtype].bytes; }
const char *gm_dtype_name(gm_dtype dtype) { return dtypes[dtype].name; }

static float float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Exponent and fraction, shifted into place, are read as a float that is
   2^112 = 2^(127-15) too small, subnormals included; infinities and NaN are
   patched.  No branch, so that loops over it vectorise. */
float gm_f16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)(h & 0x7FFF) << 13;
    float x = float_of_bits(bits) * 0x1p112f;
    uint32_t special = (h & 0x7C00) == 0x7C00 ? 0x7F800000u : 0;
    return float_of_bits(bits_of_float(x) | special |
                         (uint32_t)(h & 0x8000) << 16);
}

/* Adding 0.5 ulp - 1, plus the last kept bit, and cutting rounds to nearest
   even; a carry out of the fraction increments the exponent as it should. */
static uint32_t round_shift(uint32_t bits, int shift) {
    uint32_t half = (1u << (shift - 1)) - 1;
    return (bits + half + (bits >> shift & 1)) >> shift;
}

uint16_t gm_f32_to_f16(float x) {
    uint32_t bits = bits_of_float(x), magnitude = bits & 0x7FFFFFFF, h;
    if (magnitude > 0x7F800000)                 /* NaN: quiet, top payload */
        h = 0x7E00 | (magnitude >> 13 & 0x1FF);
    else if (magnitude >= 0x477FF000)           /* >= 65520 rounds to inf  */
        h = 0x7C00;
    else if (magnitude >= 0x38800000)           /* normal: >= 2^-14        */
        h = round_shift(magnitude - 0x38000000, 13);
    else if (magnitude < 0x33000000)            /* < 2^-25 rounds to 0     */
        h = 0;
    else    /* x = f 2^(e-150), f with its hidden bit; unit 2^-24 */
        h = round_shift((magnitude & 0x7FFFFF) | 0x800000,
                        126 - (int)(magnitude >> 23));
    return (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)h;
}

float gm_bf16_to_f32(uint16_t h) { return float_of_bits((uint32_t)h << 16); }

uint16_t gm_f32_to_bf16(float x) {
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000)       /* NaN stays NaN */
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)round_shift(bits, 16);
}

/* out[i] = element i of the little-endian, perhaps unaligned, array `from`. */
static void convert(gm_dtype dtype, const uint8_t *from, long n,
                    gm_real *out) {
    uint16_t h;
    float f;
    double d;
    if (dtype == GM_F16)
        for (long i = 0; i < n; i++)
            memcpy(&h, from + 2 * i, 2), out[i] = gm_f16_to_f32(h);
    else if (dtype == GM_BF16)
        for (long i = 0; i < n; i++)
            memcpy(&h, from + 2 * i, 2), out[i] = gm_bf16_to_f32(h);
    else if (dtype == GM_F32)
        for (long i = 0; i < n; i++)
            memcpy(&f, from + 4 * i, 4), out[i] = f;
    else
        for (long i = 0; i < n; i++)
            memcpy(&d, from + 8 * i, 8), out[i] = (gm_real)d;
}

/* "[2, 3]" */
static const char *shape_text(char *to, size_t size, const gm_tensor *t) {
    size_t n = 0;
    to[0] = '[', to[1] = 0, n = 1;
    for (int i = 0; i < t->rank && n < size; i++)
        n += (size_t)snprintf(to + n, size - n, "%s%lld", i ? ", " : "",
                              (long long)t->shape[i]);
    if (n < size) snprintf(to + n, size - n, "]");
    return to;
}

_Noreturn static void not_finite(const gm_tensor *t, int64_t index, gm_real x) {
    char shape[200];
    gm_fail(GM_EINPUT, "%s: tensor " NAME ": element %lld of "
                   "shape %s is %s, expected a finite number", t->path,
                   t->name, (long long)index,
                   shape_text(shape, sizeof shape, t),
                   isnan(x) ? "NaN" : "infinite");
}

void gm_tensor_read(const gm_tensor *tensor, int64_t first,
                         int64_t count, gm_real *out) {
    size_t size = gm_dtype_bytes(tensor->dtype);
    if (tensor->dtype > GM_F64)     /* integers and GM_OTHER come after */
        gm_fail(GM_EINPUT, "%s: tensor " NAME ": type %s, "
                       "expected F32, F16, BF16 or F64", tensor->path,
                       tensor->name, gm_dtype_name(tensor->dtype));
    int64_t total = (int64_t)(tensor->bytes / size);
    if (first < 0 || count < 0 || first > total || count > total - first)
        gm_fail(GM_EINPUT, "%s: tensor " NAME ": elements %lld "
                       "to %lld asked for, it holds %lld", tensor->path,
                       tensor->name, (long long)first,
                       (long long)(first + count), (long long)total);
    const uint8_t *from = tensor->data + (size_t)first * size;
    for (int64_t done = 0; done < count; done += 4096) {
        long n = (long)(count - done < 4096 ? count - done : 4096);
        convert(tensor->dtype, from + (size_t)done * size, n, out + done);
        int fine = 1;
        for (long i = 0; i < n; i++) fine &= isfinite(out[done + i]) != 0;
        for (long i = 0; i < n && !fine; i++)
            if (!isfinite(out[done + i]))
                not_finite(tensor, first + done + i, out[done + i]);
    }
}

void gm_tensor_bytes(const gm_tensor *tensor, int64_t first, size_t count,
                     void *to) {
    assert(first >= 0 && (size_t)first + count <= tensor->bytes);
    memcpy(to, tensor->data + first, count);
}

const uint8_t *gm_tensor_data(gm_arena *arena, const gm_tensor *tensor) {
    uint8_t *data = gm_alloc(arena, tensor->bytes, 1);
    gm_tensor_bytes(tensor, 0, tensor->bytes, data);
    return data;
}

void gm_tensor_check(const gm_tensor *tensor) {
    enum { STRIP = 4096 };
    gm_real x[STRIP];
    size_t size = gm_dtype_bytes(tensor->dtype);
    int64_t count = size ? (int64_t)(tensor->bytes / size) : 0;
    for (int64_t i = 0; i < count; i += STRIP)
        gm_tensor_read(tensor, i, count - i < STRIP ? count - i : STRIP, x);
}

void gm_store(gm_dtype dtype, const gm_real *x, long count, uint8_t *out) {
    for (long i = 0; i < count; i++) {
        float f = (float)x[i];
        uint16_t h = dtype == GM_F16 ? gm_f32_to_f16(f) : gm_f32_to_bf16(f);
        if (dtype == GM_F32) memcpy(out + 4 * i, &f, 4);
        else memcpy(out + 2 * i, &h, 2);
    }
}

/* ------------------------------------------------------------ safetensors */

void gm_name_check(const char *path, const char *what, const char *name) {
    const char *bad = gm_control(name);
    if (bad)
        gm_fail(GM_EINPUT, "%s: %s " NAME ": control character "
                       "0x%02X in its name", path, what, name, (uint8_t)*bad);
    bad = strpbrk(name, "/\\");
    if (bad || strcmp(name, "..") == 0)
        gm_fail(GM_EINPUT, "%s: %s " NAME ": part of a path in its "
                       "name", path, what, name);
}

/* What every check of one entry of a header needs. */
struct entry {
    const char *path;
    const gm_json *json;
    gm_tensor *tensor;
    const uint8_t *data;        /* first byte after the header */
    uint64_t data_bytes;
    uint64_t begin, end;        /* its data_offsets            */
};

__attribute__((format(printf, 2, 3)))
_Noreturn static void entry_bad(const struct entry *e, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    gm_fail(GM_EINPUT, "%s: tensor " NAME ": %s", e->path,
                   e->json->key, message);
}

static const char *json_type_name(const gm_json *v) {
    static const char *const name[] = {"null", "a boolean", "a number",
                                       "a string", "an array", "an object"};
    return v ? name[v->type] : "nothing";
}

static void entry_field(const struct entry *e, const char *key,
                             gm_json_type type, const char *type_name,
                             const gm_json **field) {
    *field = gm_json_get(e->json, key);
    if (*field && (*field)->type == type) return;
    entry_bad(e, "%s: expected %s, found %s", key, type_name,
                     json_type_name(*field));
}

/* *bytes = product of the shape and the element size, or a refusal.  An
   unknown type has element size 0 and only its extent is checked. */
static void entry_shape(const struct entry *e, const gm_json *shape,
                             size_t element, uint64_t *bytes) {
    *bytes = element;
    if (shape->length > MAX_RANK)
        entry_bad(e, "shape has %zu dimensions, expected at most %d",
                         shape->length, MAX_RANK);
    for (const gm_json *c = shape->child; c; c = c->next) {
        if (c->type != GM_JSON_NUMBER || !c->is_integer || c->integer < 0)
            entry_bad(e, "shape[%d]: expected an integer >= 0",
                             e->tensor->rank);
        e->tensor->shape[e->tensor->rank++] = c->integer;
        if (__builtin_mul_overflow(*bytes, (uint64_t)c->integer, bytes) ||
            *bytes > INT64_MAX)
            entry_bad(e, "shape[%d] = %lld: the product of the shape "
                             "overflows 63 bits", e->tensor->rank - 1,
                             (long long)c->integer);
    }
}

static void entry_offsets(struct entry *e) {
    const gm_json *o;
    entry_field(e, "data_offsets", GM_JSON_ARRAY,
                                   "an array", &o);
    if (o->length != 2 || !o->child->is_integer || !o->child->next->is_integer
        || o->child->integer < 0)
        entry_bad(e, "data_offsets: expected two integers >= 0");
    int64_t begin = o->child->integer, end = o->child->next->integer;
    if (end < begin)
        entry_bad(e, "data_offsets [%lld, %lld] end before they begin",
                         (long long)begin, (long long)end);
    e->begin = (uint64_t)begin;
    e->end = (uint64_t)end;
    if (e->end > e->data_bytes)
        entry_bad(e, "data_offsets [%lld, %lld] reach beyond the %llu "
                         "bytes after the header", (long long)begin,
                         (long long)end, (unsigned long long)e->data_bytes);
}

/* Fills e->tensor from e->json, refusing whatever does not add up. */
static void entry_read(struct entry *e) {
    const gm_json *dtype, *shape;
    uint64_t bytes;
    char text[200];
    int i = 0;
    if (e->json->type != GM_JSON_OBJECT)
        entry_bad(e, "expected an object, found %s",
                         json_type_name(e->json));
    gm_name_check(e->path, "tensor", e->json->key);
    entry_field(e, "dtype", GM_JSON_STRING, "a string",
                                   &dtype);
    entry_field(e, "shape", GM_JSON_ARRAY, "an array", &shape);
    entry_offsets(e);
    while (i < DTYPES && strcmp(dtypes[i].name, dtype->string) != 0) i++;
    if (i == DTYPES || i == GM_OTHER)
        entry_bad(e, "dtype \"%.40s\" is not known", dtype->string);
    *e->tensor = (gm_tensor){.name = e->json->key, .dtype = dtypes[i].dtype,
                             .data = e->data + e->begin, .path = e->path,
                             .bytes = (size_t)(e->end - e->begin)};
    entry_shape(e, shape, dtypes[i].bytes, &bytes);
    if (bytes != e->end - e->begin)
        entry_bad(e, "data_offsets [%llu, %llu] hold %llu bytes, "
                         "shape %s of %s needs %llu",
                         (unsigned long long)e->begin,
                         (unsigned long long)e->end,
                         (unsigned long long)(e->end - e->begin),
                         shape_text(text, sizeof text, e->tensor),
                         dtypes[i].name, (unsigned long long)bytes);
}

static int by_place(const void *a, const void *b) {
    const gm_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const gm_tensor *)a)->name, ((const gm_tensor *)b)->name);
}

/* Every byte after the header belongs to exactly one tensor. */
static void check_cover(const gm_map *map, const uint8_t *data,
                             gm_tensor *tensor, long count) {
    const uint8_t *at = data, *end = map->data + map->size;
    qsort(tensor, (size_t)count, sizeof *tensor, by_place);
    for (long i = 0; i < count; at += tensor[i++].bytes) {
        if (tensor[i].data == at) continue;
        if (i == 0)
            gm_fail(GM_EINPUT, "%s: tensor " NAME " begins at "
                           "offset %td, expected 0", map->path,
                           tensor[i].name, tensor[i].data - data);
        gm_fail(GM_EINPUT, "%s: tensor " NAME " begins at offset "
                       "%td, expected %td, where " NAME " ends", map->path,
                       tensor[i].name, tensor[i].data - data, at - data,
                       tensor[i - 1].name);
    }
    if (at == end) return;
    gm_fail(GM_EINPUT, "%s: %td bytes after the last tensor belong"
                   " to no tensor (file of %zu bytes, expected %td)",
                   map->path, end - at, map->size, at - map->data);
}

static void check_metadata(const char *path, const gm_json *metadata) {
    if (metadata->type != GM_JSON_OBJECT)
        gm_fail(GM_EINPUT, "%s: __metadata__: expected an object,"
                       " found %s", path, json_type_name(metadata));
    for (const gm_json *c = metadata->child; c; c = c->next)
        if (c->type != GM_JSON_STRING)
            gm_fail(GM_EINPUT, "%s: __metadata__: " NAME ": "
                           "expected a string, found %s", path, c->key,
                           json_type_name(c));
}

/* The header's length, checked against the file. */
static void header_length(const gm_map *map, size_t *length) {
    uint64_t n;
    if (map->size < 8)
        gm_fail(GM_EINPUT, "%s: %zu bytes, expected at least the "
                       "8 of a safetensors header length", map->path,
                       map->size);
    memcpy(&n, map->data, 8);
    if (n > MAX_HEADER)
        gm_fail(GM_EINPUT, "%s: header length %llu, expected at "
                       "most %d", map->path, (unsigned long long)n,
                       MAX_HEADER);
    if (n > map->size - 8)
        gm_fail(GM_EINPUT, "%s: header of %llu bytes does not fit "
                       "a file of %zu", map->path, (unsigned long long)n,
                       map->size);
    *length = (size_t)n;
}

/* Appends the tensors of one mapped file to list[*count ...]. */
static void header_read(gm_arena *arena, const gm_map *map,
                             gm_tensors *out) {
    const gm_json *header;
    size_t length = 0;
    char *place = gm_format(arena, "%s: header", map->path);
    header_length(map, &length);
    gm_json_parse(arena, place, (const char *)map->data + 8,
                               length, &header);
    /* NOLINTNEXTLINE(clang-analyzer-*): as in json_key */
    if (header->type != GM_JSON_OBJECT)
        gm_fail(GM_EINPUT, "%s: expected an object, found %s",
                       place, json_type_name(header));
    struct entry e = {.path = map->path, .data = map->data + 8 + length,
                      .data_bytes = map->size - 8 - length};
    *out = (gm_tensors){.metadata = gm_json_get(header, "__metadata__")};
    if (out->metadata) check_metadata(map->path, out->metadata);
    out->tensor = gm_alloc(arena, header->length, sizeof *out->tensor);
    for (e.json = header->child; e.json;
         e.json = e.json->next) {
        if (e.json == out->metadata) continue;
        e.tensor = &out->tensor[out->count++];
        entry_read(&e);
    }
    check_cover(map, e.data, out->tensor, out->count);
}

void gm_safetensors_open(gm_arena *arena, const char *path,
                              gm_tensors *out) {
    gm_map *map = gm_alloc(arena, 1, sizeof *map);
    *out = (gm_tensors){0};
    gm_map_open(arena, path, map);
    header_read(arena, map, out);
    out->map = map;
    out->maps = 1;
    qsort(out->tensor, (size_t)out->count, sizeof *out->tensor, by_name);
}

void gm_tensors_close(gm_tensors *tensors) {
    for (long i = 0; i < tensors->maps; i++) gm_map_close(&tensors->map[i]);
    *tensors = (gm_tensors){0};
}

const gm_tensor *gm_tensor_find(const gm_tensors *tensors, const char *name) {
    const gm_tensor key = {.name = name};
    if (tensors->count == 0) return NULL;
    return bsearch(&key, tensors->tensor, (size_t)tensors->count, sizeof key,
                   by_name);
}

void gm_sha_mapped(gm_sha *sha, const uint8_t *data, size_t bytes) {
    enum { PIECE = 1 << 24 };
    for (size_t at = 0; at < bytes; at += PIECE) {
        size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        gm_sha_add(sha, data + at, n);
        gm_release(data + at, n);
    }
}

/* Every line of it can be made by a script: for each tensor in name order
   "NAME\nDTYPE\nD0,D1\n" and then its bytes. */
void gm_tensors_hash(const gm_tensors *tensors, char hex[65]) {
    gm_sha sha;
    gm_sha_begin(&sha);
    for (long i = 0; i < tensors->count; i++) {
        const gm_tensor *t = &tensors->tensor[i];
        const char *dtype = gm_dtype_name(t->dtype);
        char text[32];
        if (t->dtype == GM_OTHER)
            gm_fail(GM_EINPUT, "%s: tensor " NAME ": a type that "
                           "is not supported", t->path, t->name);
        gm_sha_add(&sha, t->name, strlen(t->name));
        gm_sha_add(&sha, "\n", 1);
        gm_sha_add(&sha, dtype, strlen(dtype));
        gm_sha_add(&sha, "\n", 1);
        for (int j = 0; j < t->rank; j++) {
            int n = snprintf(text, sizeof text, "%s%lld", j ? "," : "",
                             (long long)t->shape[j]);
            gm_sha_add(&sha, text, (size_t)n);
        }
        gm_sha_add(&sha, "\n", 1);
        gm_sha_mapped(&sha, t->data, t->bytes);
    }
    gm_sha_end(&sha, hex);
}

/* ------------------------------------------------------ sharded checkpoint */

/* A shard is a plain name in the index's own directory. */
static void check_shard_name(const char *index, const gm_json *entry) {
    if (entry->type != GM_JSON_STRING)
        gm_fail(GM_EINPUT, "%s: weight_map: " NAME ": expected a "
                       "file name, found %s", index, entry->key,
                       json_type_name(entry));
    const char *name = entry->string, *bad = gm_control(name);
    size_t n = strlen(name);
    if (bad)
        gm_fail(GM_EINPUT, "%s: weight_map: " NAME ": file name "
                       NAME ": control character 0x%02X", index, entry->key,
                       name, (uint8_t)*bad);
    if (n != entry->length || strchr(name, '/') || strchr(name, '\\') ||
        n <= 12 || strcmp(name + n - 12, ".safetensors") != 0)
        gm_fail(GM_EINPUT, "%s: weight_map: " NAME ": file name "
                       NAME ", expected NAME.safetensors without a path",
                       index, entry->key, name);
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of weight_map, sorted. */
static void shard_names(gm_arena *arena, const char *index,
                             const gm_json *map, const char ***names,
                             long *count) {
    const char **name = gm_alloc(arena, map->length, sizeof *name);
    size_t n = 0, kept = 0;
    for (const gm_json *c = map->child; c; c = c->next) {
        check_shard_name(index, c);
        name[n++] = c->string;
    }
    qsort(name, n, sizeof *name, by_string);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(name[kept - 1], name[i]) != 0)
            name[kept++] = name[i];
    *names = name;
    *count = (long)kept;
}

/* `path` lies in the directory `to` after all links, or beside it in a cache of
   the Hugging Face hub, snapshots/REVISION/FILE -> ../../blobs/HASH. */
static bool lies_in(const char *path, const char *to) {
    char file[PATH_MAX], dir[PATH_MAX];
    if (!realpath(path, file) || !realpath(to, dir)) return false;
    *strrchr(file, '/') = 0;
    return strcmp(file, dir) == 0;
}

/* A shard that is a link leads to a file of the model, not of the user's. */
static void check_link(gm_arena *arena, const char *dir, const char *path) {
    struct stat info;
    const char *blobs = gm_format(arena, "%s/../../blobs", dir);
    if (lstat(path, &info) != 0 || !S_ISLNK(info.st_mode) ||
        !gm_exists(path) || lies_in(path, dir) || lies_in(path, blobs))
        return;
    gm_fail(GM_EINPUT, "%s: weight_map: a link that leads out of "
                   "the directory", path);
}

/* Opens the shards and concatenates their tensors. */
static void shards_open(gm_arena *arena, const char *dir,
                             const char **name, long count, gm_tensors *out) {
    gm_tensors *part = gm_alloc(arena, (size_t)count, sizeof *part);
    out->map = gm_alloc(arena, (size_t)count, sizeof *out->map);
    long total = 0, n = 0;
    for (long i = 0; i < count; i++) {
        char *path = gm_format(arena, "%s/%s", dir, name[i]);
        check_link(arena, dir, path);
        gm_safetensors_open(arena, path, &part[i]);
        out->map[out->maps++] = part[i].map[0];
        total += part[i].count;
    }
    out->metadata = count ? part[0].metadata : NULL;
    out->tensor = gm_alloc(arena, (size_t)total, sizeof *out->tensor);
    for (long i = 0; i < count; i++)
        for (long j = 0; j < part[i].count; j++)
            out->tensor[n++] = part[i].tensor[j];
    out->count = n;
    qsort(out->tensor, (size_t)n, sizeof *out->tensor, by_name);
    for (long i = 1; i < n; i++)
        if (by_name(&out->tensor[i - 1], &out->tensor[i]) == 0)
            gm_fail(GM_EINPUT, "%s: tensor " NAME " is also in "
                           "%s", out->tensor[i].path, out->tensor[i].name,
                           out->tensor[i - 1].path);
}

/* Each tensor of the index must be in the shard that the index names. */
static void check_claims(const char *index, const gm_json *map,
                              const gm_tensors *tensors) {
    for (const gm_json *c = map->child; c; c = c->next) {
        const gm_tensor *t = gm_tensor_find(tensors, c->key);
        const char *shard = t ? gm_base_name(t->path) : "no shard";
        if (t && strcmp(shard, c->string) == 0) continue;
        gm_fail(GM_EINPUT, "%s: tensor " NAME ": expected in %s, "
                       "found in %s", index, c->key, c->string,
                       shard);
    }
}

static void index_open(gm_arena *arena, const char *dir,
                            const char *index, gm_tensors *out) {
    const gm_json *json, *map;
    const char **name = NULL;
    long count = 0;
    gm_json_read(arena, index, &json);
    /* NOLINTNEXTLINE(clang-analyzer-*): as in json_key */
    map = gm_json_get(json, "weight_map");
    if (!map || map->type != GM_JSON_OBJECT)
        gm_fail(GM_EINPUT, "%s: weight_map: expected an object, "
                       "found %s", index, json_type_name(map));
    shard_names(arena, index, map, &name, &count);
    shards_open(arena, dir, name, count, out);
    check_claims(index, map, out);
}

void gm_checkpoint_open(gm_arena *arena, const char *dir,
                             gm_tensors *out) {
    *out = (gm_tensors){0};
    char *one = gm_format(arena, "%s/model.safetensors", dir);
    char *index = gm_format(arena, "%s/model.safetensors.index.json", dir);
    if (gm_exists(one)) gm_safetensors_open(arena, one, out);
    else if (gm_exists(index)) index_open(arena, dir, index, out);
    else gm_fail(GM_EIO, "%s: neither model.safetensors nor "
                   "model.safetensors.index.json is there", dir);
}

/* -------------------------------------------------------- safetensors out */

/* {"__metadata__":{...},"name":{"dtype":"F32","shape":[2,3],
   "data_offsets":[0,24]},...} */
static void header_text(struct text *t, const gm_tensor *tensor, long count,
                        const char *const *metadata) {
    long long at = 0;
    text_add(t, "{", 1);
    if (metadata) {
        text_print(t, "\"__metadata__\":{");
        for (int i = 0; metadata[i]; i += 2) {
            if (i) text_add(t, ",", 1);
            text_quote(t, metadata[i]);
            text_add(t, ":", 1);
            text_quote(t, metadata[i + 1]);
        }
        text_add(t, "}", 1);
    }
    for (long i = 0; i < count; i++) {
        long long bytes = (long long)gm_dtype_bytes(tensor[i].dtype);
        if (i || metadata) text_add(t, ",", 1);
        text_quote(t, tensor[i].name);
        text_print(t, ":{\"dtype\":\"%s\",\"shape\":[",
                   gm_dtype_name(tensor[i].dtype));
        for (int j = 0; j < tensor[i].rank; j++) {
            text_print(t, "%s%lld", j ? "," : "",
                       (long long)tensor[i].shape[j]);
            bytes *= tensor[i].shape[j];
        }
        text_print(t, "],\"data_offsets\":[%lld,%lld]}", at, at + bytes);
        at += bytes;
    }
    text_add(t, "}", 1);
}

size_t gm_safetensors_header(const gm_tensor *tensors, long count,
                             const char *const *metadata) {
    struct text t = {0};
    header_text(&t, tensors, count, metadata);
    return 8 + t.n;
}

/* The layout must be expressible: known type, rank, total below 2^63. */
static void check_layout(const char *path, const gm_tensor *tensor,
                              long count) {
    int64_t total = 0;
    for (long i = 0; i < count; i++) {
        const gm_tensor *t = &tensor[i];
        int64_t bytes = (int64_t)gm_dtype_bytes(t->dtype);
        bool fits = bytes > 0 && t->rank >= 0 && t->rank <= MAX_RANK;
        for (int j = 0; fits && j < t->rank; j++)
            fits = t->shape[j] >= 0 &&
                   !__builtin_mul_overflow(bytes, t->shape[j], &bytes);
        if (fits && !__builtin_add_overflow(total, bytes, &total)) continue;
        gm_fail(GM_EINPUT, "%s: tensor " NAME ": type, rank or "
                       "size cannot be written", path, t->name);
    }
}

void gm_safetensors_begin(gm_arena *arena, const char *path,
                               const gm_tensor *tensors, long count,
                               const char *const *metadata,
                               size_t header_bytes, gm_out *out) {
    *out = (gm_out){0};
    check_layout(path, tensors, count);
    size_t used = gm_safetensors_header(tensors, count, metadata);
    size_t size = used > header_bytes ? used : header_bytes;
    size = (size + 7) / 8 * 8;
    if (size - 8 > MAX_HEADER)
        gm_fail(GM_ELIMIT, "%s: header of %zu bytes, the format "
                       "allows %d", path, size - 8, MAX_HEADER);
    gm_out_open(arena, path, out);
    gm_mark mark = gm_arena_mark(arena);
    char *header = gm_alloc(arena, size, 1);
    uint64_t length = size - 8;
    memcpy(header, &length, 8);
    memset(header + 8, ' ', size - 8);
    header_text(&(struct text){.to = header + 8}, tensors, count, metadata);
    gm_out_write(out, header, size);
    gm_arena_rewind(arena, mark);
}

/* -------------------------------------------------------------------- TSV */

/* Valid UTF-8 without control characters, or a refusal naming line and byte. */
static void check_text(const gm_map *map) {
    const char *at = (const char *)map->data, *end = at + map->size;
    uint32_t point = 0;
    for (long line = 1; at < end;) {
        int n = gm_utf8(at, end, &point);
        bool end_of_line = point == '\r' && (at + 1 == end || at[1] == '\n');
        if (n == 0 || (point >= 0x7F && point < 0xA0) ||
            (point < ' ' && point != '\t' && point != '\n' && !end_of_line))
            gm_fail(GM_EINPUT, "%s: line %ld: byte 0x%02X is not "
                           "valid text", map->path, line, (uint8_t)*at);
        line += point == '\n';
        at += n;
    }
}

/* Cuts the next line off *rest: its text without line end, or NULL. */
static char *next_line(char **rest) {
    char *line = *rest;
    if (!*line) return NULL;
    char *end = line + strcspn(line, "\n");
    *rest = *end ? end + 1 : end;
    if (end > line && end[-1] == '\r') end[-1] = 0;
    *end = 0;
    return line;
}

/* Splits `line` at tabs into cell[0..]; returns how many there are. */
static long split_tabs(char *line, const char **cell) {
    long n = 0;
    for (char *at = line;; at++) {
        cell[n++] = at;
        at += strcspn(at, "\t");
        if (!*at) return n;
        *at = 0;
    }
}

/* "# key value": value may be empty and keeps its inner spaces. */
static void table_key(gm_table *t, char *line, long number) {
    char *key = line + 1 + strspn(line + 1, " \t");
    char *end = key + strcspn(key, " \t");
    const char *value = end + strspn(end, " \t");
    *end = 0;
    if (!*key)
        gm_fail(GM_EINPUT, "%s: line %ld: expected \"# key "
                       "value\"", t->path, number);
    if (gm_table_key(t, key))
        gm_fail(GM_EINPUT, "%s: line %ld: key " NAME " appears "
                       "twice", t->path, number, key);
    t->key[t->keys] = key;
    t->value[t->keys++] = value;
}

static void table_columns(gm_arena *arena, gm_table *t, char *line,
                               long number, long rows) {
    t->columns = gm_count_char(line, '\t') + 1;
    t->column = gm_alloc(arena, (size_t)t->columns, sizeof *t->column);
    t->line = gm_alloc(arena, (size_t)rows, sizeof *t->line);
    split_tabs(line, t->column);
    for (long i = 0; i < t->columns; i++)
        if (!*t->column[i] || gm_table_column(t, t->column[i]) != i)
            gm_fail(GM_EINPUT, "%s: line %ld: column %ld has the "
                           "%s name " NAME, t->path, number, i + 1,
                           *t->column[i] ? "repeated" : "empty",
                           t->column[i]);
}

static void table_row(gm_table *t, char *line, long number) {
    long found = gm_count_char(line, '\t') + 1;
    if (found != t->columns)
        gm_fail(GM_EINPUT, "%s: line %ld: expected %ld cells, "
                       "found %ld", t->path, number, t->columns, found);
    split_tabs(line, t->cell + t->rows * t->columns);
    t->line[t->rows++] = number;
}

/* `text` is ours to cut up.  No row has more cells than it has tabs plus one,
   which bounds the cells by tabs + lines. */
static void table_parse(gm_arena *arena, char *text, gm_table *t) {
    long lines = gm_count_char(text, '\n') + 1, number = 0;
    long cells = lines + gm_count_char(text, '\t');
    t->key = gm_alloc(arena, (size_t)lines, sizeof *t->key);
    t->value = gm_alloc(arena, (size_t)lines, sizeof *t->value);
    t->cell = gm_alloc(arena, (size_t)cells, sizeof *t->cell);
    for (char *line; (line = next_line(&text));) {
        number++;
        if (!*line) continue;
        if (*line != '#' && t->columns == 0)
            table_columns(arena, t, line, number, lines);
        else if (*line != '#')
            table_row(t, line, number);
        else if (t->columns == 0)
            table_key(t, line, number);
        else
            gm_fail(GM_EINPUT, "%s: line %ld: \"# key value\" "
                             "lines come before the column names", t->path,
                             number);
    }
    if (t->columns == 0)
        gm_fail(GM_EINPUT, "%s: no line of column names",
                         t->path);
}

void gm_table_read(gm_arena *arena, const char *path, gm_table *out) {
    gm_map map;
    gm_map_open(arena, path, &map);
    *out = (gm_table){.path = map.path};
    check_text(&map);
    char *text = gm_alloc(arena, map.size + 1, 1);
    memcpy(text, map.data, map.size);
    table_parse(arena, text, out);
    gm_map_close(&map);
}

const char *gm_table_key(const gm_table *table, const char *key) {
    for (long i = 0; i < table->keys; i++)
        if (strcmp(table->key[i], key) == 0) return table->value[i];
    return NULL;
}

long gm_table_column(const gm_table *table, const char *name) {
    for (long i = 0; i < table->columns; i++)
        if (strcmp(table->column[i], name) == 0) return i;
    return -1;
}

/* -------------------------------------------------------------------- npy */

/* The three facts of an npy header. */
struct npy { char descr[8]; bool fortran; int rank; int64_t length; };

/* Skips blanks and takes `word` if it is next. */
static bool npy_take(const char **at, const char *end, const char *word) {
    size_t n = strlen(word);
    while (*at < end && (**at == ' ' || **at == '\n')) ++*at;
    if ((size_t)(end - *at) < n || memcmp(*at, word, n) != 0) return false;
    *at += n;
    return true;
}

/* (), (5,), (5, 6): counts the dimensions, keeps the first. */
static bool npy_shape(const char **at, const char *end, struct npy *npy) {
    if (!npy_take(at, end, "(")) return false;
    while (!npy_take(at, end, ")")) {
        int64_t value = 0;
        const char *start = *at;
        for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
            if (value > (INT64_MAX - 9) / 10) return false;
            value = value * 10 + (**at - '0');
        }
        if (*at == start || npy->rank == 32) return false;
        if (npy->rank++ == 0) npy->length = value;
        if (npy_take(at, end, ",")) continue;
        return npy_take(at, end, ")");
    }
    return true;
}

/* One `'key': value`; *seen has a bit for each key met, none may repeat. */
static bool npy_field(const char **at, const char *end, struct npy *npy,
                      int *seen) {
    int key = npy_take(at, end, "'descr':") ? 1
            : npy_take(at, end, "'fortran_order':") ? 2
            : npy_take(at, end, "'shape':") ? 4 : 0;
    if (key == 0 || (*seen & key)) return false;
    *seen |= key;
    if (key == 4) return npy_shape(at, end, npy);
    if (key == 2) {
        npy->fortran = npy_take(at, end, "True");
        return npy->fortran || npy_take(at, end, "False");
    }
    size_t n = 0;
    if (!npy_take(at, end, "'")) return false;
    while (*at < end && **at != '\'' && n < sizeof npy->descr - 1)
        npy->descr[n++] = *(*at)++;
    return npy_take(at, end, "'");
}

/* {'descr': '<i4', 'fortran_order': False, 'shape': (5,), }, any order. */
static bool npy_header(const char *at, const char *end, struct npy *npy) {
    int seen = 0;
    if (!npy_take(&at, end, "{")) return false;
    while (!npy_take(&at, end, "}")) {
        if (!npy_field(&at, end, npy, &seen)) return false;
        if (npy_take(&at, end, ",")) continue;
        return npy_take(&at, end, "}") && seen == 7;
    }
    return seen == 7;
}

/* Element i as 64-bit integer; bytes 2 and 4 of '<u2', '<u4' are unsigned. */
static int64_t npy_value(const uint8_t *data, long i, char kind, int bytes) {
    uint64_t bits = 0;
    memcpy(&bits, data + (size_t)i * (size_t)bytes, (size_t)bytes);
    if (kind == 'i' && bytes == 4) return (int32_t)bits;
    return (int64_t)bits;
}

static void npy_tokens(gm_arena *arena, const gm_map *map,
                            const uint8_t *data, const struct npy *npy,
                            int32_t **tokens) {
    int bytes = npy->descr[2] - '0';
    int32_t *out = gm_alloc(arena, (size_t)npy->length, sizeof *out);
    for (long i = 0; i < npy->length; i++) {
        int64_t value = npy_value(data, i, npy->descr[1], bytes);
        if (value < 0 || value > INT32_MAX)
            gm_fail(GM_EINPUT, "%s: element %ld is %lld, expected "
                           "a token id from 0 to %d", map->path, i,
                           (long long)value, INT32_MAX);
        out[i] = (int32_t)value;
    }
    *tokens = out;
}

/* Where header text and data lie, by format version. */
static void npy_layout(const gm_map *map, size_t *start, size_t *length) {
    if (map->size < 10 || memcmp(map->data, "\x93NUMPY", 6) != 0)
        gm_fail(GM_EINPUT, "%s: not an npy file (%zu bytes)",
                       map->path, map->size);
    int major = map->data[6];
    if (major < 1 || major > 3 || (major > 1 && map->size < 12))
        gm_fail(GM_EINPUT, "%s: npy version %d.%d, expected 1.0, "
                       "2.0 or 3.0", map->path, major, map->data[7]);
    *start = major == 1 ? 10 : 12;
    *length = (size_t)map->data[8] | (size_t)map->data[9] << 8;
    if (major > 1)
        *length |= (size_t)map->data[10] << 16 | (size_t)map->data[11] << 24;
    if (*length > map->size - *start)
        gm_fail(GM_EINPUT, "%s: npy header of %zu bytes does not "
                       "fit a file of %zu", map->path, *length, map->size);
}

static void npy_parse(gm_arena *arena, const gm_map *map,
                           int32_t **tokens, long *count) {
    static const char *const types[] = {"<i4", "<i8", "<u2", "<u4"};
    struct npy npy = {0};
    size_t start = 0, length = 0, known = 0;
    npy_layout(map, &start, &length);
    const char *text = (const char *)map->data + start;
    if (!npy_header(text, text + length, &npy))
        gm_fail(GM_EINPUT, "%s: npy header is not a dictionary of"
                       " descr, fortran_order and shape", map->path);
    while (known < 4 && strcmp(types[known], npy.descr) != 0) known++;
    if (known == 4)
        gm_fail(GM_EINPUT, "%s: npy type '%s', expected '<i4', "
                       "'<i8', '<u2' or '<u4'", map->path, npy.descr);
    if (npy.rank != 1)
        gm_fail(GM_EINPUT, "%s: npy array of %d dimensions, "
                       "expected 1", map->path, npy.rank);
    if (npy.fortran)
        gm_fail(GM_EINPUT, "%s: npy fortran_order is True, "
                       "expected False", map->path);
    size_t left = map->size - start - length;
    size_t bytes = (size_t)(npy.descr[2] - '0');
    if (left % bytes || (uint64_t)npy.length != left / bytes)
        gm_fail(GM_EINPUT, "%s: %zu bytes of data, shape (%lld,) "
                       "of '%s' needs %zu each", map->path, left,
                       (long long)npy.length, npy.descr, bytes);
    npy_tokens(arena, map, map->data + start + length, &npy, tokens);
    *count = (long)npy.length;
}

void gm_npy_read(gm_arena *arena, const char *path, int32_t **tokens,
                      long *count) {
    gm_map map;
    gm_map_open(arena, path, &map);
    npy_parse(arena, &map, tokens, count);
    gm_map_close(&map);
}
