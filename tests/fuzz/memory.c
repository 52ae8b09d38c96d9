/* memory.c: files in memory for the fuzz targets, and an account of memory and
   time.  The linker's --wrap sends the C library's calls here.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 8, FIRST_FD = 1 << 20 };
static struct { char path[64]; const void *data; size_t size; } file[FILES];
static int files, inside, opened;
static size_t input, allocated;
static struct timespec began;

int __real_open(const char *path, int flags, ...);
int __real_fstat(int fd, struct stat *info);
int __real_stat(const char *path, struct stat *info);
int __real_lstat(const char *path, struct stat *info);
int __real_access(const char *path, int mode);
int __real_close(int fd);
ssize_t __real_pread(int fd, void *to, size_t bytes, off_t from);
FILE *__real_fopen(const char *path, const char *mode);
int __real_mkdir(const char *path, mode_t mode);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
void *__real_aligned_alloc(size_t alignment, size_t size);

/* ----------------------------------------------------------------- account */

const char *fuzz_dir(void) {
    static char dir[64];
    if (!*dir) {
        const char *base = __real_access("/dev/shm", W_OK) == 0 ? "/dev/shm"
                                                                : "/tmp";
        snprintf(dir, sizeof dir, "%s/gamma-fuzz-%ld", base, (long)getpid());
        if (__real_mkdir(dir, 0700) != 0 && errno != EEXIST) abort();
    }
    return dir;
}

static void remove_dir(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/out", fuzz_dir());
    __real_unlink(path);
    rmdir(fuzz_dir());
}

void fuzz_begin(void) {
    static bool registered;
    if (!registered) registered = true, atexit(remove_dir);
    files = 0, input = 0, allocated = 0, opened = 0, inside = 1;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
}

void fuzz_file(const char *path, const void *data, size_t size) {
    if (files == FILES) abort();
    snprintf(file[files].path, sizeof file[files].path, "%s", path);
    file[files].data = data;
    file[files++].size = size;
    input += size;
}

void fuzz_end(double times, size_t plus) {
    struct timespec now;
    inside = 0;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    double seconds = (double)(now.tv_sec - began.tv_sec) +
                     1e-9 * (double)(now.tv_nsec - began.tv_nsec);
    if (seconds > 1 || (double)allocated > times * (double)input + (double)plus)
        fprintf(stderr, "%zu bytes of input: %zu allocated, %.3f s\n", input,
                allocated, seconds);
    FUZZ_CHECK(seconds <= 1);
    FUZZ_CHECK((double)allocated <= times * (double)input + (double)plus);
    FUZZ_CHECK(!opened);
}

char *fuzz_load(const char *path, size_t *size) {
    FILE *f = __real_fopen(path, "rb");
    char *text = NULL;
    size_t n = 0;
    if (f && fseek(f, 0, SEEK_END) == 0) {
        n = (size_t)ftell(f);
        rewind(f);
        text = calloc(n + 1, 1);
        if (text && fread(text, 1, n, f) != n) free(text), text = NULL;
    }
    if (f) fclose(f);
    if (!text) fprintf(stderr, "%s: cannot be read\n", path), abort();
    if (size) *size = n;
    return text;
}

/* An arena's block has a head of 64 bytes. */
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    if (inside) allocated += size - 64;
    return __real_aligned_alloc(alignment, size);
}

/* ------------------------------------------------------------------- files */

static int find(const char *path) {
    for (int i = 0; i < files; i++)
        if (strcmp(file[i].path, path) == 0) return i;
    return -1;
}

/* libFuzzer writes the input of a crash while we are inside: to
   build/fuzzT/TARGET-crash-SHA1, a name that no input has guessed whole. */
static bool passes(const char *path) {
    const char *crash = strstr(path, "-crash-");
    return !inside || strncmp(path, fuzz_dir(), strlen(fuzz_dir())) == 0 ||
           (strncmp(path, "build/fuzz", 10) == 0 && crash &&
            strspn(crash + 7, "0123456789abcdef") == 40 && !crash[47]);
}

static int refuse(int why) { return errno = why, -1; }

static void describe(int i, struct stat *info) {
    *info = (struct stat){.st_mode = S_IFREG | 0600,
                          .st_size = (off_t)file[i].size,
                          .st_ino = (ino_t)i + 1};
}

int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
    int i = inside ? find(path) : -1;
    if (i >= 0 && (flags & O_ACCMODE) == O_RDONLY)
        return opened++, FIRST_FD + i;
    if (!passes(path)) return refuse(flags & O_CREAT ? EROFS : ENOENT);
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    return __real_open(path, flags, mode);
}

int __wrap_fstat(int fd, struct stat *info);
int __wrap_fstat(int fd, struct stat *info) {
    if (fd < FIRST_FD) return __real_fstat(fd, info);
    describe(fd - FIRST_FD, info);
    return 0;
}

static int stat_of(const char *path, struct stat *info,
                   int (*real)(const char *, struct stat *)) {
    int i = inside ? find(path) : -1;
    if (i >= 0) return describe(i, info), 0;
    return passes(path) ? real(path, info) : refuse(ENOENT);
}
int __wrap_stat(const char *path, struct stat *info);
int __wrap_stat(const char *path, struct stat *info) {
    return stat_of(path, info, __real_stat);
}
int __wrap_lstat(const char *path, struct stat *info);
int __wrap_lstat(const char *path, struct stat *info) {
    return stat_of(path, info, __real_lstat);
}

int __wrap_access(const char *path, int mode);
int __wrap_access(const char *path, int mode) {
    if (inside && find(path) >= 0) return 0;
    return passes(path) ? __real_access(path, mode) : refuse(ENOENT);
}

int __wrap_close(int fd);
int __wrap_close(int fd) {
    if (fd < FIRST_FD) return __real_close(fd);
    return opened--, 0;
}

ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t from);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t from) {
    if (fd < FIRST_FD) return __real_pread(fd, to, bytes, from);
    const size_t size = file[fd - FIRST_FD].size, at = (size_t)from;
    if (from < 0 || at >= size) return 0;
    if (bytes > size - at) bytes = size - at;
    memcpy(to, (const char *)file[fd - FIRST_FD].data + at, bytes);
    return (ssize_t)bytes;
}

FILE *__wrap_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode) {
    int i = inside ? find(path) : -1;
    if (i >= 0 && *mode == 'r' && file[i].size)
        return fmemopen((void *)(uintptr_t)file[i].data, file[i].size, "r");
    if (!passes(path)) return refuse(*mode == 'r' ? ENOENT : EROFS), NULL;
    return __real_fopen(path, mode);
}

int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode) {
    return passes(path) ? __real_mkdir(path, mode) : refuse(EROFS);
}
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to) {
    return passes(from) && passes(to) ? __real_rename(from, to)
                                      : refuse(EROFS);
}
int __wrap_unlink(const char *path);
int __wrap_unlink(const char *path) {
    return passes(path) ? __real_unlink(path) : refuse(EROFS);
}
