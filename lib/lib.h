/* lib.h: what the method stands on and what knows nothing of quantization:
   errors, memory, kernels, files, text, checkpoints, tables.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_LIB_H
#define GM_LIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Sizes and counts of a model are long: 64-bit systems but Windows'. */
_Static_assert(sizeof(long) == 8, "long has 64 bits");

#define GM_VERSION "0.1"
#define GM_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* The path that stands for standard input and output. */
#define GM_STANDARD "-"

/* The scalar type of weights and activations.  -DGM_DOUBLE builds the same
   sources in double: only for comparing gradients with finite differences. */
#ifdef GM_DOUBLE
typedef double gm_real;
#else
typedef float gm_real;
#endif

/* What has another name or unit on macOS. */
#ifdef __APPLE__
#define st_mtim st_mtimespec            /* of struct stat */
enum { GM_RSS_UNIT = 1 };               /* of ru_maxrss, in bytes */
#else
enum { GM_RSS_UNIT = 1024 };
#endif

/* ------------------------------------------------------------------ base.c
   Errors, arenas, random numbers, hashes, exact decimals. */

/* How a call ends; also the exit code of the program. */
typedef enum {
    GM_OK = 0,
    GM_EINPUT = 1,      /* a file or value says something we cannot accept */
    GM_EUSAGE = 2,      /* the command line is wrong                       */
    GM_EINFEASIBLE = 3, /* no assignment meets the budget and constraints  */
    GM_ELIMIT = 4,      /* time or size limit reached before a proof       */
    GM_EIO = 5,         /* the operating system refused a read or write    */
    GM_EMEM = 6,        /* out of memory                                   */
    GM_EDIFFER = 7      /* a check or comparison ran and did not agree     */
} gm_status;

typedef struct { char text[1024]; } gm_error;

/* Errors do not return.  gm_fail writes the message into the innermost frame of
   this thread, releases what was owned since that was opened, newest first, and
   goes on behind its gm_try.  Never across a parallel region. */
_Noreturn void gm_fail(gm_status status, const char *format, ...)
    GM_PRINTF(2, 3);
/* GM_EINPUT, "WHERE: MESSAGE"; `-` is called standard input. */
_Noreturn void gm_bad(const char *where, const char *format, ...)
    GM_PRINTF(2, 3);
/* body(context) in a frame of its own; how it ended.  err: may be NULL. */
gm_status gm_try(void (*body)(void *context), void *context, gm_error *err);

/* What gm_fail releases: arenas with memory, open inputs, unfinished outputs,
   locks. */
typedef struct gm_owned {
    struct gm_owned *below;
    void (*release)(void *thing);
    void *thing;
} gm_owned;
void gm_own(gm_owned *o, void (*release)(void *thing), void *thing);
void gm_disown(gm_owned *o);
const gm_owned *gm_owned_all(void);     /* of this thread, newest first */

/* The parts of gm_try, for tests: open, setjmp(frame.at), work, close. */
typedef struct gm_frame {
    jmp_buf at;
    struct gm_frame *below;
    gm_owned *newest;
    gm_status status;
    gm_error error;
} gm_frame;
void gm_frame_open(gm_frame *frame);
void gm_frame_close(gm_frame *frame);

/* The first control character or byte that is no UTF-8, or NULL.  gm_clean
   replaces all but those in `keep` by '?': no escape sequence of a file may
   reach a terminal. */
char *gm_control(const char *text);
void gm_clean(char *text, const char *keep);

/* Memory: chunks that only grow and are given back together; {0} is empty. */
typedef struct gm_arena {
    struct gm_chunk *chunk;
    size_t used, peak;
    bool dry;           /* only counts: addresses given must not be used */
    gm_owned owned;
} gm_arena;
/* count * size zeroed bytes, 64-byte aligned; at least one. */
void *gm_alloc(gm_arena *arena, size_t count, size_t size);
/* The array of `count` elements, or a larger copy, with room for one more. */
void *gm_grow(gm_arena *arena, const void *array, size_t count, size_t *room,
              size_t size);
char *gm_format(gm_arena *arena, const char *format, ...) GM_PRINTF(2, 3);
char *gm_vformat(gm_arena *arena, const char *format, va_list list);
/* Rewinding frees all that was allocated since the mark. */
typedef struct { struct gm_chunk *chunk; size_t fill, used; } gm_mark;
gm_mark gm_arena_mark(const gm_arena *arena);
void gm_arena_rewind(gm_arena *arena, gm_mark mark);
void gm_arena_free(gm_arena *arena);

static inline long gm_min(long a, long b) { return a < b ? a : b; }

/* The first of "PATTERN,..." that `name` matches, from 0; -1: none.  '*' stands
   for any characters. */
int gm_name_which(const char *patterns, const char *name);
bool gm_name_matches(const char *patterns, const char *name);

long gm_count_char(const char *text, char c);   /* how often it is in there */
const char *gm_base_name(const char *path);     /* its last part */
const char *gm_parent(gm_arena *arena, const char *path);

/* Counter-based random numbers: a pure function of the three, so that order and
   threads cannot matter; gm_uniform is in [0, 1). */
uint64_t gm_random(uint64_t seed, uint64_t stream, uint64_t counter);
double gm_uniform(uint64_t seed, uint64_t stream, uint64_t counter);

/* SHA-256 (FIPS 180-4); `hex` receives 64 digits and a NUL. */
typedef struct { uint32_t h[8]; uint64_t length; uint8_t block[64]; } gm_sha;
void gm_sha_begin(gm_sha *sha);
void gm_sha_add(gm_sha *sha, const void *data, size_t bytes);
void gm_sha_end(gm_sha *sha, char hex[65]);
void gm_sha_of(const void *data, size_t bytes, char hex[65]);   /* in one */
/* What n blocks of 64 bytes do to the state h; and the same by the processor's
   own instructions: false, it has none. */
extern const uint32_t gm_sha_k[64];
void gm_sha_scalar(uint32_t h[8], const uint8_t *b, size_t n);
bool gm_sha_x86(uint32_t h[8], const uint8_t *b, size_t n);
void gm_sha_tokens(const int32_t *tokens, long S, long T, char hex[65]);

/* Numbers written by people: the whole of `text`, or GM_EUSAGE naming `what`;
   which of `count` names it is; floor(decimal * unit), exactly, whatever the
   number of digits. */
long gm_parse_long(const char *what, const char *text, long least, long most);
double gm_parse_double(const char *what, const char *text, double least,
                       double most);
int gm_parse_name(const char *what, const char *text, const char *const *name,
                  int count);
int64_t gm_parse_scaled(const char *what, const char *text, int64_t unit);
/* The same as answers: false, *out untouched, where those fail. */
bool gm_is_long(const char *text, long least, long most, long *out);
bool gm_is_double(const char *text, double least, double most, double *out);
/* Of the first n characters. */
bool gm_is_scaled(const char *text, size_t n, int64_t unit, int64_t *out);

/* Progress of the library; NULL: none.  `total` = 0: a plain message. */
typedef struct {
    void *context;
    void (*progress)(void *context, const char *what, long done, long total);
} gm_report;
void gm_say(const gm_report *report, const char *what, long done, long total);
double gm_seconds(void);            /* monotonic */

/* --------------------------------------------------------------- kernels.c
   Every function gives the same bits for any instruction set, number of
   threads and compiler: the order of sums stands at the definitions. */

/* Those of this machine, each better than the one before. */
typedef enum {
    GM_SCALAR,
#if defined(__x86_64__) && !defined(GM_DOUBLE)
    GM_AVX2, GM_AVX512,
#elif defined(__aarch64__) && !defined(GM_DOUBLE)
    GM_NEON,
#endif
    GM_ISA_COUNT
} gm_isa;
gm_isa gm_isa_best(void);
bool gm_isa_use(gm_isa isa);        /* false: not on this machine */
gm_isa gm_isa_now(void);
const char *gm_isa_name(gm_isa isa);

void gm_threads_use(int count);    /* >= 1; ignored without OpenMP          */
int gm_threads(void);              /* for a loop begun here: 1 in another   */
int gm_thread(void);               /* this one in the innermost loop        */

/* C[m,n] = A B (add = false) or C += A B (add = true); k >= 1.
     A(i,k) = a[i*ars + k*acs]   B(k,j) = b[k*brs + j*bcs]   C(i,j) = c[i*ldc+j]
   Each C element: k is cut into parts(k) = ceil(k/384) equal parts (rounded up
   to a multiple of 8); a part is one chain of fma from 0 in k order; parts are
   added in order to 0 (or C): see gm_gemm_reference in tests. */
void gm_gemm(long m, long n, long k, const gm_real *a, long ars, long acs,
             const gm_real *b, long brs, long bcs, gm_real *c, long ldc,
             bool add);

/* sum_i x_i y_i in double, where a product of floats is exact.  Lane l = i mod
   8 sums its products in i order; lanes are added as
   ((0+1)+(2+3))+((4+5)+(6+7)).  gm_sum: of x_i. */
double gm_dot(long n, const gm_real *x, const gm_real *y);
double gm_sum(long n, const gm_real *x);
gm_real gm_largest(long n, const gm_real *x);   /* n >= 1, no NaN */
/* y_i = exp(x_i), error below 0.94 units in the last place; < -87.3 gives 0,
   > 88.7 +inf, NaN NaN. */
void gm_exp(long n, const gm_real *x, gm_real *y);

/* Nearest integer, ties to even, for |x| <= 2^21: adding 1.5 * 2^23 leaves no
   fraction bits.  Compiles to two additions where rintf would be a call. */
static inline float gm_nearest(float x) {
    const float magic = 12582912.f;
    return (x + magic) - magic;
}

static inline float gm_clamp(float x, float least, float most) {
    x = x < least ? least : x;
    return x > most ? most : x;
}

/* The code of w, top = 2^bits - 1.  Codes end at 255, so clamping w/scale to
   512 first changes nothing but keeps gm_nearest in its range. */
static inline float gm_code(float w, float scale, float zero, float top) {
    return gm_clamp(gm_nearest(gm_clamp(w / scale, -512, 512)) + zero, 0, top);
}

/* One column of GPTQ for 16 rows side by side:
     code = the code of w_0 + shift,
     e = (w_0 - ((code - zero) scale - shift)) / u_0,
     w_t -= e u_t,   0 < t < columns;   products rounded, no fma. */
enum { GM_LANES = 16 };
typedef struct {
    long columns;
    float top;                          /* 2^bits - 1                   */
    const float *scale, *zero, *shift;  /* [16]                         */
    const gm_real *u;                   /* [columns] row of the factor  */
    float (*w)[GM_LANES];               /* [columns][16]                */
    float *e, *code;                    /* [16] results                 */
} gm_column;
void gm_round_column(const gm_column *column);

/* In double and without libm, so the same everywhere. */
double gm_expd(double x);
double gm_logd(double x);                       /* x > 0 */
void gm_sincosd(double x, double *sine, double *cosine);   /* |x| < 1e7 */

/* Lower triangles of [n, n]; each element is one chain of rounded products,
   added in the order given.
   H_ij += sum_t (w_t^2 x_ti) x_tj, t in order; x [rows, n], weight [rows]. */
void gm_gram(long rows, long n, const gm_real *x, const double *weight,
             double *H);
/* A = L L^T, lower triangle in place: l_ij = (a_ij - sum_{k<j} l_ik l_jk) /
   l_jj.  false: a pivot is not positive and finite; A is spoilt. */
bool gm_cholesky(long n, double *A);
/* L X = 1: x_ij = (delta_ij - sum_{j<=k<i} l_ik x_kj) / l_ii. */
void gm_lower_inverse(long n, const double *L, double *X);

/* ----------------------------------------------------------------- files.c
   Files in, atomic files out, directories.  What cannot be opened, read or
   written: GM_EIO. */

/* The whole of a file, or of a pipe, a device, `-`, up to 256 MiB (the same
   again when asked again); a NUL behind it; bytes: may be NULL. */
char *gm_file_text(gm_arena *arena, const char *path, size_t *bytes);
/* Of a directory's file, which nobody named: a pipe is not waited for. */
char *gm_regular_text(gm_arena *arena, const char *path, size_t *bytes);
void gm_file_hash(const char *path, char hex[65]);
void gm_copy_file(gm_arena *arena, const char *from, const char *to);

/* A regular file that stays open to be read piece by piece.  GM_EIO when it
   ends early, and, when it is closed or gm_inputs_check asks of all that are
   open, when its size or time of change is another one. */
typedef struct {
    const char *path;
    size_t size;
    struct timespec changed;    /* when, as it was opened */
    bool stream;                /* no file: without size and time of change */
    int fd;
    gm_owned owned;
} gm_input;
gm_input *gm_input_open(gm_arena *arena, const char *path);
void gm_input_read(const gm_input *input, int64_t from, size_t count, void *to);
void gm_input_close(gm_input *input);
void gm_inputs_check(void);

/* A file that appears whole or not at all: PATH.partial, which one process at
   a time may write, gets its name at the end, unless an open input has changed,
   and is removed when the frame fails.  A link keeps pointing: what it leads to
   is replaced.  A device, a pipe, `-` (standard output) is written to at once,
   and partial is NULL. */
typedef struct gm_out {
    FILE *file;
    const char *path, *partial;
    const char *end, *now;      /* what `path` leads to; what is open */
    unsigned mode;              /* of the file that it replaces; 0: of none */
    int64_t bytes;
    int hold;                   /* a second descriptor, keeps the lock */
    struct gm_out *next;
    gm_owned owned;             /* so not to be copied while open */
} gm_out;
void gm_out_open(gm_arena *arena, const char *path, gm_out *out);
void gm_out_write(gm_out *out, const void *data, size_t bytes);
void gm_out_write_at(gm_out *out, int64_t at, const void *data, size_t bytes);
/* Without a file it only counts. */
void gm_out_print(gm_out *out, const char *format, ...) GM_PRINTF(2, 3);
void gm_out_commit(gm_out *out);
void gm_out_abandon(gm_out *out);
void gm_out_remove_all(void);       /* for handlers of signals */
extern bool gm_stdout_taken;        /* an output was standard output */
/* A regular file, or nothing there yet. */
bool gm_is_file(const char *path);
/* Removes what a path leads to, if that is a file. */
void gm_remove_file(gm_arena *arena, const char *path);
/* What a directory holds whose names match; -1: it cannot be read. */
const char **gm_dir_names(gm_arena *arena, const char *dir,
                          const char *patterns, long *count);

void gm_make_dir(const char *path); /* and its parents */

/* One process at a time in a directory, until gm_dir_unlock or the end of the
   process, however it comes; GM_EIO: another one.  NULL is no lock. */
typedef struct {
    int fd;
    gm_owned owned;
} gm_lock;
gm_lock *gm_dir_lock(gm_arena *arena, const char *dir);
void gm_dir_unlock(gm_lock *lock);

bool gm_same_file(const char *a, const char *b);    /* by whatever names */
/* Also when it cannot be told: opening the file then says why. */
bool gm_exists(const char *path);

/* --------------------------------------------------------------- tensors.c
   What sees, with tokenizer.c, bytes that nobody vouches for: JSON,
   safetensors, TSV, npy.  What they say wrong: GM_EINPUT. */

/* A name from a file may hold no control character and no part of a path. */
void gm_name_check(const char *path, const char *what, const char *name);

/* Bytes (1..4) of the code point at `at`; 0: not well-formed UTF-8. */
int gm_utf8(const char *at, const char *end, uint32_t *point);
int gm_utf8_put(uint32_t point, char *to);      /* writes 1..4 bytes */
/* The character before `at`, of well-formed text. */
static inline const char *gm_utf8_back(const char *at) {
    do at--; while ((*at & 0xC0) == 0x80);
    return at;
}

typedef enum {
    GM_JSON_NULL, GM_JSON_BOOL, GM_JSON_NUMBER, GM_JSON_STRING,
    GM_JSON_ARRAY, GM_JSON_OBJECT
} gm_json_type;

/* Members of an object and elements of an array are child, child->next, ... */
typedef struct gm_json {
    gm_json_type type;
    const char *key, *string;   /* UTF-8; a string may hold NULs          */
    size_t length;              /* bytes of string, or number of children */
    double number;              /* also 0/1 of a bool                     */
    int64_t integer;            /* valid when is_integer                  */
    bool is_integer;            /* number without fraction or exponent    */
    size_t at;                  /* byte offset in the text                */
    const struct gm_json *child, *next;
} gm_json;

/* RFC 8259, at most 64 deep, no key twice, no NUL in a key.  text[bytes] must
   be NUL, `line` is the number of the first line.  O(n log n). */
const gm_json *gm_json_parse(gm_arena *arena, const char *path, long line,
                             const char *text, size_t bytes);
/* A file; python: what its json reads, NaN, Infinity and 1e999 too; a key that
   is there twice is the last one for gm_json_get. */
const gm_json *gm_json_read(gm_arena *arena, const char *path, bool python);
/* The member, or NULL, also of what is no object. */
const gm_json *gm_json_get(const gm_json *object, const char *key);
bool gm_json_is(const gm_json *value, const char *text);
/* For messages: 3, "text", true, a list; of NULL: nothing. */
typedef struct { char text[256]; } gm_shown;
gm_shown gm_json_show(const gm_json *value);
char *gm_json_quote(gm_arena *arena, const char *text);

typedef enum {
    GM_F32, GM_F16, GM_BF16, GM_F64, GM_U8, GM_I8, GM_I32, GM_I64, GM_OTHER
} gm_dtype;
size_t gm_dtype_bytes(gm_dtype dtype);          /* 0 for GM_OTHER */
const char *gm_dtype_name(gm_dtype dtype);      /* "F32", "BF16", ... */
/* To the nearest, ties to even, overflow: infinite. */
float gm_f16_to_f32(uint16_t h);
uint16_t gm_f32_to_f16(float x);
/* x >= 0: the nearest, or the next above where that is less by more than
   `slack`; the largest finite one, 65504, where x is larger.  bf16: of those
   that BF16 has too, up to 65280. */
uint16_t gm_f16_reach(float x, float slack, bool bf16);
float gm_bf16_to_f32(uint16_t h);
uint16_t gm_f32_to_bf16(float x);
/* Codes of `bits` bits, 1..8, the lowest first, in ceil(n bits / 8) bytes; and
   one of them. */
void gm_pack(const uint8_t *code, long n, int bits, uint8_t *stream);
void gm_unpack(const uint8_t *stream, long n, int bits, uint8_t *code);
uint8_t gm_unpack_one(const uint8_t *stream, long i, int bits);
/* x as F32, F16, BF16 or F64. */
void gm_store(gm_dtype dtype, const gm_real *x, long count, uint8_t *out);

/* A weight of type F32 that other tensors hold, made when it is read: all its
   values, good until another one of the same model is asked for; the bits of a
   code and the bytes of those tensors. */
typedef struct gm_made {
    const float *(*values)(const struct gm_made *made);
    int bits;
    int64_t stored;
} gm_made;

/* One tensor, little endian, row-major: bytes in memory, or in a file. */
enum { GM_MAX_RANK = 16 };
typedef struct {
    const char *name;
    gm_dtype dtype;
    const char *type;           /* of GM_OTHER: its name in the file */
    int rank;
    int64_t shape[GM_MAX_RANK];
    size_t bytes;
    const uint8_t *data;        /* in memory; NULL: */
    const gm_input *file;       /* it begins at byte `at` of this file */
    int64_t at;
    const char *path;           /* for messages */
    const char *joined;         /* of these rows of another: its name */
    const gm_made *made;        /* neither in memory nor in a file: by whom */
} gm_tensor;
gm_shown gm_shape_of(const gm_tensor *tensor);      /* "[2, 3]" */
const char *gm_type_of(const gm_tensor *tensor);    /* "F16", "BOOL" */

/* All tensors of one file or of a checkpoint's shards, sorted by name. */
typedef struct {
    gm_tensor *tensor;
    long count;
    gm_input **file;
    long files;
    const gm_json *metadata;    /* of the first file, may be NULL */
} gm_tensors;

void gm_safetensors_open(gm_arena *arena, const char *path, gm_tensors *out);
/* DIR/model.safetensors, or the shards of DIR/model.safetensors.index.json. */
void gm_checkpoint_open(gm_arena *arena, const char *dir, gm_tensors *out);
void gm_tensors_close(gm_tensors *tensors);
void gm_tensors_sort(gm_tensors *tensors);  /* refuses one name twice */
const gm_tensor *gm_tensor_find(const gm_tensors *tensors, const char *name);
void gm_tensor_bytes(const gm_tensor *tensor, int64_t first, size_t count,
                     void *to);
/* Elements of a float tensor; NaN and infinity are refused by index.
   gm_tensor_check: all of them, which are not kept. */
void gm_tensor_read(const gm_tensor *tensor, int64_t first, int64_t count,
                    gm_real *out);
void gm_tensor_check(const gm_tensor *tensor);
/* SHA-256 over the tensors (name, dtype, shape, bytes) in name order. */
void gm_tensors_hash(const gm_tensors *tensors, char hex[65]);

/* The header of a safetensors file (name, dtype, rank, shape of `tensors`),
   padded to at least `header_bytes` and a multiple of 8; then gm_out_write for
   each tensor's bytes, then gm_out_commit.  metadata: pairs key, value,
   NULL-terminated, or NULL. */
void gm_safetensors_begin(gm_arena *arena, const char *path,
                          const gm_tensor *tensors, long count,
                          const char *const *metadata, size_t header_bytes,
                          gm_out *out);
/* Bytes of that header if unpadded. */
size_t gm_safetensors_header(const gm_tensor *tensors, long count,
                             const char *const *metadata);

/* "# key value" lines in file order; one that is set again keeps its place. */
typedef struct { const char *name, *value; } gm_key;
typedef struct { size_t count, room; gm_key *key; } gm_keys;
void gm_keys_set(gm_arena *arena, gm_keys *keys, const char *name,
                 const char *format, ...) GM_PRINTF(4, 5);
const char *gm_keys_get(const gm_keys *keys, const char *name); /* or NULL */

/* A file of tab-separated lines: `# key value` lines, column names, rows; empty
   lines are skipped.  Also as spreadsheets save it: a byte order mark, CRLF,
   lines and cells in quotes, tabs at the ends.  cell[r * columns + c]. */
typedef struct {
    const char *path;
    gm_keys keys;
    long rows, columns;
    const char **column, **cell;
    long *line;                 /* line number of each row, for messages */
} gm_table;
void gm_table_read(gm_arena *arena, const char *path, gm_table *out);
long gm_table_column(const gm_table *table, const char *name);     /* or -1  */
static inline const char *gm_table_key(const gm_table *t, const char *key) {
    return gm_keys_get(&t->keys, key);
}

/* Token ids of a 1-D .npy file of type <i4, <i8, <u2 or <u4. */
int32_t *gm_npy_read(gm_arena *arena, const char *path, long *count);

/* --------------------------------------------------------------- unicode.c
   [*text, *end) becomes its normal form C. */
void gm_nfc(gm_arena *arena, const char **text, const char **end);

/* A regular expression as Oniguruma reads it, or a text to be found as it is.
   What is not known is refused: lazy repetition, looking back, back references,
   names.  \p{=digit}, {=word}, {=punctuation}: what the pre-tokenizers and
   single_word mean by it. */
typedef struct gm_regex gm_regex;
const gm_regex *gm_regex_new(gm_arena *arena, const char *path,
                             const char *pattern, bool literal);
/* What matching needs: `steps` it may still take, then GM_ELIMIT. */
typedef struct {
    gm_arena arena;
    struct gm_fork *fork;
    size_t forks, room;
    uint64_t steps;
} gm_matcher;
enum { GM_REGEX_STEPS = 2000 };
/* The end of the match that begins at `at` in [text, end), or NULL. */
const char *gm_regex_match(const gm_regex *regex, gm_matcher *matcher,
                           const char *text, const char *at, const char *end);

/* ------------------------------------------------------------- tokenizer.c
   BPE from tokenizer.json, over bytes or as SentencePiece does, equal to the
   `tokenizers` library with add_special_tokens = False.  Anything else is
   refused, but truncation and padding, which are ignored. */
typedef struct gm_tokenizer gm_tokenizer;
gm_tokenizer *gm_tokenizer_open(gm_arena *arena, const char *dir);
/* Of valid UTF-8 below 512 MiB, special tokens written out included.  As in
   the library, what has neither a token nor unk_token leaves no trace.
   `path`: where the text is from, for messages.  O(n log n). */
int32_t *gm_tokenize(const gm_tokenizer *tokenizer, gm_arena *arena,
                     const char *path, const char *text, size_t bytes,
                     long *count);
/* The ids that a text becomes with add_special_tokens = True, -1 standing for
   its own: tokenizer.json's post_processor.  And, of tokenizer_config.json,
   bos_token, and what lm-evaluation-harness puts before a text that has nothing
   before it, bos_token or else eos_token.  -1: there is none; -2: its id is not
   known. */
typedef struct {
    int32_t *around;
    long count;
    int32_t bos, prefix;
} gm_specials;
gm_specials gm_specials_read(gm_arena *arena, const gm_tokenizer *tokenizer);
int32_t *gm_surround(gm_arena *arena, const gm_specials *s,
                     const int32_t *tokens, long *count);

/* ------------------------------------------------------------ checkpoint.c
   Llama, Qwen, Mistral, Phi-3 directories: configuration, tensors, loading. */

typedef enum { GM_LLAMA, GM_QWEN2, GM_QWEN3, GM_MISTRAL, GM_PHI3 } gm_arch;
typedef enum { GM_ROPE_DEFAULT, GM_ROPE_LINEAR, GM_ROPE_LLAMA3,
               GM_ROPE_YARN, GM_ROPE_DYNAMIC, GM_ROPE_LONG } gm_rope_kind;

typedef struct {
    gm_rope_kind kind;
    double theta, factor;
    double low_freq_factor, high_freq_factor;       /* llama3 */
    double beta_fast, beta_slow;                    /* yarn   */
    bool truncate;                                  /* yarn   */
    double attention_factor;        /* on cos and sin; not 1: yarn, longrope */
    long original_max_position;                     /* those and llama3 */
    const double *slower;           /* longrope: [half], divides omega_i */
} gm_rope;

typedef struct {
    gm_arch arch;
    long layers, d, ff, heads, kv_heads, head_dim, vocab, max_position;
    long still;                 /* the last elements of a head, not turned */
    long limit;                 /* tokens of the longest sequence, 0: any; */
    const char *limited_by;     /* what sets it, of config.json */
    double norm_eps;
    bool tied, qkv_bias, o_bias, mlp_bias, qk_norm;
    gm_rope rope;
} gm_config;

/* The seven linear modules of a block, in the order used everywhere. */
enum { GM_Q, GM_K, GM_V, GM_O, GM_GATE, GM_UP, GM_DOWN, GM_LINEARS };

/* DIR/config.json; what is not supported is refused by field and value. */
void gm_config_read(gm_arena *arena, const char *dir, gm_config *out);
/* omega_i, i < (head_dim - still) / 2, of the rotary angles t omega_i in a text
   of T tokens. */
float gm_rope_frequency(const gm_config *config, long T, long i);

void gm_linear_shape(const gm_config *config, int j, long *out, long *in);
long gm_tallest(const gm_config *config);   /* the most outputs of a linear */

/* A model is its configuration and its tensors, which stay in their files. */
typedef struct {
    const char *dir;
    gm_config config;
    gm_tensors tensors;
    const gm_tensor *embedding, *head;      /* one and the same if tied */
    bool *used;                 /* which tensors the model needs */
    const char *layout;         /* that made weights are in, or NULL */
    char hash[65];              /* of the tensors; filled by gm_model_hash */
} gm_model;

/* The path, or, of a cache of the Hugging Face hub, models--ORG--NAME, that of
   the snapshot which its refs/main names. */
const char *gm_model_dir(gm_arena *arena, const char *path);
/* Checks that every tensor is there and has its shape. */
void gm_model_open(gm_arena *arena, const char *dir, gm_model *out);
/* make: puts weights for the tensors that hold them (gm_made) into a model
   whose config.json says that it is quantized; false: it knows no such form. */
typedef bool gm_maker(gm_arena *arena, const gm_json *config, gm_model *model);
void gm_model_open_as(gm_arena *arena, const char *dir, gm_maker *make,
                      gm_model *out);
void gm_model_hash(gm_model *model);
void gm_model_close(gm_model *model);

/* "model.layers.3.mlp.up_proj" for block 3, linear GM_UP. */
const char *gm_linear_name(gm_arena *arena, long layer, int j);
const gm_tensor *gm_linear_tensor(const gm_model *model, long layer, int j);

/* One block's weights as gm_real.  Absent biases and norms are NULL. */
typedef struct {
    gm_real *w[GM_LINEARS];             /* [out, in]                    */
    gm_real *bias[GM_LINEARS];          /* [out] or NULL                */
    gm_real *norm1, *norm2;             /* [d] before attention, MLP    */
    gm_real *q_norm, *k_norm;           /* [head_dim] or NULL (Qwen3)   */
} gm_block;
void gm_block_alloc(gm_arena *arena, const gm_config *config, gm_block *out);
/* A block of gradients of the seven linears alone: no biases, no norms. */
void gm_grad_alloc(gm_arena *arena, const gm_config *config, gm_block *out);
void gm_block_load(const gm_model *model, long layer, gm_block *out);

/* h[r] = embedding row of token r, r < count. */
void gm_embed(const gm_model *model, const int32_t *tokens, long count,
              gm_real *h);

/* Refuses x [rows, columns], `what` ("output") of block `layer`, that is not
   finite: large weights can overflow together. */
void gm_states_check(const gm_model *model, long layer, const char *what,
                     const gm_real *x, long rows, long columns);
/* Whether ||x||^2, x [n], is an ordinary number of gm_real, which errors can be
   divided by: neither 0 nor subnormal nor infinite; of a block's outputs some
   row's must be, unless all are 0. */
bool gm_weighs(long n, const gm_real *x);
void gm_states_weigh(const gm_model *model, long layer, const gm_real *x,
                     long rows, long columns);

/* The final norm and output head, loaded once. */
typedef struct { gm_real *norm, *w; long d, vocab; double eps; } gm_head;
void gm_head_load(gm_arena *arena, const gm_model *model, gm_head *out);

/* ---------------------------------------------------------------- tables.c
   scores.tsv and alloc.tsv: what Stage I hands to Stage II, and its answer. */

/* Shortest decimal that reads back as exactly x. */
gm_shown gm_double_text(double x);

enum { GM_MAX_CANDIDATES = 16, GM_MAX_ROWS = 16, GM_MAX_GROUP = 512,
       GM_LABEL = 24, GM_RECIPE_TEXT = 512 };

/* Tables call a candidate by its bits, "3", or by another tool's label, "q4_0":
   at most 23 of a-z 0-9 _, a letter first, but not b and a number. */
bool gm_is_label(const char *text, size_t length);
/* "3 bits", or "q4_0"; label "": none. */
gm_shown gm_called(int bits, const char *label);

/* Stored bytes; their sum is s_mk.  bits >= 16: all in `codes`. */
typedef struct { int64_t codes, scales, zeros; } gm_parts;
gm_parts gm_packed_parts(long out, long in, int bits, long group);
int64_t gm_packed_bytes(long out, long in, int bits, long group);

/* What a budget counts: codes; scales and zeros too; the bytes of the file. */
typedef enum { GM_BITS, GM_EBITS, GM_BYTES } gm_convention;

/* Scores corrected around the optimum of one budget, which is in its convention
   the limit asked, in the others what the optimum there takes. */
typedef struct {
    const char *text;
    int64_t at[3];                      /* by convention */
    double *score;                      /* [M, K] */
    double gain, error;                 /* KL less by the means of anchors than
                                           as learned, its standard error;
                                           < 0: not known */
} gm_anchor;
/* Its mean is shown to lower KL, or was not judged. */
static inline bool gm_anchor_stands(const gm_anchor *x) {
    return x->error < 0 || x->gain > 2 * x->error;
}

/* One line a module; columns: module out in weights, then for each candidate
   called b "b.bytes b.score b.stderr" ("-": the module lacks it / unknown),
   and "b.score@TEXT" of each anchor; key label_bits: "q4_0=4 q8_0=8". */
typedef struct {
    const char *path;
    gm_keys keys;
    long M;
    int K;
    int bits[GM_MAX_CANDIDATES];        /* b_k, ascending; then by label     */
    char label[GM_MAX_CANDIDATES][GM_LABEL];    /* "3", "q4_0"               */
    const char **name;                  /* [M]                               */
    int64_t *out, *in, *weights;        /* [M]; n_m = weights                */
    int64_t *bytes;                     /* [M, K] s_mk; -1: not a candidate  */
    double *score, *error;              /* [M, K]; error -1: unknown         */
    int64_t overhead;                   /* file bytes beside sum s_mk        */
    int64_t N;                          /* sum of weights                    */
    int anchors;                        /* 0: score is for every budget      */
    gm_anchor *anchor;                  /* [anchors] ascending               */
} gm_scores;

/* Empty, to fill; called by bits, bytes, score, error, ... zeroed, keys:
   format.  Then in order, whatever that of its candidates was. */
void gm_scores_new(gm_arena *arena, long M, int K, const int *bits,
                   gm_scores *out);
void gm_scores_sort(gm_arena *arena, gm_scores *scores);
bool gm_labelled(const gm_scores *scores);      /* some candidate is */
void gm_scores_write(gm_arena *arena, const char *path, const gm_scores *s);
void gm_scores_read(gm_arena *arena, const char *path, gm_scores *out);

/* Column module (or name) of a table: names that differ, without the ".weight"
   of tensors. */
const char **gm_table_modules(gm_arena *arena, const gm_table *table);

/* Which bits each module gets.  Files of other tools need only the columns
   module (or name) and bits. */
typedef struct {
    const char *path;
    gm_keys keys;
    long M;
    const char **name;
    int *bits;
    int64_t *bytes;                     /* -1: the file does not say         */
    const char **label;                 /* NULL, or "-", "q4_0"              */
    const char **allowed, **fused;      /* NULL, or "2,3,4"; "-" or a group  */
    const long *line;                   /* of each row in the file, or NULL  */
    const char *other;                  /* a column that is none of these    */
} gm_allocation;
/* The keys of an alloc.tsv with a certificate, in their order: who writes such
   a file and who checks one go by this list. */
typedef enum {
    GM_KEY_FILE, GM_KEY_SCORES,         /* what file; copied from the scores */
    GM_KEY_PROOF, GM_KEY_GLPK,          /* certificate; only if GLPK ran     */
    GM_KEY_ROW                          /* "limit.": limit.NAME of resources */
} gm_key_kind;
typedef struct {
    const char *name;
    gm_key_kind kind;
    const char *words;                  /* "one|another", or NULL: any text  */
} gm_known_key;
extern const gm_known_key gm_alloc_keys[];      /* ends with a NULL name */

void gm_allocation_write(gm_arena *arena, const char *path,
                         const gm_allocation *allocation);
void gm_allocation_read(gm_arena *arena, const char *path, gm_allocation *out);
/* The overhead becomes the one given, of another tool's file: a whole number
   (NULL: none is), also the key overhead_given. */
void gm_overhead_give(gm_arena *arena, const char *from, const char *text,
                      gm_scores *scores);
/* Names in order, each with its place before; path: the file where none may
   appear twice, or NULL.  The place of one, or -1. */
typedef struct { const char *name; long at; } gm_named;
gm_named *gm_names_sort(gm_arena *arena, const char *path,
                        const char *const *name, long count);
long gm_names_find(const gm_named *sorted, long count, const char *name);
/* choice[m]: candidate of scores' module m, matched by name. */
void gm_allocation_match(const gm_allocation *allocation,
                         const gm_scores *scores, int *choice);

/* Sizes and score of an assignment, sums over all modules. */
typedef struct {
    int64_t code_bits, effective_bits, file_bytes;
    double score;
} gm_sizes;
gm_sizes gm_sizes_of(const gm_scores *scores, const int *choice);

/* A budget: GM_BITS "2.5": sum n_m b_k <= floor(2.5 N);  GM_EBITS "2.75":
   8 sum s_mk <= floor(2.75 N);  GM_BYTES "50M": overhead + sum s_mk <= 5e7
   (K M G decimal, KiB MiB GiB binary).  limit: floor as above. */
typedef struct {
    gm_convention convention;
    int64_t limit;
    const char *text;
} gm_budget;
const char *gm_convention_name(gm_convention convention); /* "bits" ... */
int gm_convention_of(const char *name);     /* -1: none of these, or NULL */
/* "50M": 50 * 10^6, at least 1; false: no such number. */
bool gm_is_bytes(const char *text, int64_t *out);
/* A budget's limit, at least 1, of N weights. */
bool gm_is_budget(const char *text, gm_convention convention, int64_t N,
                  int64_t *limit);
gm_budget gm_budget_parse(const gm_scores *scores, gm_convention convention,
                          const char *text);

/* The scores for a budget: between two anchors (1 - t) v_i + t v_(i+1), t the
   budget's place between theirs, v_i = (u_(i-1) + 2 u_i + u_(i+1)) / 4 of their
   scores u, an end's own for what it lacks; beyond all v of the nearest; where
   the gain of the nearest anchor (half way: of both) is not two of its errors,
   the scores as learned; key scores_at says so.  Without anchors the table
   itself. */
const gm_scores *gm_scores_at(gm_arena *arena, const gm_scores *scores,
                              const gm_budget *budget);

/* How good a model is on a text: in each window, tokens are predicted from
   those before them.  nll: mean over windows, natural log; perplexity =
   exp(nll).  KL(teacher || student) in nats; top1: share of positions where
   both have the same largest logit.  Standard errors are over window means. */
typedef struct {
    long windows, window, predicted;
    double nll, nll_error, perplexity;
    double kl, kl_error, top1, top1_error;      /* when a teacher was given */
    double *window_nll, *window_kl, *window_top1;   /* [windows] means */
    const double *weight;       /* of a window in the means; NULL: the same   */
} gm_measure;
/* Means and their errors from window_nll, window_kl, window_top1. */
void gm_measure_means(gm_measure *m);
/* Mean of the n differences d = v (x - y) (y NULL: of x), v = n weight / sum of
   weights (NULL: 1), and that mean's standard error, with e = v (x - y - mean):
   sqrt(sum e^2 / (n - 1) / n); 0 for n = 1. */
double gm_mean_error(long n, const double *x, const double *y,
                     const double *weight, double *error);

/* ------------------------------------------------------------------- mip.c
   Programs with 0-1 columns, minimised by GLPK, one at a time in a thread.
   Built with make GLPK=0: the first two alone. */
bool gm_have_glpk(void);
const char *gm_glpk_version(void);          /* "none" without it */

typedef struct gm_mip gm_mip;
/* log: where GLPK's output goes, or NULL.  What GLPK gives up on is GM_EMEM. */
gm_mip *gm_mip_begin(gm_arena *arena, const gm_report *log);
void gm_mip_end(gm_mip *mip);
/* A column of 0 or 1, or of 0 or more; its number, from 1 on. */
int gm_mip_column(gm_mip *mip, double cost, bool binary, const char *name);
/* sum_i value[i] x[column[i]], i = 1 .. n, is at most (or equal to) limit. */
void gm_mip_row(gm_mip *mip, int n, const int *column, const double *value,
                bool equal, double limit);
/* dual[r] of row r, from 1 on, where columns need not be whole. */
void gm_mip_duals(gm_mip *mip, double *dual);
/* Proven and not found: there is nothing.  bound: of every solution, in
   floating point; -INFINITY: none. */
typedef struct { bool proven, found; double bound; long nodes; } gm_mip_answer;
gm_mip_answer gm_mip_solve(gm_mip *mip, double seconds);
bool gm_mip_takes(gm_mip *mip, int column);
void gm_mip_write(gm_arena *arena, gm_mip *mip, const char *path);  /* LP */

/* ----------------------------------------------------------------- ranks.c
   Several processes, ranks, share the blocks: make MPI=1, mpirun.  Without,
   there is one rank and all of these do nothing. */

/* How ranks exchange bytes, MPI's or a test's: called by two, data of rank
   `from` becomes that of rank `to`. */
typedef struct {
    int rank, size;
    void *context;
    void (*move)(void *context, int from, int to, void *data, size_t bytes);
} gm_transport;
void gm_ranks_use(const gm_transport *transport);       /* NULL: one rank   */
void gm_ranks_start(int *argc, char ***argv);           /* MPI's, to the end */

int gm_rank(void);              /* 0 .. gm_ranks()-1; 0 prints and writes    */
int gm_ranks(void);
int64_t gm_ranks_bytes(void);   /* received by all ranks so far, together    */
/* Rank r owns first(r) .. first(r+1)-1 of the blocks. */
long gm_rank_first(long blocks, int rank);

/* main's last exchange: `own`, *err are how this rank ended, then how the whole
   did, with the message of the first rank that failed. */
gm_status gm_ranks_end(gm_status own, gm_error *err);
/* All ranks call these, in the same order.  A rank that fails calls only
   gm_ranks_end; what the others call then fails with its status and message. */
void gm_ranks_check(void);
/* data: rank 0's, on all ranks. */
void gm_ranks_tell(void *data, size_t bytes);
/* GM_EINPUT unless all ranks have this text (below 128 bytes). */
void gm_ranks_same(const char *what, const char *text);
/* x [blocks, each]: every rank's own blocks, on all ranks. */
void gm_ranks_gather(double *x, long blocks, long each);
/* After an agreement, by all ranks. */
void gm_ranks_move(int from, int to, void *data, size_t bytes);

#endif
