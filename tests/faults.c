/* faults.c: makes the n-th allocation or file operation of a program fail.
   Preloaded into ./gamma by tests/test_faults.sh (LD_PRELOAD):

     FAULT=malloc, write, open, kill, cut, touch, backwards   what fails
     FAULT_AT=N                      the N-th fails, from 1; 0: none, counts
     FAULT_ERRNO=28                  with this error (write, open)
     FAULT_COUNT=FILE                where the number of calls is written

   malloc: malloc, calloc, realloc, aligned_alloc, called from anywhere but
   the loader and the OpenMP runtime, which end the process by themselves.
   write: fopen, fdopen, fwrite, vfprintf, fflush, fsync, fclose, rename, of
   files, not of the terminal's streams.  A failing fwrite first writes half,
   as a full disk does; a failing fclose closes.
   open: open, close, mkdir, fstat, pread, access, ftruncate, fseeko, fcntl.  A
   failing close closes.
   kill: SIGKILL before the N-th call of the kinds write and open.
   cut, touch: a file is cut to nothing, or gets another time of change, right
   before the N-th pread, which is of that file.
   backwards: every clock runs backwards, a minute a call.
   SPDX-License-Identifier: GPL-3.0-or-later */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static int kind;                    /* first letter of FAULT, or 0 */
static long at, count;
static int with = ENOSPC;

__attribute__((constructor)) static void begin(void) {
    const char *what = getenv("FAULT"), *n = getenv("FAULT_AT");
    const char *why = getenv("FAULT_ERRNO");
    at = n ? atol(n) : 0;
    if (why) with = atoi(why);
    kind = what ? *what : 0;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULT_COUNT");
    char text[32];
    kind = 0;
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    int length = snprintf(text, sizeof text, "%ld\n", count);
    if (fd < 0) return;
    if (write(fd, text, (size_t)length) != length) _exit(99);
    close(fd);
}

static int fails(int what) {
    if (kind != what) return 0;
    return __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) == at;
}

static int dies(void) { return fails('k') && raise(SIGKILL); }

/* ------------------------------------------------------------------ memory */

static int memory_fails(const void *caller) {
    Dl_info info;
    if (kind != 'm' || !dladdr(caller, &info)) return 0;
    if (strstr(info.dli_fname, "libgomp") || strstr(info.dli_fname, "ld-linux"))
        return 0;
    if (!fails('m')) return 0;
    errno = ENOMEM;
    return 1;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size) {
    return memory_fails(CALLER) ? NULL : __libc_malloc(size);
}
void *calloc(size_t n, size_t size) {
    return memory_fails(CALLER) ? NULL : __libc_calloc(n, size);
}
void *realloc(void *p, size_t size) {
    return memory_fails(CALLER) ? NULL : __libc_realloc(p, size);
}
void *aligned_alloc(size_t align, size_t size) {
    return memory_fails(CALLER) ? NULL : __libc_memalign(align, size);
}

/* ------------------------------------------------------------------- files */

static int file_fails(const FILE *file) {
    if (file && (file == stdout || file == stderr)) return 0;
    if (dies() || !fails('w')) return 0;
    errno = with;
    return 1;
}

static int open_fails(void) {
    if (dies() || !fails('o')) return 0;
    errno = with;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void change(int fd) {
    char link[64], path[4096] = "";
    struct timespec then[2] = {{1, 0}, {1, 0}};
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 ||
        (kind == 'c' ? truncate(path, 0) : utimensat(AT_FDCWD, path, then, 0)))
        _exit(98);
}
ssize_t pread(int fd, void *to, size_t n, off_t from) {
    if (open_fails()) return -1;
    if (fails('c') || fails('t')) change(fd);
    return REAL(pread)(fd, to, n, from);
}

FILE *fdopen(int fd, const char *mode) {
    return file_fails(NULL) ? NULL : REAL(fdopen)(fd, mode);
}
size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
    if (!file_fails(file)) return REAL(fwrite)(data, size, n, file);
    size_t half = REAL(fwrite)(data, size, n / 2, file);
    REAL(fflush)(file);
    errno = with;
    return half;
}
int vfprintf(FILE *file, const char *format, va_list list) {
    return file_fails(file) ? -1 : REAL(vfprintf)(file, format, list);
}
int __vfprintf_chk(FILE *file, int flag, const char *format, va_list list) {
    (void)flag;
    return file_fails(file) ? -1 : REAL(vfprintf)(file, format, list);
}
int fflush(FILE *file) { return file_fails(file) ? EOF : REAL(fflush)(file); }
int fsync(int fd) { return file_fails(NULL) ? -1 : REAL(fsync)(fd); }
int rename(const char *from, const char *to) {
    return file_fails(NULL) ? -1 : REAL(rename)(from, to);
}
int fclose(FILE *file) {
    int failed = file_fails(file), closed = REAL(fclose)(file);
    if (failed) errno = with;
    return failed ? EOF : closed;
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    int mode = flags & O_CREAT ? va_arg(list, int) : 0;
    va_end(list);
    const char *dot = strrchr(path, '.');
    if (dot && strcmp(dot, ".gcda") == 0) kind = 0;     /* coverage, at exit */
    return open_fails() ? -1 : REAL(open)(path, flags, mode);
}
int close(int fd) {
    int failed = open_fails(), closed = REAL(close)(fd);
    if (failed) errno = with;
    return failed ? -1 : closed;
}
int mkdir(const char *path, mode_t mode) {
    return open_fails() ? -1 : REAL(mkdir)(path, mode);
}
int fstat(int fd, struct stat *info) {
    return open_fails() ? -1 : REAL(fstat)(fd, info);
}
int access(const char *path, int mode) {
    return open_fails() ? -1 : REAL(access)(path, mode);
}
int ftruncate(int fd, off_t size) {
    return open_fails() ? -1 : REAL(ftruncate)(fd, size);
}
int fseeko(FILE *file, off_t to, int from) {
    return open_fails() ? -1 : REAL(fseeko)(file, to, from);
}
int fcntl(int fd, int what, ...) {
    va_list list;
    va_start(list, what);
    long value = va_arg(list, long);
    va_end(list);
    return open_fails() ? -1 : REAL(fcntl)(fd, what, value);
}

/* ------------------------------------------------------------------- clocks */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int code = REAL(clock_gettime)(clock, now);
    if (kind == 'b') now->tv_sec -= 61 * ++count;
    return code;
}
time_t time(time_t *now) {
    time_t t = REAL(time)(NULL);
    if (kind == 'b') t -= 61 * ++count;
    if (now) *now = t;
    return t;
}
