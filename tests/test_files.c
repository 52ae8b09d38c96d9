/* test_files.c: a file is read whole or its change is named; what is written
   appears whole or not at all.  Writes only below build/test/.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "lib/lib.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/test.h"

#define DIR "build/test/files"

static gm_arena arena;

/* A new file each time: some file systems flush one that is truncated. */
static void write_file(const char *path, const void *data, size_t n) {
    unlink(path);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(data, 1, n, file) == n && fclose(file) == 0,
          "cannot write %s", path);
}

/* The whole of a file as a string, "" when it is not there. */
static const char *contents(const char *path) {
    static char text[4096];
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[n] = 0;
    if (file) fclose(file);
    return text;
}

/* The call was refused with `status` and exactly this message. */
static void refused(gm_status found, gm_status status, const char *message) {
    CHECK(found == status, "status %d, expected %d: %s", found, status,
          message);
    CHECK_TEXT(err.text, message);
    err = (gm_error){""};
}

/* Until commit the old file stands; after it the new one; nothing is left. */
static void test_atomic(void) {
    gm_out out;
    write_file(DIR "/o", "old", 3);
    CHECK(STATUS(gm_out_open(&arena, DIR "/o", &out)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_out_write(&out, "ne", 2)) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_out_print(&out, "%s %d %.3f", "w", 7, 0.5)) == GM_OK, "%s",
          err.text);
    CHECK_TEXT(contents(DIR "/o"), "old");
    CHECK(access(DIR "/o.partial", F_OK) == 0, "partial file in place");
    CHECK(STATUS(gm_out_commit(&out)) == GM_OK, "%s", err.text);
    CHECK_TEXT(contents(DIR "/o"), "new 7 0.500");
    CHECK(out.bytes == 11, "%lld bytes counted", (long long)out.bytes);
    CHECK(access(DIR "/o.partial", F_OK) != 0, "partial file gone");
    gm_out_abandon(&out);
    CHECK_TEXT(contents(DIR "/o"), "new 7 0.500");
    CHECK(STATUS(gm_out_open(&arena, DIR "/o", &out)) == GM_OK, "%s", err.text);
    gm_out_write(&out, "half", 4);
    gm_out_abandon(&out);
    gm_out_abandon(&out);
    CHECK_TEXT(contents(DIR "/o"), "new 7 0.500");
    CHECK(access(DIR "/o.partial", F_OK) != 0, "abandoned file gone");
}

/* Opens an output, writes and commits it on a disk that is full after 1000
   bytes: one frame, as in a command. */
static gm_status write_full(const char *path, size_t bytes) {
    struct rlimit old, small = {1000, RLIM_INFINITY};
    static char big[100000];
    gm_out out;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    gm_status status = STATUS((gm_out_open(&arena, path, &out),
                               setrlimit(RLIMIT_FSIZE, &small),
                               gm_out_write(&out, big, bytes),
                               gm_out_commit(&out)));
    setrlimit(RLIMIT_FSIZE, &old);
    return status;
}

static void test_write_errors(void) {
    gm_out out;
    refused(STATUS(gm_out_open(&arena, DIR "/none/o", &out)), GM_EIO,
            DIR "/none/o.partial: cannot create: No such file or directory");
    gm_out_abandon(&out);
    refused(write_full(DIR "/o", 100000), GM_EIO,
            DIR "/o.partial: cannot write: File too large");
    CHECK(access(DIR "/o.partial", F_OK) != 0, "removed after the failure");
    CHECK_TEXT(contents(DIR "/o"), "new 7 0.500");
    /* Small writes fail only when the buffer is flushed, in commit. */
    refused(write_full(DIR "/o", 2000), GM_EIO,
            DIR "/o.partial: cannot write: File too large");
    CHECK(access(DIR "/o.partial", F_OK) != 0, "removed after the failure");
    CHECK_TEXT(contents(DIR "/o"), "new 7 0.500");
    /* The target is a directory. */
    CHECK(STATUS(gm_make_dir(DIR "/target")) == GM_OK, "%s", err.text);
    refused(STATUS(gm_out_open(&arena, DIR "/target", &out)), GM_EIO,
            DIR "/target: cannot create: Is a directory");
    CHECK(access(DIR "/target.partial", F_OK) != 0, "removed");
}

/* What a handler of signals would remove: all that is unfinished, no more. */
static void test_remove_all(void) {
    gm_out one, two;
    write_file(DIR "/o", "old", 3);
    gm_out_open(&arena, DIR "/o", &one);
    gm_out_open(&arena, DIR "/two", &two);
    CHECK(access(DIR "/two.partial", F_OK) == 0, "in place");
    gm_out_remove_all();
    CHECK(access(DIR "/o.partial", F_OK) != 0 &&
          access(DIR "/two.partial", F_OK) != 0, "partial files removed");
    CHECK_TEXT(contents(DIR "/o"), "old");
    gm_out_abandon(&two);
    gm_out_abandon(&one);
}

static void test_directories(void) {
    char name[5000];
    CHECK(STATUS(gm_make_dir(DIR "/p/q//r/")) == GM_OK, "%s", err.text);
    CHECK(STATUS(gm_make_dir(DIR "/p/q/r")) == GM_OK, "twice: %s", err.text);
    CHECK(access(DIR "/p/q/r", F_OK) == 0, "made with its parents");
    write_file(DIR "/file", "x", 1);
    refused(STATUS(gm_make_dir(DIR "/file")), GM_EIO, DIR "/file: cannot make "
            "directory: exists and is no directory");
    refused(STATUS(gm_make_dir(DIR "/file/x")), GM_EIO, DIR "/file: cannot make "
            "directory: exists and is no directory");
    memset(name, 'a', 4096), name[4096] = 0;
    refused(STATUS(gm_make_dir(name)), GM_EINPUT, "directory name of 4096 bytes,"
            " expected 1 to 4095");
    refused(STATUS(gm_make_dir("")), GM_EINPUT, "directory name of 0 bytes, "
            "expected 1 to 4095");
    CHECK(STATUS(gm_copy_file(&arena, DIR "/file", DIR "/copy")) == GM_OK, "%s",
          err.text);
    CHECK_TEXT(contents(DIR "/copy"), "x");
    refused(STATUS(gm_copy_file(&arena, DIR "/none", DIR "/copy")), GM_EIO,
            DIR "/none: cannot open: No such file or directory");
    refused(STATUS(gm_copy_file(&arena, DIR "/file", DIR "/none/copy")), GM_EIO,
            DIR "/none/copy.partial: cannot create: No such file or "
            "directory");
    CHECK_TEXT(contents(DIR "/copy"), "x");
}

/* Whole files, and pieces; a file that changes while it is open is noticed, by
   its size, its time, or the end that comes early. */
static void test_input(void) {
    const char *text = NULL;
    char to[8], hex[65], expected[65];
    size_t bytes = 1;
    gm_input *in = NULL;
    gm_out out;
    write_file(DIR "/empty", "", 0);
    CHECK(STATUS(text = gm_file_text(&arena, DIR "/empty", &bytes)) == GM_OK &&
          bytes == 0 && text && !*text, "an empty file: %s", err.text);
    write_file(DIR "/file", "abcdef", 6);
    CHECK(STATUS(text = gm_file_text(&arena, DIR "/file", &bytes)) == GM_OK &&
          bytes == 6, "%s", err.text);
    CHECK_TEXT(text, "abcdef");
    gm_file_hash(DIR "/file", hex);
    gm_sha_of("abcdef", 6, expected);
    CHECK_TEXT(hex, expected);
    CHECK(!STATUS(in = gm_input_open(&arena, DIR "/file")), "%s", err.text);
    gm_input_read(in, 2, 3, to);
    CHECK(memcmp(to, "cde", 3) == 0 && in->size == 6, "a piece");
    refused(STATUS(gm_input_read(in, 4, 3, to)), GM_EIO,
            DIR "/file: changed or shrank while it was being read");
    write_file(DIR "/file", "another", 7);      /* as a rename does */
    gm_input_read(in, 0, 3, to);
    CHECK(!STATUS(gm_inputs_check()) && memcmp(to, "abc", 3) == 0,
          "the old file is still read: %s", err.text);
    CHECK(!STATUS(gm_input_close(in)), "%s", err.text);
    CHECK(!STATUS(in = gm_input_open(&arena, DIR "/file")), "%s", err.text);
    CHECK(!truncate(DIR "/file", 2), "cut");
    refused(STATUS((gm_out_open(&arena, DIR "/o", &out), gm_out_commit(&out))),
            GM_EIO, DIR "/file: changed while it was being read");
    CHECK(access(DIR "/o.partial", F_OK) != 0, "nothing is made from it");
    refused(STATUS(gm_input_close(in)), GM_EIO,
            DIR "/file: changed while it was being read");
    /* the size alone, then the time alone, then neither */
    struct timespec was[2] = {in->changed, in->changed};
    CHECK(!utimensat(AT_FDCWD, DIR "/file", was, 0), "as old as it was");
    refused(STATUS(gm_inputs_check()), GM_EIO,
            DIR "/file: changed while it was being read");
    was[1].tv_nsec = was[1].tv_nsec ? was[1].tv_nsec - 1 : 1;
    CHECK(!truncate(DIR "/file", 7), "as long as it was");
    CHECK(!utimensat(AT_FDCWD, DIR "/file", was, 0), "a nanosecond off");
    refused(STATUS(gm_inputs_check()), GM_EIO,
            DIR "/file: changed while it was being read");
    was[1] = in->changed;
    CHECK(!utimensat(AT_FDCWD, DIR "/file", was, 0), "as old as it was");
    CHECK(!STATUS(gm_input_close(in)), "%s", err.text);
}

/* Written and committed, or (abandon) given up. */
static void write_out(const char *path, const char *text, bool abandon) {
    gm_out out;
    gm_out_open(&arena, path, &out);
    gm_out_print(&out, "%s", text);
    if (abandon) gm_out_abandon(&out);
    else gm_out_commit(&out);
}

static bool is(const char *path, mode_t kind) {
    struct stat info;
    return lstat(path, &info) == 0 && (info.st_mode & S_IFMT) == kind;
}

/* Links keep pointing, what they lead to is replaced with its permissions; a
   pipe stays one, also when the output is given up. */
static void test_places(void) {
    struct stat info;
    char read_back[8] = "";
    write_file(DIR "/place", "old", 3);
    CHECK(!chmod(DIR "/place", 0646), "not the umask's");
    unlink(DIR "/l1"), unlink(DIR "/l2"), unlink(DIR "/l3");
    unlink(DIR "/nothing");
    CHECK(!symlink("place", DIR "/l1") && !symlink("p/../l1", DIR "/l2") &&
          !symlink("nothing", DIR "/l3"), "links");
    CHECK(!STATUS(write_out(DIR "/l2", "new", false)), "%s", err.text);
    CHECK_TEXT(contents(DIR "/place"), "new");
    CHECK(is(DIR "/l1", S_IFLNK) && is(DIR "/l2", S_IFLNK), "still links");
    CHECK(!stat(DIR "/place", &info) && (info.st_mode & 0777) == 0646,
          "mode %o", (unsigned)info.st_mode);
    CHECK(!STATUS(write_out(DIR "/l3", "made", false)), "%s", err.text);
    CHECK_TEXT(contents(DIR "/nothing"), "made");
    CHECK(!STATUS(gm_remove_file(&arena, DIR "/l3")) && is(DIR "/l3", S_IFLNK),
          "%s", err.text);
    CHECK(access(DIR "/nothing", F_OK) != 0, "what the link led to is gone");
    unlink(DIR "/fifo");
    CHECK(!mkfifo(DIR "/fifo", 0600), "a pipe");
    int fd = open(DIR "/fifo", O_RDWR);
    CHECK(!STATUS(write_out(DIR "/fifo", "one", false)), "%s", err.text);
    CHECK(!STATUS(write_out(DIR "/fifo", "two", true)), "%s", err.text);
    CHECK(!STATUS(gm_remove_file(&arena, DIR "/fifo")), "%s", err.text);
    CHECK(read(fd, read_back, 6) == 6 && !strcmp(read_back, "onetwo"), "%s",
          read_back);
    CHECK(is(DIR "/fifo", S_IFIFO) && !gm_is_file(DIR "/fifo"), "still a pipe");
    close(fd);
    CHECK(gm_is_file(DIR "/none") && gm_is_file(DIR "/l1") && !gm_is_file("-") &&
          !gm_is_file(DIR), "files, or to be ones");
}

/* A pipe is read to its end, longer than any buffer, and once; a copy leaves
   the caller's memory as it was. */
static void test_streams(void) {
    static char long_text[300000];
    char *text = NULL, *again = NULL;
    size_t bytes = 0;
    memset(long_text, 'x', sizeof long_text);
    write_file(DIR "/long", long_text, sizeof long_text);
    FILE *pipe = popen("cat " DIR "/long", "r");
    CHECK(pipe, "a pipe");
    const char *path = gm_format(&arena, "/dev/fd/%d", fileno(pipe));
    CHECK(!STATUS(text = gm_file_text(&arena, path, &bytes)), "%s", err.text);
    CHECK(bytes == sizeof long_text && !memcmp(text, long_text, bytes) &&
          !text[bytes], "%zu bytes", bytes);
    text[0] = 'y';                      /* the caller's own */
    pclose(pipe);
    CHECK(!STATUS(again = gm_file_text(&arena, path, &bytes)), "%s", err.text);
    CHECK(bytes == sizeof long_text && again[0] == 'x', "the same again");
    refused(STATUS(gm_input_open(&arena, DIR "/fifo")), GM_EINPUT,
            DIR "/fifo: not a regular file");
    alarm(20);                          /* nor is it waited for elsewhere */
    refused(STATUS(gm_copy_file(&arena, DIR "/fifo", DIR "/copy")), GM_EINPUT,
            DIR "/fifo: not a regular file");
    refused(STATUS(gm_json_read(&arena, DIR "/fifo", false)), GM_EINPUT,
            DIR "/fifo: not a regular file");
    alarm(0);
    refused(STATUS(gm_file_text(&arena, DIR, NULL)), GM_EINPUT,
            DIR ": not a regular file");
    const size_t used = arena.used;
    CHECK(!STATUS(gm_copy_file(&arena, DIR "/long", DIR "/copy")), "%s",
          err.text);
    CHECK(arena.used == used, "%zu bytes kept", arena.used - used);
}

/* What is no UTF-8 counts as a control character: one byte may be one. */
static void test_clean(void) {
    char text[] = "a\x9b" "b\xc2\x9b" "c\xff\xc3\xa9\xc2";
    CHECK(gm_control(text) == text + 1, "0x9B");
    CHECK(!gm_control("caf\xc3\xa9"), "text");
    gm_clean(text, "");
    CHECK_TEXT(text, "a?b??c?\xc3\xa9?");
}

static int test_main(void) {
    CHECK(STATUS(gm_make_dir(DIR)) == GM_OK, "%s", err.text);
    test_atomic(), test_write_errors(), test_remove_all();
    test_directories(), test_input();
    test_places(), test_streams(), test_clean();
    gm_arena_free(&arena);
    return test_end("test_files");
}

TEST_MAIN(test_main())
