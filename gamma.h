/* gamma.h: every type and every public function, in reading order.

   GAMMA: global bit allocation for mixed-precision models under arbitrary
   budgets (arXiv 2605.18475), in plain C.  Learn once how much each linear
   module of a Llama or Qwen checkpoint minds having fewer bits (Stage I,
   gamma.c); then, for any memory budget, solve an integer program exactly
   (Stage II, solver.c); write the quantized model (quant.c); measure (eval.c).

   Letters used everywhere (code, comments, docs, tests):
     L blocks        M = 7 L linear modules     T tokens in one sequence
     S sequences     d hidden size              n_m weights in module m
     N = sum_m n_m   K candidates per module    b_k code bits of candidate k
     W_m weight of module m, [out, in]          Q_mk its candidate k, [out, in]
     s_mk stored bytes of module m with candidate k

   Calls go downwards only:
     main > gamma, eval > solver, quant, model > kernels > base, io > base
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GAMMA_H
#define GAMMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Sizes and counts of a model are long: 64-bit systems but Windows'. */
_Static_assert(sizeof(long) == 8, "long has 64 bits");

#define GM_VERSION "0.1"

/* The scalar type of weights and activations.  -DGM_DOUBLE builds the same
   sources in double: only for comparing gradients with finite differences. */
#ifdef GM_DOUBLE
typedef double gm_real;
#else
typedef float gm_real;
#endif

/* ------------------------------------------------------------------ base.c
   Errors, arenas, random numbers, hashes, exact decimals. */

/* What a function that can fail returns; also the exit code of the program. */
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

/* Caller-owned text of the last failure: file, place, expected, found. */
typedef struct { char text[1024]; } gm_error;

/* Formats the message into *err (which may be NULL) and returns `status`.
   Control characters in the result are replaced by '?'. */
gm_status gm_fail(gm_error *err, gm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The first control character, or NULL. */
char *gm_control(const char *text);

/* Replaces control characters, but those in `keep`, by '?': names from files
   are shown, and no escape sequence may reach a terminal. */
void gm_clean(char *text, const char *keep);

/* The one message for memory that could not be had. */
gm_status gm_nomem(gm_error *err);

/* Memory: chunks that only grow and are given back together.  Zero-initialise
   the struct before use.  `peak` is the largest `used` ever seen. */
typedef struct gm_arena {
    struct gm_chunk *chunk;
    size_t used, peak;
    bool dry;           /* only counts: addresses given must not be used */
} gm_arena;

/* count * size zeroed bytes, 64-byte aligned; NULL when the product overflows
   or memory is exhausted.  count = 0 gives a valid unique pointer. */
void *gm_alloc(gm_arena *arena, size_t count, size_t size);

/* A position to which the arena can be rewound: frees all allocated since. */
typedef struct { struct gm_chunk *chunk; size_t fill, used; } gm_mark;
gm_mark gm_arena_mark(const gm_arena *arena);
void gm_arena_rewind(gm_arena *arena, gm_mark mark);
void gm_arena_free(gm_arena *arena);

/* Printf into the arena; NULL when out of memory. */
char *gm_format(gm_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline long gm_min(long a, long b) { return a < b ? a : b; }

/* How often `c` is in a text. */
long gm_count_char(const char *text, char c);

/* A path's last part, and the directory it is in ("." when it names none;
   NULL: no memory). */
const char *gm_base_name(const char *path);
const char *gm_parent(gm_arena *arena, const char *path);

/* Counter-based random numbers: a pure function of its three arguments, so
   that order and thread count cannot matter.  SplitMix64 finaliser applied to
   seed, stream and counter in turn (Steele, Lea, Flood 2014). */
uint64_t gm_random(uint64_t seed, uint64_t stream, uint64_t counter);
double gm_uniform(uint64_t seed, uint64_t stream, uint64_t counter);
/* ^ in [0, 1), the upper 53 bits of gm_random */

/* SHA-256 (FIPS 180-4); `hex` receives 64 digits and a NUL. */
typedef struct { uint32_t h[8]; uint64_t length; uint8_t block[64]; } gm_sha;
void gm_sha_begin(gm_sha *sha);
void gm_sha_add(gm_sha *sha, const void *data, size_t bytes);
void gm_sha_end(gm_sha *sha, char hex[65]);
/* All in one. */
void gm_sha_of(const void *data, size_t bytes, char hex[65]);
/* Of tokens [S, T]. */
void gm_sha_tokens(const int32_t *tokens, long S, long T, char hex[65]);

/* Numbers written by people.  The whole of `text` must be a number. `what`
   names it in the message ("--steps", "config.json: hidden_size"). */
gm_status gm_parse_long(const char *what, const char *text, long least,
                        long most, long *out, gm_error *err);
gm_status gm_parse_double(const char *what, const char *text, double least,
                          double most, double *out, gm_error *err);

/* Which of `count` names `text` is. */
gm_status gm_parse_name(const char *what, const char *text,
                        const char *const *name, int count, int *out,
                        gm_error *err);

/* floor(decimal * unit) in exact integer arithmetic: "2.5" * 106168320.
   Accepts digits with at most one point, at most 12 of them after it. */
gm_status gm_parse_scaled(const char *what, const char *text, int64_t unit,
                          int64_t *out, gm_error *err);

/* Talk and progress leave the library only through this; any member and the
   whole pointer may be NULL. `total` = 0: a plain message. */
typedef struct {
    void *context;
    void (*progress)(void *context, const char *what, long done, long total);
} gm_report;
void gm_say(const gm_report *report, const char *what, long done, long total);

/* Monotonic seconds since some fixed point.  Never enters a result file. */
double gm_seconds(void);

/* --------------------------------------------------------------- profile.c
   Where the time of a command goes: gamma COMMAND --profile. */
typedef enum {
    GM_AT_GEMM, GM_AT_ATTENTION, GM_AT_ATTENTION_BACKWARD, GM_AT_ROWS,
    GM_AT_LOSS, GM_AT_LOAD, GM_AT_MIX, GM_AT_INNER, GM_AT_RTN, GM_AT_GRAM,
    GM_AT_CHOLESKY, GM_AT_INVERSE, GM_AT_GPTQ, GM_AT_LOGITS, GM_AT_SOLVE,
    GM_AT_TOKENIZE, GM_AT_HASH, GM_AT_WRITE, GM_KERNELS
} gm_kernel;
/* wide: its operations are in double.  bytes: moved between the kernel and
   memory if its operands are read and its results written once. */
typedef struct {
    const char *name;
    bool wide;
    double seconds, flops, bytes;
    long calls;
} gm_kernel_time;
/* Counts kernels that this thread enters, from zero; no other thread's, and
   none inside another.  clock: seconds, as gm_seconds. */
void gm_profile_start(double (*clock)(void));
void gm_profile_stop(void);
const gm_kernel_time *gm_profile(void);         /* [GM_KERNELS] */
/* double t = gm_profile_enter(); the work; gm_profile_leave(t, ...). */
double gm_profile_enter(void);
void gm_profile_leave(double since, gm_kernel kernel, double flops,
                      double bytes);

/* --------------------------------------------------------------- kernels.c
   The only file with intrinsics or OpenMP.  Every function gives the same
   bits for any instruction set, thread count and compiler. */

/* Which instruction set the vector kernels use.  All are specified by the
   scalar one and tested against it for equality. */
typedef enum { GM_SCALAR, GM_AVX2, GM_AVX512, GM_ISA_COUNT } gm_isa;
gm_isa gm_isa_best(void);          /* the widest this machine runs          */
bool gm_isa_use(gm_isa isa);       /* false, unchanged: not available here  */
gm_isa gm_isa_now(void);
const char *gm_isa_name(gm_isa isa);

/* Of one thread, measured for some 50 ms: float multiply-adds in registers, as
   operations a second; bytes a second read and written by a copy too large for
   caches.  No memory: 0. */
double gm_peak_flops(void);
double gm_peak_bytes(void);

void gm_threads_use(int count);    /* >= 1; ignored without OpenMP          */
int gm_threads(void);

/* Calls body(context, i) once for each i in 0..n-1, spread over the threads.
   Bodies must be independent.  Inside a body, gm_parallel and gm_gemm run on
   the calling thread alone, except that n = 1 is a plain call. */
void gm_parallel(long n, void (*body)(void *context, long i), void *context);

/* The thread that a body of gm_parallel runs on: 0 .. gm_threads()-1. */
int gm_thread(void);

/* C[m,n] = A B (add = false) or C += A B (add = true).
     A(i,k) = a[i*ars + k*acs]   B(k,j) = b[k*brs + j*bcs]   C(i,j) = c[i*ldc+j]
   Any transpose is a choice of strides.  No overlap of C with A or B.
   Each C element: k is cut into parts(k) = ceil(k/384) equal parts (rounded up
   to a multiple of 8); a part is one chain of fma from 0 in k order; parts are
   added in order to 0 (or C): see gm_gemm_reference in tests. */
void gm_gemm(long m, long n, long k, const gm_real *a, long ars, long acs,
             const gm_real *b, long brs, long bcs, gm_real *c, long ldc,
             bool add);

/* sum_i x_i y_i in double.  Lane l = i mod 8 sums its products by fma in i
   order; lanes are added as ((0+1)+(2+3))+((4+5)+(6+7)). */
double gm_dot(long n, const gm_real *x, const gm_real *y);

/* sum_i x_i in double, the same lanes. */
double gm_sum(long n, const gm_real *x);

/* max_i x_i, n >= 1; no NaN. */
gm_real gm_largest(long n, const gm_real *x);

/* y_i = exp(x_i), x and y may be the same array.  Float: own polynomial,
   error below 0.94 units in the last place; < -87.3 gives 0 (no denormal is
   ever produced), > 88.7 +inf, NaN gives NaN. */
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
     code = the code of w_0,   e = (w_0 - (code - zero) scale) / u_0,
     w_t -= e u_t,   0 < t < columns;   products rounded, no fma. */
enum { GM_LANES = 16 };
typedef struct {
    long columns;
    float top;                          /* 2^bits - 1                   */
    const float *scale, *zero;          /* [16]                         */
    const gm_real *u;                   /* [columns] row of the factor  */
    float (*w)[GM_LANES];               /* [columns][16]                */
    float *e, *code;                    /* [16] results                 */
} gm_column;
void gm_round_column(const gm_column *column);

/* Double-precision elementary functions that do not depend on libm, for the
   few places where a scalar is needed (theta, RoPE tables). Bounds at the
   definitions. */
double gm_expd(double x);
double gm_logd(double x);                       /* x > 0 */
void gm_sincosd(double x, double *sine, double *cosine);   /* |x| < 1e7 */
/* Standard normal (Box, Muller 1958, one of the two): of the uniform numbers
   `counter` and `counter` + 1. */
double gm_normal(uint64_t seed, uint64_t stream, uint64_t counter);

/* Squares of matrices, in double, rows of n; parts above the diagonal are
   neither read nor (but by gm_cholesky and gm_lower_inverse, which put 0
   there) of use.  Each element is one chain of rounded products, added in the
   order given, the same for any instruction set and thread count.

   H_ij += sum_t (w_t^2 x_ti) x_tj, t in order; x [rows, n], weight [rows]. */
void gm_gram(long rows, long n, const gm_real *x, const double *weight,
             double *H);
/* A = L L^T, lower triangle in place: l_ij = (a_ij - sum_{k<j} l_ik l_jk) /
   l_jj.  false: a pivot is not positive and finite; A is spoilt. */
bool gm_cholesky(long n, double *A);
/* L X = 1: x_ij = (delta_ij - sum_{j<=k<i} l_ik x_kj) / l_ii. */
void gm_lower_inverse(long n, const double *L, double *X);

/* ------------------------------------------------------------------- io.c
   The only file (with tokenizer.c) that sees untrusted bytes: JSON,
   safetensors, npy, TSV, whole files in, atomic files out. */

/* A file mapped read-only.  `path` is kept for messages. */
typedef struct { const uint8_t *data; size_t size; const char *path; } gm_map;
gm_status gm_map_open(gm_arena *arena, const char *path, gm_map *map,
                      gm_error *err);
void gm_map_close(gm_map *map);     /* twice is harmless */
/* Pages of a mapped file that need not stay in memory for now: a model is read
   block by block, and so is its part of the memory.  No file's: no effect. */
void gm_release(const void *data, size_t bytes);
/* gm_sha_add of a mapped file, released piece by piece. */
void gm_sha_mapped(gm_sha *sha, const uint8_t *data, size_t bytes);

/* GM_EIO when a file that is mapped, or was until it was closed, has changed
   in place since it was opened. */
gm_status gm_maps_check(gm_error *err);

/* For handlers of signals, both async-signal-safe: the path of the mapped file
   that holds this address, or NULL; removing all partial files (see gm_out). */
const char *gm_map_at(const void *at);
void gm_out_remove_all(void);

/* One process at a time in a directory that exists.  *lock is for
   gm_dir_unlock; the end of the process, however it comes, unlocks too.  A
   directory that this process holds is not locked again.  GM_EIO: another
   process holds it. */
gm_status gm_dir_lock(const char *dir, int *lock, gm_error *err);
void gm_dir_unlock(int lock);

/* Both exist and are one file or directory, whatever the names. */
bool gm_same_file(const char *a, const char *b);

/* Is there such a file?  Also when that cannot be told: opening it then says
   why, where a no would make it anew over what is there. */
bool gm_exists(const char *path);

typedef enum {
    GM_JSON_NULL, GM_JSON_BOOL, GM_JSON_NUMBER, GM_JSON_STRING,
    GM_JSON_ARRAY, GM_JSON_OBJECT
} gm_json_type;

/* A name that a file gives to a tensor or module: GM_EINPUT when there is a
   control character or a part of a path in it; what: "tensor", ... */
gm_status gm_name_check(const char *path, const char *what, const char *name,
                        gm_error *err);

/* One JSON value.  Members of an object and elements of an array are the list
   child, child->next, ...; `key` is set on members.  Strings are UTF-8 with a
   terminating NUL and may contain NULs (hence `length`). */
typedef struct gm_json {
    gm_json_type type;
    const char *key;
    const char *string;
    size_t length;              /* bytes of string, or number of children */
    double number;              /* also 0/1 of a bool                     */
    int64_t integer;            /* valid when is_integer                  */
    bool is_integer;            /* number without fraction or exponent    */
    size_t at;                  /* byte offset in the text, for messages  */
    const struct gm_json *child, *next;
} gm_json;

/* RFC 8259, nesting at most 64, no key twice in an object, no NUL in a key.
   Errors name file, line and column.  Time O(n log n), memory O(n). */
gm_status gm_json_parse(gm_arena *arena, const char *path, const char *text,
                        size_t bytes, const gm_json **out, gm_error *err);
gm_status gm_json_read(gm_arena *arena, const char *path, const gm_json **out,
                       gm_error *err);      /* the same, of a whole file */
/* The member, or NULL; also NULL when `object` is NULL or no object. */
const gm_json *gm_json_get(const gm_json *object, const char *key);

/* Bytes (1..4) of the code point at `at`, stored in *point; 0 when the bytes
   before `end` are not well-formed UTF-8. */
int gm_utf8(const char *at, const char *end, uint32_t *point);
int gm_utf8_put(uint32_t point, char *to);      /* writes 1..4 bytes */

/* A JSON string literal (quotes included) for `text`; NULL: no memory. */
char *gm_json_quote(gm_arena *arena, const char *text);

typedef enum {
    GM_F32, GM_F16, GM_BF16, GM_F64, GM_U8, GM_I8, GM_I32, GM_I64, GM_OTHER
} gm_dtype;
size_t gm_dtype_bytes(gm_dtype dtype);          /* 0 for GM_OTHER */
const char *gm_dtype_name(gm_dtype dtype);      /* "F32", "BF16", ... */

float gm_f16_to_f32(uint16_t h);
uint16_t gm_f32_to_f16(float x);    /* nearest, ties to even, overflow: inf */
float gm_bf16_to_f32(uint16_t h);
uint16_t gm_f32_to_bf16(float x);   /* nearest, ties to even */

/* One tensor of a safetensors file: where its bytes are. */
typedef struct {
    const char *name;
    gm_dtype dtype;
    int rank;
    int64_t shape[8];
    const uint8_t *data;        /* little endian, row-major, mapped */
    size_t bytes;
    const char *path;           /* the file it lies in */
} gm_tensor;

/* All tensors of one file or of a checkpoint's shards, sorted by name. */
typedef struct {
    gm_tensor *tensor;
    long count;
    gm_map *map;
    long maps;
    const gm_json *metadata;    /* of the first file, may be NULL */
} gm_tensors;

/* One .safetensors file. */
gm_status gm_safetensors_open(gm_arena *arena, const char *path,
                              gm_tensors *out, gm_error *err);
/* DIR/model.safetensors, or the shards of DIR/model.safetensors.index.json. */
gm_status gm_checkpoint_open(gm_arena *arena, const char *dir,
                             gm_tensors *out, gm_error *err);
void gm_tensors_close(gm_tensors *tensors);
const gm_tensor *gm_tensor_find(const gm_tensors *tensors, const char *name);

/* Elements of a float tensor as gm_real; refuses NaN and infinity, naming the
   tensor and the index. */
gm_status gm_tensor_read(const gm_tensor *tensor, int64_t first,
                         int64_t count, gm_real *out, gm_error *err);

/* The same of all elements, which are not kept. */
gm_status gm_tensor_check(const gm_tensor *tensor, gm_error *err);

/* Stores x in dtype F32, F16 or BF16 (nearest even) at `out`. */
void gm_store(gm_dtype dtype, const gm_real *x, long count, uint8_t *out);

/* SHA-256 over the tensors (name, dtype, shape, bytes) in name order. */
gm_status gm_tensors_hash(const gm_tensors *tensors, char hex[65],
                          gm_error *err);

/* A file that appears whole or not at all: written as PATH.partial, flushed,
   renamed.  After a failed write every further call returns the failure.
   While one process writes it, another's gm_out_open of it fails. */
typedef struct gm_out {
    FILE *file;
    const char *path, *partial;
    int64_t bytes;
    bool failed;
    int why;                    /* errno of the failure */
} gm_out;
gm_status gm_out_open(gm_arena *arena, const char *path, gm_out *out,
                      gm_error *err);
gm_status gm_out_write(gm_out *out, const void *data, size_t bytes,
                       gm_error *err);
/* The same at byte `at` of the file. */
gm_status gm_out_write_at(gm_out *out, int64_t at, const void *data,
                          size_t bytes, gm_error *err);
gm_status gm_out_print(gm_out *out, gm_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
gm_status gm_out_commit(gm_out *out, gm_error *err);    /* fsync, rename */
void gm_out_abandon(gm_out *out);   /* removes the partial file; idempotent */
gm_status gm_make_dir(const char *path, gm_error *err); /* and its parents */
gm_status gm_copy_file(gm_arena *arena, const char *from, const char *to,
                       gm_error *err);

/* Writes a safetensors file of known layout tensor by tensor, in the order of
   `tensors` (only name, dtype, rank, shape are read; names must differ).  The
   header, its 8-byte length included, is padded with spaces to at least
   `header_bytes` and to a multiple of 8.  metadata: pairs key, value,
   NULL-terminated, or NULL. */
gm_status gm_safetensors_begin(gm_arena *arena, const char *path,
                               const gm_tensor *tensors, long count,
                               const char *const *metadata,
                               size_t header_bytes, gm_out *out,
                               gm_error *err);
/* then gm_out_write for each tensor's bytes, then gm_out_commit.
   Bytes of that header (8-byte length field included) if unpadded: */
size_t gm_safetensors_header(const gm_tensor *tensors, long count,
                             const char *const *metadata);

/* A text file of tab-separated lines.  `# key value` lines first (value: the
   rest of the line), then one line of column names, then rows.  CR LF is
   accepted, empty lines are skipped.  cell[r * columns + c]. */
typedef struct {
    const char *path;
    long keys, rows, columns;
    const char **key, **value, **column, **cell;
    long *line;                 /* line number of each row, for messages */
} gm_table;
gm_status gm_table_read(gm_arena *arena, const char *path, gm_table *out,
                        gm_error *err);
const char *gm_table_key(const gm_table *table, const char *key);  /* or NULL */
long gm_table_column(const gm_table *table, const char *name);     /* or -1  */

/* Token ids of a 1-D .npy file of type <i4, <i8, <u2 or <u4, each checked to
   be 0 .. 2^31-1. */
gm_status gm_npy_read(gm_arena *arena, const char *path, int32_t **tokens,
                      long *count, gm_error *err);

/* --------------------------------------------------- tokenizer.c, unicode.c
   Byte-level BPE from tokenizer.json, equal to the `tokenizers` library with
   add_special_tokens = False: GPT-2 and SmolLM2 (Digits, ByteLevel), Llama 3
   and Qwen2/3 (Split by their known patterns, ByteLevel; NFC).  Anything else
   is refused, naming field and value.  As transformers does, the file's
   truncation and padding are ignored. */
typedef struct gm_tokenizer gm_tokenizer;
gm_status gm_tokenizer_open(gm_arena *arena, const char *dir,
                            gm_tokenizer **out, gm_error *err);
/* Text must be valid UTF-8 of less than 512 MiB; the message names the byte
   offset where not.  Special tokens written out in the text become their
   single ids.  As in the library, a byte without a token and without an
   unk_token leaves no trace.  Time O(n log n). */
gm_status gm_tokenize(const gm_tokenizer *tokenizer, gm_arena *arena,
                      const char *text, size_t bytes, int32_t **tokens,
                      long *count, gm_error *err);
long gm_tokenizer_size(const gm_tokenizer *tokenizer);  /* largest id + 1 */

/* unicode.c, generated: character classes as run lengths (out, in, out, ...),
   combining classes, canonical compositions whole = first second. */
enum { GM_LETTER = 1, GM_NUMBER = 2, GM_SPACE = 4, GM_DIGIT = 8,
       GM_WORD = 16, GM_NFC_MAYBE = 32, GM_CLASSES = 6 };
typedef struct { uint8_t flag; const uint32_t *run; size_t count; }
gm_class_runs;
extern const gm_class_runs gm_classes[GM_CLASSES];
typedef struct { uint32_t first, last; uint8_t order; } gm_mark_range;
extern const gm_mark_range gm_mark_ranges[];
extern const int gm_mark_range_count;
typedef struct { uint32_t whole, first, second; uint8_t joins; }
gm_composition;
extern const gm_composition gm_compositions[];
extern const int gm_composition_count;

/* ------------------------------------------------------------ checkpoint.c
   Llama, Qwen2, Qwen3 directories: configuration, tensors, loading. */

typedef enum { GM_LLAMA, GM_QWEN2, GM_QWEN3 } gm_arch;
typedef enum { GM_ROPE_DEFAULT, GM_ROPE_LINEAR, GM_ROPE_LLAMA3,
               GM_ROPE_YARN } gm_rope_kind;

typedef struct {
    gm_rope_kind kind;
    double theta, factor;
    double low_freq_factor, high_freq_factor;       /* llama3 */
    double beta_fast, beta_slow;                    /* yarn   */
    bool truncate;                                  /* yarn   */
    double attention_factor;        /* on cos and sin; 1 except for yarn */
    long original_max_position;                     /* llama3, yarn */
} gm_rope;

typedef struct {
    gm_arch arch;
    long layers, d, ff, heads, kv_heads, head_dim, vocab, max_position;
    double norm_eps;
    bool tied, qkv_bias, o_bias, mlp_bias, qk_norm;
    gm_rope rope;
} gm_config;

/* The seven linear modules of a block, in the order used everywhere. */
enum { GM_Q, GM_K, GM_V, GM_O, GM_GATE, GM_UP, GM_DOWN, GM_LINEARS };

/* Reads DIR/config.json; refuses by field name and value what it does not
   support (sliding window in use, experts, other model types, ...). */
gm_status gm_config_read(gm_arena *arena, const char *dir, gm_config *out,
                         gm_error *err);

/* Shape [out, in] of linear module j of any block. */
void gm_linear_shape(const gm_config *config, int j, long *out, long *in);
/* The most outputs of a linear. */
long gm_tallest(const gm_config *config);

/* A model is its configuration and its mapped tensors; nothing is copied. */
typedef struct {
    const char *dir;
    gm_config config;
    gm_tensors tensors;
    char hash[65];              /* of the tensors; filled by gm_model_hash */
} gm_model;

/* Opens and checks every tensor's presence and shape:
   "model.layers.3.mlp.up_proj.weight: expected [1536, 576], found ..." */
gm_status gm_model_open(gm_arena *arena, const char *dir, gm_model *out,
                        gm_error *err);
gm_status gm_model_hash(gm_model *model, gm_error *err);
void gm_model_close(gm_model *model);

/* "model.layers.3.mlp.up_proj" for block 3, linear GM_UP. */
gm_status gm_linear_name(gm_arena *arena, long layer, int j,
                         const char **name, gm_error *err);
/* The weight tensor of module (layer, j). */
const gm_tensor *gm_linear_tensor(const gm_model *model, long layer, int j);

/* One block's weights as gm_real.  Absent biases and norms are NULL. */
typedef struct {
    gm_real *w[GM_LINEARS];             /* [out, in]                    */
    gm_real *bias[GM_LINEARS];          /* [out] or NULL                */
    gm_real *norm1, *norm2;             /* [d] before attention, MLP    */
    gm_real *q_norm, *k_norm;           /* [head_dim] or NULL (Qwen3)   */
} gm_block;
gm_status gm_block_alloc(gm_arena *arena, const gm_config *config,
                         gm_block *out, gm_error *err);
/* A block of gradients of the seven linears alone: no biases, no norms. */
gm_status gm_grad_alloc(gm_arena *arena, const gm_config *config,
                        gm_block *out, gm_error *err);
gm_status gm_block_load(const gm_model *model, long layer, gm_block *out,
                        gm_error *err);

/* h[r] = embedding row of token r, r < count. Tokens outside the vocabulary
   are an error naming the index. */
gm_status gm_embed(const gm_model *model, const int32_t *tokens, long count,
                   gm_real *h, gm_error *err);

/* GM_EINPUT when x [rows, columns], `what` ("output") of block `layer`, is not
   finite: large weights, each finite, can overflow together. */
gm_status gm_states_check(const gm_model *model, long layer, const char *what,
                          const gm_real *x, long rows, long columns,
                          gm_error *err);

/* The final norm and output head, loaded once. */
typedef struct { gm_real *norm, *w; long d, vocab; double eps; } gm_head;
gm_status gm_head_load(gm_arena *arena, const gm_model *model, gm_head *out,
                       gm_error *err);
/* ----------------------------------------------------------------- model.c
   Rotary angles, block forward and backward, output head. */

/* cos and sin of the rotary angles, [T, head_dim/2] each, for positions
   position[0..T-1] (NULL: 0..T-1).  Computed as transformers does: inverse
   frequencies rounded to float32, angle = float32 product. The YaRN attention
   factor is folded in. */
typedef struct { long T; gm_real *cos, *sin; } gm_rope_table;
gm_status gm_rope_build(gm_arena *arena, const gm_config *config, long T,
                        const int32_t *position, gm_rope_table *out,
                        gm_error *err);

/* Everything the backward pass needs from a forward pass over S sequences of
   T tokens; R = S T rows.  Allocated once, reused for every block.  S and T
   may be set lower afterwards (T: with a rope table of that T). */
typedef struct {
    long S, T;
    long room, threads;             /* T and gm_threads() when allocated      */
    gm_real *x1, *q, *k, *v;        /* [R,d] normed input; q [R,heads*hd] ... */
    gm_real *q_raw, *k_raw;         /* before q_norm/k_norm; Qwen3 only       */
    gm_real *attn;                  /* [R, heads*hd] attention output         */
    gm_real *lse;                   /* [R, heads] log-sum-exp of the scores   */
    gm_real *mid;                   /* [R, d] after attention + residual      */
    gm_real *x2;                    /* [R, d] normed mid                      */
    gm_real *gate, *up, *act;       /* [R, ff]; act = silu(gate) * up         */
    gm_real *scratch;               /* [threads, 2, 64, room] scores          */
    gm_real *d_attn, *d_mid;        /* backward workspace, NULL unless asked  */
    gm_real *d_q, *d_k, *d_v, *d_gate, *d_up, *d_act, *d_x1, *d_x2;
} gm_acts;
gm_status gm_acts_alloc(gm_arena *arena, const gm_config *config, long S,
                        long T, bool backward, gm_acts *out, gm_error *err);

/* y = f(h; W): h, y [S T, d]; y may be h.  Fills `acts`. */
void gm_block_forward(const gm_config *config, const gm_block *block,
                      const gm_rope_table *rope, const gm_real *h,
                      gm_acts *acts, gm_real *y);

/* Fills `acts` only as far as the inputs of modules need: last_input 0: x1 (of
   q, k, v), 1: attn (of o), 2: x2 (of gate, up), 3: act (of down). */
void gm_block_inputs(const gm_config *config, const gm_block *block,
                     const gm_rope_table *rope, const gm_real *h,
                     gm_acts *acts, int last_input);

/* After a forward pass, at least as far as attn: mass[R], the attention that
   each position receives from itself and all later ones, mean over the heads;
   its mean over positions is 1. */
void gm_attention_mass(const gm_config *config, const gm_acts *acts,
                       double *mass);

/* Given dE/dy, ADDS dE/dW_j into grad->w[j] for the seven linears (and into
   biases and norms), each where grad has it non-NULL, and, if d_h is not NULL,
   ADDS dE/dh into it.  `acts` must hold the forward pass of this block; h, the
   block's input, must still be unchanged when d_h or grad->norm1 is asked for.
   d_y and d_h are different arrays. */
void gm_block_backward(const gm_config *config, const gm_block *block,
                       const gm_rope_table *rope, const gm_real *h,
                       gm_acts *acts, const gm_real *d_y, gm_block *grad,
                       gm_real *d_h);

/* logits[rows, vocab] = norm(h) w^T.  scratch: [rows, d]. */
void gm_head_forward(const gm_head *head, const gm_real *h, long rows,
                     gm_real *scratch, gm_real *logits);
/* Given dE/dlogits, ADDS dE/dh into d_h [rows, d].  scratch: [rows, d]. */
void gm_head_backward(const gm_head *head, const gm_real *h, long rows,
                      const gm_real *d_logits, gm_real *scratch, gm_real *d_h);

/* ----------------------------------------------------------------- quant.c
   Candidates of one weight: RTN, packing, sizes, mixtures. */

enum { GM_MAX_CANDIDATES = 16, GM_MAX_GROUP = 512 };

typedef enum { GM_RTN, GM_GPTQ, GM_EXTERNAL } gm_quantizer;
/* Weight w_t of token t in GPTQ's H = (2/tokens) sum_t w_t^2 x_t x_t^T:
   token: 1 / ||x_t||, times 4 at the first position of a sequence [choice];
   plain: 1 (Frantar et al. 2022); attention: for the input of q, k and v
   sqrt(a_t) / ||x_t||, a_t the attention that t receives (gm_attention_mass),
   else as token [choice]. */
typedef enum { GM_TOKEN, GM_PLAIN, GM_ATTENTION } gm_hessian;
/* Scale and zero of a group: minmax: of its least and largest weight; mse: of
   these times the r in 1, 0.99, ..., 0.21 with the least sum of squared
   errors. */
typedef enum { GM_MINMAX, GM_MSE } gm_scales;
#define GM_DAMPING 0.01

/* How candidates are made; what is hashed into every file that uses them. */
typedef struct {
    int count;                          /* K                              */
    int bits[GM_MAX_CANDIDATES];        /* ascending, 1..8; 16 or 32: the
                                           weight as stored               */
    long group;                         /* input columns per scale        */
    gm_quantizer quantizer;
    gm_scales scales;
    gm_hessian hessian;                 /* GPTQ only, like all below      */
    bool act_order;                     /* largest H_jj first             */
    double damping;                     /* share of mean H_jj added to it */
    bool sequential;                    /* inputs as the modules before,
                                           already quantized, give them   */
    const struct gm_external *external; /* GM_EXTERNAL: what its file holds */
    long at_once;                       /* sequences in a pass; 0: 4; no result
                                           depends on it */
} gm_recipe;

/* "2,3,4" and a group into a recipe of RTN; names into its other fields. */
gm_status gm_recipe_parse(const char *bits, long group, gm_recipe *out,
                          gm_error *err);
gm_status gm_recipe_quantizer(gm_recipe *recipe, const char *text,
                              gm_error *err);
gm_status gm_recipe_hessian(gm_recipe *recipe, const char *text,
                            gm_error *err);
gm_status gm_recipe_scales(gm_recipe *recipe, const char *text, gm_error *err);
const char *gm_quantizer_name(gm_quantizer quantizer);      /* "rtn" ... */
const char *gm_hessian_name(gm_hessian hessian);            /* "token" ... */
/* "rtn bits=2,3,4 group=128", "gptq bits=2,3 group=64 hessian=token", and back;
   then, where they are not the default, act-order, damping=0.02, scales=mse,
   sequential, in this order. */
void gm_recipe_text(const gm_recipe *recipe, char text[128]);
/* Its bits alone, "2,3,4". */
void gm_recipe_bits(const gm_recipe *recipe, char text[64]);
gm_status gm_recipe_read(const char *text, gm_recipe *out, gm_error *err);

/* One packed candidate of a weight [out, in], groups = ceil(in/group):
   codes: each row is a bit stream, least significant bit first, padded to a
   byte; scales: fp16 [out, groups], little endian, at any alignment; zeros:
   like codes, [out, groups]. */
typedef struct {
    int bits;
    long out, in, group;
    const uint8_t *codes, *scales, *zeros;
    const gm_tensor *original;      /* bits >= 16: the stored weight itself;
                                       GM_EXTERNAL: its dequantized tensor */
} gm_packed;

/* Stored bytes of the three parts; their sum is s_mk.  bits >= 16: all in
   `codes`. */
typedef struct { int64_t codes, scales, zeros; } gm_parts;
gm_parts gm_packed_parts(long out, long in, int bits, long group);
int64_t gm_packed_bytes(long out, long in, int bits, long group);

/* n codes of `bits` bits into ceil(n bits / 8) bytes. */
void gm_pack(const uint8_t *code, long n, int bits, uint8_t *stream);
void gm_unpack(const uint8_t *stream, long n, int bits, uint8_t *code);

/* Scale (fp16) and zero of a group whose weights span lo <= 0 .. hi >= 0. */
void gm_grid(float lo, float hi, int bits, uint16_t *scale, uint8_t *zero);
/* Of n <= GM_MAX_GROUP weights, by the rule: minmax or mse. */
void gm_grid_of(const float *w, long n, int bits, gm_scales rule,
                uint16_t *scale, uint8_t *zero);

/* Round to nearest, ties to even, per group of `group` input columns:
     lo = min(0, min w), hi = max(0, max w), scale = fp16((hi-lo)/(2^b-1))
     (1 when hi = lo or it rounds to 0), zero = clamp(round(-lo/scale)),
     code = clamp(round(w/scale) + zero, 0, 2^b - 1)
   (rule mse: lo and hi shrunk.)  Fills the caller's packed arrays. */
void gm_rtn(const gm_real *w, long out, long in, int bits, long group,
            gm_scales rule, uint8_t *codes, uint16_t *scales, uint8_t *zeros);

/* q = scale * (code - zero) for all of the weight, [out, in], float32
   arithmetic.  For the original candidate: the stored weight. */
gm_status gm_dequantize(const gm_packed *packed, gm_real *q, gm_error *err);

/* W~ = sum_k p_k Q_k, [out, in], summed in k order in gm_real. */
gm_status gm_mix(const gm_packed *packed, int K, const double *p, gm_real *w,
                 gm_error *err);

/* g_k = <G, Q_k>: each row by gm_dot, rows added in order.  row: [out, K]
   workspace. */
gm_status gm_inner(const gm_packed *packed, int K, const gm_real *G,
                   double *row, double *g, gm_error *err);

/* ----------------------------------------------------------------- gptq.c
   GPTQ candidates of one weight: column after column, each one's rounding
   error moved onto the columns after it. */

/* What all weights with the same input share.  U upper triangular,
   U^T U = (H + damping)^-1, in the order the columns are rounded in. */
typedef struct {
    long n;
    gm_real *U;                 /* [n, n]                                    */
    long *order;                /* [n] act-order; NULL: from left to right   */
    bool *dead;                 /* [n] H_jj = 0: the weight becomes 0        */
} gm_factor;

/* H [n, n], lower triangle read.  damping: share of the mean H_jj (of columns
   that are not dead) added to each.  act_order: largest H_jj first, and all
   groups' scales from the original weights. */
gm_status gm_gptq_factor(gm_arena *arena, long n, const double *H,
                         double damping, bool act_order, gm_factor *out,
                         gm_error *err);

/* As gm_rtn, with the inputs' factor; the arena is workspace. */
gm_status gm_gptq(gm_arena *arena, const gm_real *w, long out, long in,
                  int bits, long group, gm_scales rule,
                  const gm_factor *factor, uint8_t *codes, uint16_t *scales,
                  uint8_t *zeros, gm_error *err);

/* -------------------------------------------------------------- external.c
   Candidates that another tool made, dequantized, in one safetensors file:
   NAME.bK [out, in] of F32, F16, BF16 or F64, NAME = a weight's name without
   ".weight", K = code bits; metadata NAME.bK.bytes = its stored bytes. */
typedef struct gm_external {
    gm_tensors tensors;
    const gm_tensor **tensor;   /* [M, K]; NULL: no such candidate           */
    bool *allowed;              /* [M, K] whether there is one               */
    int64_t *bytes;             /* [M, K] s_mk: as the file says, else by
                                   gm_packed_bytes; -1: no such candidate    */
    char hash[65];              /* of tensors and bytes                      */
} gm_external;

/* Reads and checks the whole file.  bits: which of its candidates to offer,
   NULL: all; 16 (32) there and not in the file: the weight as stored. */
gm_status gm_external_open(gm_arena *arena, const gm_model *model,
                           const char *path, const char *bits, long group,
                           gm_recipe *out, gm_error *err);

/* ------------------------------------------------------------ candidates.c
   The candidates of a whole model in one safetensors file, block after block,
   mapped; NAME.b3.codes, NAME.b3.scales, NAME.b3.zeros. */
typedef struct {
    gm_recipe recipe;
    const gm_model *model;
    gm_tensors tensors;
    char hash[65];              /* of recipe, model and, for GPTQ, calibration:
                                   what they depend on */
    const bool *allowed;        /* [M, K] false: the module has no candidate k;
                                   NULL: all have all */
} gm_candidates;

static inline bool gm_allowed(const gm_candidates *c, long m, int k) {
    return !c->allowed || c->allowed[m * c->recipe.count + k];
}

/* Calibration: S sequences of T tokens, [S, T]. */
typedef struct { const int32_t *tokens; long S, T; } gm_sequences;

/* Sequences of S in one pass of GPTQ's inputs: a matter of memory. */
long gm_at_once(const gm_recipe *recipe, long S);

/* Opens DIR/candidates-HASH.safetensors, making it first when it is not there.
   calibration: read for GPTQ only, may be NULL for RTN. */
gm_status gm_candidates_open(gm_arena *arena, gm_model *model,
                             const gm_recipe *recipe,
                             const gm_sequences *calibration, const char *dir,
                             const gm_report *report, gm_candidates *out,
                             gm_error *err);
/* Opens the file of a known hash, which must be of this model and recipe. */
gm_status gm_candidates_find(gm_arena *arena, gm_model *model,
                             const gm_recipe *recipe, const char *hash,
                             const char *dir, gm_candidates *out,
                             gm_error *err);
void gm_candidates_close(gm_candidates *candidates);
/* The file's bytes are those that were written: its SHA-256 is the one in
   DIR/sha256-HASH.txt, which was there before the file. */
gm_status gm_candidates_verify(gm_arena *arena, const gm_candidates *candidates,
                               const char *dir, gm_error *err);

/* The Hessians that GPTQ candidates of that text are made from, as they are
   made: look(context, l, i, n, H) for each block l and input i of its modules
   (q, k, v | o | gate, up | down), H [n, n], lower triangle.  Always those of
   the original model's inputs, as without --sequential. */
typedef gm_status gm_hessian_look(void *context, long l, int i, long n,
                                  const double *H, gm_error *err);
gm_status gm_hessians(gm_arena *arena, const gm_model *model,
                      const gm_recipe *recipe, const gm_sequences *calibration,
                      gm_hessian_look *look, void *context, gm_error *err);

/* Candidate k of module (layer, j). */
gm_status gm_candidate(const gm_candidates *candidates, long layer, int j,
                       int k, gm_packed *out, gm_error *err);
/* Dequantized, w [out, in]; and a block with candidate choice[j] for linear
   j, 0..6. */
gm_status gm_candidate_weight(const gm_candidates *candidates, long layer,
                              int j, int k, gm_real *w, gm_error *err);
gm_status gm_chosen_block(const gm_candidates *candidates, long layer,
                          const int *choice, gm_block *block, gm_error *err);

/* The candidates that a module has: numbers k and packed weights. */
typedef struct {
    int count, k[GM_MAX_CANDIDATES];
    gm_packed packed[GM_MAX_CANDIDATES];
} gm_offer;
gm_status gm_offer_find(const gm_candidates *candidates, long layer, int j,
                        gm_offer *out, gm_error *err);
/* g[k] = <G, Q_k> of those; the other g[k] stay.  row: as gm_inner's. */
gm_status gm_offer_inner(const gm_offer *offer, const gm_real *G, double *row,
                         double *g, gm_error *err);

/* ------------------------------------------------------------------- mpi.c
   Several processes, ranks, share the blocks: make MPI=1, mpirun.  Without,
   there is one rank and all of these do nothing, in no time. */

/* How ranks exchange bytes; MPI's, or a test's. */
typedef struct {
    int rank, size;
    void *context;
    /* all [size, bytes] gets the `mine` of every rank, in their order. */
    void (*gather)(void *context, const void *mine, size_t bytes, void *all);
    /* Called by two ranks: data of rank `from` becomes that of rank `to`. */
    void (*move)(void *context, int from, int to, void *data, size_t bytes);
} gm_transport;
void gm_ranks_use(const gm_transport *transport);       /* NULL: one rank   */
/* MPI's, until the program ends */
void gm_ranks_start(int *argc, char ***argv);

int gm_rank(void);              /* 0 .. gm_ranks()-1; 0 prints and writes    */
int gm_ranks(void);
int64_t gm_ranks_bytes(void);   /* received by all ranks so far, together    */
/* Rank r owns first(r) .. first(r+1)-1 of the blocks. */
long gm_rank_first(long blocks, int rank);

/* All ranks call these, in the same order; a rank that has failed calls only
   gm_ranks_agree, in main, and whatever the others call fails with its status
   and message. */
gm_status gm_ranks_agree(gm_status s, gm_error *err);
/* data: rank 0's, on all ranks. */
gm_status gm_ranks_tell(void *data, size_t bytes, gm_error *err);
/* GM_EINPUT unless all ranks have this text (below 128 bytes). */
gm_status gm_ranks_same(const char *what, const char *text, gm_error *err);
/* x [blocks, each]: every rank's own blocks, on all ranks. */
gm_status gm_ranks_gather(double *x, long blocks, long each, gm_error *err);
/* After an agreement, by all ranks. */
void gm_ranks_move(int from, int to, void *data, size_t bytes);
/* h [S, T, d], of a rank above 0: the original model's states before its first
   block.  block, acts (its S: sequences that pass at a time), rope: workspace;
   the arena gets [acts.S, T, d]. */
gm_status gm_ranks_states(gm_arena *arena, const gm_model *model,
                          const gm_sequences *text, gm_block *block,
                          gm_acts *acts, const gm_rope_table *rope, gm_real *h,
                          gm_error *err);

/* ------------------------------------------------------------------- baq.c
   BAQ (arXiv 2506.05664), a whole rival: GPTQ without groups, with bits for
   each input column so that all columns cost the same. */

/* w [out, in] column by column, column j with levels[j] of 1..256, one range a
   row; factor without act-order.  q [out, in]: the result; code [out, in];
   loss [in]: l_j = 1/2 sum_i (w_ij - q_ij)^2 / U_jj^2. */
gm_status gm_baq_round(gm_arena *arena, const gm_real *w, long out, long in,
                       const gm_factor *factor, const int *levels, gm_real *q,
                       uint8_t *code, double *loss, gm_error *err);
/* levels_j = round(2^(rate + log2(l_j / GM(l)) / 1.95)), 1..256; 1 if l_j = 0.
*/
void gm_baq_levels(long n, const double *loss, double rate, int *levels);

/* uniform: pass 1 alone, GPTQ without groups; published: R_ref = rate; bits,
   ebits: all R_j moved alike to the most that keeps the average code bits
   (log2 of levels), or the effective bits, within the rate [choice]. */
typedef enum { GM_BAQ_UNIFORM, GM_BAQ_PUBLISHED, GM_BAQ_BITS, GM_BAQ_EBITS }
gm_baq_rule;
typedef struct {
    double rate;                /* R_ref, 0 < rate <= 8, whole or not        */
    gm_baq_rule rule;
    gm_hessian hessian;
    double damping;             /* GM_DAMPING                                */
} gm_baq_options;

/* How unequal the columns of a module are: largest over smallest loss, and the
   standard deviation of log2 of the losses (those of 0 left out). */
typedef struct { double ratio, log2; } gm_baq_spread;
typedef struct {
    long out, in, pruned, clamped;      /* columns of 1 and of 256 levels    */
    double bits;                        /* mean log2 levels                  */
    int64_t bytes;                      /* whole-bit codes, ranges, levels  */
    gm_baq_spread before, predicted, after; /* of l_j in pass 1; of that times
                                   2^(2 (R_ref - R_j)); of l_j in pass 2     */
} gm_baq_module;
typedef struct {
    double shift, bits;         /* of all R_j; mean log2 levels a weight     */
    double stored_bits;         /* the same with codes of whole bits         */
    double effective_bits;      /* with ranges and levels: 8 bytes / N       */
    int64_t bytes, weights;
    long M;
    gm_baq_module *module;      /* [M]                                       */
    const char *path;           /* of the file                               */
} gm_baq_report;

/* Makes, where not there, DIR/baq-HASH.safetensors of each option (all with the
   same Hessian and damping): dequantized weights with their stored bytes, and
   its table baq-HASH.tsv; two sweeps over the blocks for all together.
   GM_EINFEASIBLE: rule ebits with a rate that ranges alone exceed. */
gm_status gm_baq_make(gm_arena *arena, gm_model *model,
                      const gm_baq_options *options, int count,
                      const gm_sequences *calibration, const char *dir,
                      const gm_report *report, gm_error *err);
/* Makes one, if need be, and opens it as candidates with K = 1, whose code bits
   stand for the rate only: the report's are true. */
gm_status gm_baq_open(gm_arena *arena, gm_model *model,
                      const gm_baq_options *options,
                      const gm_sequences *calibration, const char *dir,
                      const gm_report *report, gm_candidates *out,
                      gm_baq_report *report_out, gm_error *err);

/* ---------------------------------------------------------------- solver.c
   Stage II: the integer program, solved exactly.

   minimise sum_mk u_mk x_mk  s.t.  sum_k x_mk = 1,  sum_mk s_mk x_mk <= B,
   x binary: the multiple-choice knapsack, with optional couplings.  Sizes and
   scores are integers, so every claim is exact; docs/solver.md explains. */

/* sum_mk cost[m K + k] x_mk <= limit.  Costs may have any sign. */
typedef struct {
    const char *name;
    int64_t *cost, limit;       /* cost: [M, K] */
    int places;                 /* both were multiplied by 10^places */
} gm_row;

/* Not both: module m at candidate j and module n at candidate k. */
typedef struct { long m, n; int j, k; } gm_pair;

/* The problem.  All sums over modules must stay below 2^61. */
typedef struct {
    long M;
    int K;                      /* <= GM_MAX_CANDIDATES                      */
    int64_t *size;              /* [M, K] s_mk                               */
    int64_t *score;             /* [M, K] u_mk as integers                   */
    bool *allowed;              /* [M, K] false: the module may not take k   */
    int64_t budget;
    bool exact;                 /* sizes must sum to the budget, not below   */
    long rows, pairs;
    gm_row *row;
    gm_pair *pair;
    long *group;                /* [M] or NULL: modules with equal numbers
                                   take the same candidate; -1: none         */
    const char **name;          /* [M] for messages and --lp, or NULL        */
    const char *unit;           /* of sizes, for messages; NULL: "units"     */
} gm_mckp;

/* A problem with all arrays zeroed and everything allowed. */
gm_status gm_mckp_new(gm_arena *arena, long M, int K, gm_mckp *out,
                      gm_error *err);

typedef enum { GM_BOTH, GM_DP, GM_GLPK } gm_solver;
typedef struct {
    gm_solver solver;
    double seconds;             /* time limit of each solver; 0: none        */
    size_t memory;              /* bytes for the dynamic program; 0: 1 GiB   */
    bool any;                   /* any optimum will do: no tie rule          */
    bool verbose;               /* GLPK's own output goes to report          */
    const gm_report *report;
} gm_solve_options;

enum { GM_MAX_ROWS = 16 };      /* rows that get a multiplier                */

/* What is known about the answer.  All in the problem's integers.
   Weak duality: for any lambda = num/den (>= 0 unless exact) and mu >= 0
     sum_m min_k (u_mk + lambda s_mk + sum_r mu_r c_rmk)
       - lambda B - sum_r mu_r limit_r   <=  every feasible objective;
   lp_bound is its ceiling with the multipliers given here. */
typedef struct {
    bool found;                 /* choice[] holds a feasible assignment      */
    bool optimal;               /* objective = bound                         */
    bool unique_rule;           /* ties proven resolved by the rule          */
    int64_t objective, size, slack;
    int64_t bound;              /* no assignment has a smaller objective     */
    int64_t lp_bound, lambda_num, lambda_den;
    long rows;
    int64_t mu_num[GM_MAX_ROWS];            /* over lambda_den               */
    int64_t smallest, largest;  /* reachable sizes, rows and pairs ignored   */
    int64_t below, above;       /* when infeasible: next reachable; -1: none */
    bool neighbours_proven;
    bool dp_ran, glpk_ran, agreed;          /* agreed: both ran, same value  */
    bool dp_ended;              /* not stopped by a limit or lack of memory  */
    int64_t glpk_objective;
    long states, nodes;         /* of the dynamic program; of GLPK           */
    size_t memory;              /* peak of the dynamic program, bytes        */
    double dp_seconds, glpk_seconds;
} gm_certificate;

/* Solves.  choice: [M].  Ties: among the optimal assignments the one smallest
   in size, then lexicographically smallest in module order (lower candidate
   number first).  GM_EINFEASIBLE: certificate.smallest .. above are set.
   GM_ELIMIT: a limit came first; incumbent and bound are set. GM_EDIFFER: the
   two solvers disagree (their numbers are in the message).
   GLPK's environment is per thread where GLPK was built so
   (glp_config("TLS")); else one thread at a time may call this. */
gm_status gm_mckp_solve(gm_arena *arena, const gm_mckp *problem,
                        const gm_solve_options *options, int *choice,
                        gm_certificate *out, gm_error *err);

/* The prepared problem, shared by solver.c and glpk.c.  Reduced units:
   w = (s - min s) / unit, v = u - min u, sum w <= room. */
typedef __int128 gm_wide;
typedef struct { int64_t w, v; int k; } gm_choice;
typedef struct { int64_t num, den; } gm_slope;      /* den = 0: there is none */

/* A module, or modules that must take the same candidate. */
typedef struct {
    long module;                /* first of its modules                      */
    int options, base;          /* base: choice of the LP's whole part       */
    gm_choice *option;          /* ascending in w, then v, then k            */
    gm_wide least;              /* min_i den (v + lambda w + sum_r mu_r c_r) */
} gm_group;

typedef struct {
    const gm_mckp *p;
    long G;
    gm_group *group;
    long *group_of, *next;      /* [M]; next: module of the same group or -1 */
    int64_t size0, score0, unit, room;
    int64_t score_unit;         /* common divisor of all v                   */
    bool room_rest;             /* exact, and unit does not divide the room  */
    bool exact, coupled;        /* coupled: rows or pairs                    */
    gm_slope lambda;            /* score per w                               */
    int64_t mu[GM_MAX_ROWS];    /* over lambda.den                           */
    int64_t w0, v0;             /* sums over the base choices                */
    gm_wide lp;                 /* lambda.den * the Lagrangian bound on v    */
    int64_t most_v;             /* sum of the largest v                      */
} gm_core;

/* What a solver knows: the optimum lies in low .. high; option [G], if found,
   has value high; rule: it is the one the tie rule asks for. */
typedef struct { int64_t low, high; bool found, rule; int *option; } gm_answer;

/* A step up the lower hull of a group: dw > 0 more size buys `gain`. */
typedef struct { long group; int to; int64_t dw, gain; } gm_step;

int64_t gm_gcd(int64_t a, int64_t b);               /* a, b >= 0 */
gm_wide gm_ceil_div(gm_wide a, gm_wide b);          /* b > 0 */
gm_status gm_core_prepare(gm_arena *arena, const gm_mckp *p, gm_core *c,
                          gm_certificate *out, gm_error *err);
/* All groups' hull steps, best rate (gain / dw) first. */
gm_status gm_core_steps(gm_arena *arena, const gm_core *c, gm_step **out,
                        long *count, gm_error *err);
void gm_core_lagrangian(gm_core *c);        /* least and lp from lambda, mu */
/* Cost of option i of group g in extra row r; r = -1: its w. */
int64_t gm_core_cost(const gm_core *c, long r, long g, int i);
/* lambda.den * reduced cost: lp + this bounds all that take the option. */
gm_wide gm_core_excess(const gm_core *c, long g, int i);
int gm_core_compare(const gm_group *a, const gm_group *b);
int64_t gm_core_greedy(const gm_core *c, int *option);
bool gm_core_feasible(const gm_core *c, int64_t room, const int *option,
                      int64_t *v, int64_t *w);

/* --------------------------------------------------------------- dynamic.c
   The optimum; a->option is the caller's.  GM_ELIMIT: low and high are what
   is known. */
gm_status gm_dynamic_solve(gm_arena *arena, gm_core *c,
                           const gm_solve_options *options, gm_answer *a,
                           gm_certificate *out, gm_error *err);

/* ------------------------------------------------------------------ glpk.c */

bool gm_have_glpk(void);
const char *gm_glpk_version(void);          /* "none" without it */
/* As gm_dynamic_solve; a->found: there is an incumbent already. */
gm_status gm_glpk_solve(gm_arena *arena, gm_core *c,
                        const gm_solve_options *options, bool ties,
                        gm_answer *a, gm_certificate *out, gm_error *err);

/* GLPK's model of the problem in CPLEX LP format, comments included. */
gm_status gm_mckp_write_lp(gm_arena *arena, const gm_mckp *problem,
                           const char *path, gm_error *err);

/* ---------------------------------------------------------------- tables.c
   scores.tsv and alloc.tsv: what Stage I hands to Stage II, and its answer. */

/* "# key value" lines in file order.  Unknown keys are kept. */
typedef struct { long count, room; const char **key, **value; } gm_keys;
gm_status gm_keys_set(gm_arena *arena, gm_keys *keys, const char *key,
                      gm_error *err, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
const char *gm_keys_get(const gm_keys *keys, const char *key);  /* or NULL */

/* Shortest decimal that reads back as exactly x (at most 17 digits). */
void gm_double_text(double x, char text[32]);

/* One line a module; columns: module out in weights, then for each candidate
   of b bits "b.bytes b.score b.stderr" ("-": the module lacks it / unknown). */
typedef struct {
    const char *path;
    gm_keys keys;
    long M;
    int K;
    int bits[GM_MAX_CANDIDATES];        /* b_k, ascending                    */
    const char **name;                  /* [M]                               */
    int64_t *out, *in, *weights;        /* [M]; n_m = weights                */
    int64_t *bytes;                     /* [M, K] s_mk; -1: not a candidate  */
    double *score, *error;              /* [M, K]; error -1: unknown         */
    int64_t overhead;                   /* file bytes beside sum s_mk        */
    int64_t N;                          /* sum of weights                    */
} gm_scores;

/* Empty tables to fill; bytes, score, error, ... zeroed, keys: format. */
gm_status gm_scores_new(gm_arena *arena, long M, int K, const int *bits,
                        gm_scores *out, gm_error *err);
gm_status gm_scores_write(gm_arena *arena, const char *path,
                          const gm_scores *scores, gm_error *err);
gm_status gm_scores_read(gm_arena *arena, const char *path, gm_scores *out,
                         gm_error *err);

/* Which bits each module gets.  Files of other tools need only the columns
   module (or name) and bits. */
typedef struct {
    const char *path;
    gm_keys keys;
    long M;
    const char **name;
    int *bits;
    int64_t *bytes;                     /* -1: the file does not say         */
    const char **allowed;               /* NULL, or [M] "2,3,4": the choice  */
    const char **fused;                 /* NULL, or [M] "-" or a group name  */
} gm_allocation;
gm_status gm_allocation_write(gm_arena *arena, const char *path,
                              const gm_allocation *allocation, gm_error *err);
gm_status gm_allocation_read(gm_arena *arena, const char *path,
                             gm_allocation *out, gm_error *err);

/* choice[m]: candidate of scores' module m, matched by name in any order;
   missing, repeated or unknown modules and bits are errors by name. */
gm_status gm_allocation_match(const gm_allocation *allocation,
                              const gm_scores *scores, int *choice,
                              gm_error *err);

/* The three sizes of an assignment; code and effective bits are sums over all
   modules (divide by N for the averages). */
typedef struct { int64_t code_bits, effective_bits, file_bytes; } gm_sizes;
gm_sizes gm_sizes_of(const gm_scores *scores, const int *choice);

/* A budget: GM_BITS "2.5": sum n_m b_k <= floor(2.5 N);  GM_EBITS "2.75":
   8 sum s_mk <= floor(2.75 N);  GM_BYTES "50M": overhead + sum s_mk <= 5e7
   (K M G decimal, KiB MiB GiB binary).  limit: floor as above. */
typedef enum { GM_BITS, GM_EBITS, GM_BYTES } gm_convention;
typedef struct {
    gm_convention convention;
    int64_t limit;
    const char *text;
} gm_budget;
const char *gm_convention_name(gm_convention convention); /* "bits" ... */
gm_status gm_convention_parse(const char *what, const char *text,
                              gm_convention *out, gm_error *err);
/* The size that a budget of this convention limits. */
int64_t gm_size_in(const gm_sizes *sizes, gm_convention convention);
gm_status gm_budget_parse(gm_arena *arena, const gm_scores *scores,
                          gm_convention convention, const char *text,
                          gm_budget *out, gm_error *err);

/* ------------------------------------------------------------- allocate.c
   From scores and a budget to an assignment: Stage II's driver. */

/* Integer scores: round(u 2^shift) with the largest shift for which
   range 2^shift <= 2^score_bits, range = max_m (max_k u_mk - min_k u_mk), and
   max |u| 2^shift <= 2^44.  bound = M 2^-shift: two assignments whose real
   scores differ by more are ordered alike by the integers. */
typedef struct { int shift; double range, bound; } gm_rounding;

/* The problem for `budget` (score_bits 1..44, 30 is the design's).  `scores`
   must outlive it. */
gm_status gm_problem_build(gm_arena *arena, const gm_scores *scores,
                           const gm_budget *budget, int score_bits,
                           gm_mckp *out, gm_rounding *rounding,
                           gm_error *err);

/* Couplings as on the command line; NULL: none.  A PATTERN is a module's name
   or its last part, '*' stands for anything. */
typedef struct {
    bool exact;                 /* the budget is to be met exactly           */
    const char *min_bits;       /* "PATTERN=3,..." or "3"                    */
    const char *max_bits;
    const char *pin;            /* "PATTERN=4,PATTERN>=3,PATTERN<=8,..."     */
    const char *fuse;           /* "q_proj+k_proj+v_proj,gate_proj+up_proj"  */
    const char *forbid;         /* "NAME=4+NAME=2,...": not both             */
    const char *at_most;        /* "16:5,...": at most 5 modules at 16 bits  */
    const char *resources;      /* "FILE:LIMIT,..."                          */
} gm_constraints;

/* Adds them to a built problem (constrain.c). */
gm_status gm_problem_constrain(gm_arena *arena, const gm_scores *scores,
                               const gm_constraints *c, gm_mckp *problem,
                               gm_error *err);

/* "PATTERN=2,3;PATTERN=4": a module that matches keeps only those bits of what
   allowed[M, K] gives it; every module must keep one (constrain.c). */
gm_status gm_allow(gm_arena *arena, const gm_scores *scores, const char *text,
                   bool *allowed, gm_error *err);

/* Turns the message of an infeasible problem into the reader's units. */
gm_status gm_explain_infeasible(const gm_scores *scores,
                                const gm_budget *budget,
                                const gm_certificate *t, gm_error *err);

/* The answer with its certificate as "# key value" lines.  Bytes depend on
   the inputs alone (times are left out). */
gm_status gm_allocation_make(gm_arena *arena, const gm_scores *scores,
                             const gm_budget *budget, const gm_mckp *problem,
                             const gm_rounding *rounding, const int *choice,
                             const gm_certificate *certificate,
                             gm_allocation *out, gm_error *err);

/* All of it: problem, solution, allocation.  out is filled when
   certificate->found, also with GM_ELIMIT. */
gm_status gm_allocate(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget,
                      const gm_solve_options *options, int *choice,
                      gm_certificate *certificate, gm_allocation *out,
                      gm_error *err);

/* ---------------------------------------------------------------- export.c
   Writes quantized models. */

/* A Hugging Face directory like the model's own, the chosen modules replaced
   by their dequantized candidates, in the checkpoint's dtypes and shards.
   Loads in transformers unchanged.  `bytes`: of its weight files. */
gm_status gm_export_dequantized(gm_arena *arena, const gm_model *model,
                                const gm_candidates *candidates,
                                const int *choice, const char *dir,
                                const gm_report *report, int64_t *bytes,
                                gm_error *err);

/* One safetensors file: for each module NAME.codes, NAME.scales, NAME.zeros
   (layout: gm_packed) or NAME.weight as stored; all other tensors as stored.
   Its size is gm_packed_overhead + sum_m s_mk exactly, for any assignment. */
gm_status gm_export_packed(gm_arena *arena, const gm_model *model,
                           const gm_candidates *candidates, const int *choice,
                           const char *path, const gm_report *report,
                           gm_error *err);

/* File bytes beside the modules' s_mk: the header, padded to what the longest
   assignment needs, and all other tensors. */
gm_status gm_packed_overhead(gm_arena *arena, const gm_model *model,
                             const gm_recipe *recipe, int64_t *bytes,
                             gm_error *err);

/* ----------------------------------------------------------------- relax.c
   Relaxations and norms of Stage I; equations: gamma.c. */

typedef enum { GM_SOFT, GM_SOFT_CORRECTED, GM_GUMBEL, GM_HARD,
               GM_RELAXATIONS } gm_relaxation;
typedef enum { GM_NORM_TOKEN, GM_NORM_ROBUST, GM_NORM_PLAIN, GM_NORM_ENERGY,
               GM_NORM_UPDATE, GM_NORMS } gm_loss_norm;
/* What becomes the score: theta at a stationary point, the averaged loss, or
   S_mk times one factor from it: gm_fit_scores in gamma.c. */
typedef enum { GM_SCORE_THETA, GM_SCORE_LOSS, GM_SCORE_SCALED, GM_SCORES }
gm_score;
const char *gm_relaxation_name(gm_relaxation relaxation);   /* "soft" ... */
const char *gm_loss_norm_name(gm_loss_norm norm);           /* "token" ... */
const char *gm_score_name(gm_score score);
bool gm_sampled(gm_relaxation relaxation);      /* gumbel, hard */

/* Temperature of step 0 .. steps-1, from tau to last along a geometric line. */
double gm_temperature(double tau, double last, long step, long steps);
double gm_gumbel(uint64_t seed, long step, long i);         /* noise */
/* p = softmax(x / tau) over the allowed (NULL: all), 0 elsewhere; [K]. */
void gm_softmax(int K, const bool *allowed, const double *x, double tau,
                double *p);
/* ADDS to d = dJ/dx what v = dJ/dp gives. */
void gm_softmax_backward(int K, const double *p, const double *v, double tau,
                         double *d);
/* 1 at the allowed largest x (the first of equals), 0 elsewhere. */
void gm_one_hot(int K, const bool *allowed, const double *x, double *p);

/* A block's reconstruction: R rows in sequences of T; h its input, y the
   teacher's output, student what the mixed weights gave; all [R, d]. */
typedef struct {
    gm_loss_norm norm;
    double first_weight;
    long R, T, d;
    const gm_real *h, *y, *student;
    gm_real *d_student;                 /* gets dE/d student */
    double *error;                      /* [R] gets E_t */
} gm_loss;
/* E = (1/R) sum_t E_t, rows added in order. */
double gm_loss_block(const gm_loss *loss);

/* ----------------------------------------------------------------- gamma.c
   Stage I: learn theta, and from it a score for each module and candidate. */

/* All of Stage I's settings; the defaults are in main_fit.c's option table. */
typedef struct {
    gm_relaxation relaxation;
    gm_loss_norm norm;
    gm_score score;     /* which is written as the score       */
    long S, T;          /* calibration: sequences of T tokens             */
    long batch;         /* sequences in one step                          */
    long steps;
    double alpha;       /* weight of the entropy term, units of E_0       */
    double rho;         /* penalty on the squared constraint              */
    double eta;         /* multiplier ascent: lambda += eta rho c         */
    double tau;         /* softmax temperature                            */
    double tau_last;    /* gumbel, hard: of the last step; 0: tau         */
    double first_weight;        /* of a sequence's first token in E_l; 0: 1 */
    double rate;        /* Adam's step                                    */
    double tail;        /* share of the last steps averaged into scores   */
    double budget;      /* B: target average code bits while learning     */
    uint64_t seed;      /* sequences of each step, Gumbel noise           */
} gm_fit_options;

/* What a step saw, tensor by tensor, for `gamma dump`: names and shapes in
   docs/verify.md.  wants: whether `put` is to be called for that name. */
typedef struct {
    void *context;
    bool (*wants)(void *context, const char *name);
    gm_status (*put)(void *context, const char *name, gm_dtype dtype, int rank,
                     const int64_t *shape, const void *data, gm_error *err);
} gm_tap;

/* The whole state of Stage I: what a resumed run needs, bit for bit. Arrays
   are [M, K], module m = 7 layer + linear. */
typedef struct {
    gm_fit_options options;
    const gm_tap *tap;                  /* NULL: nobody looks */
    const gm_candidates *candidates;
    const int32_t *tokens;              /* [S, T] */
    char hash[65];                      /* of all that determines the result */
    long M, step;                       /* steps done */
    int K;
    double N, E0, lambda;
    double E, c, entropy;               /* of the last step; E in units of E0 */
    double beta1_power, beta2_power;    /* Adam's bias correction */
    double *theta, *moment1, *moment2;
    double *separable;                  /* S_mk, soft-corrected only */
    double *theta_sum, *loss_sum, *loss_squares, multiplier_sum; /* of tail */
    double tau;                         /* of the last step, like all below */
    double *p, *g, *v, *block_E;        /* p: what was mixed; [M,K], [L] */
    double *y, *pi;     /* see gamma.c; not sampled: p itself */
    struct gm_sweep *sweep;             /* buffers of one step */
} gm_fit;

/* S sequences of T tokens from a text, evenly spread over it, no overlap. */
gm_status gm_calibration(gm_arena *arena, const int32_t *tokens, long count,
                         long S, long T, int32_t **out, gm_error *err);

gm_status gm_fit_begin(gm_arena *arena, const gm_candidates *candidates,
                       const int32_t *tokens, const gm_fit_options *options,
                       gm_fit *out, gm_error *err);

/* One sweep over the blocks, one Adam step, one multiplier step. */
gm_status gm_fit_step(gm_fit *fit, gm_error *err);

/* score[M, K]: estimated loss of module m at candidate k, units of E_0,
   smallest of each module 0; error[M, K]: its standard error (see gamma.c).;
   a candidate that the module lacks: 0 and -1. */
void gm_fit_scores(const gm_fit *fit, double *score, double *error);

/* The table of all modules and candidates with their sizes, scores zero. */
gm_status gm_module_table(gm_arena *arena, const gm_model *model,
                          const gm_recipe *recipe, gm_scores *out,
                          gm_error *err);
/* The same with the learned scores and all settings as keys: scores.tsv. */
gm_status gm_fit_table(gm_arena *arena, const gm_fit *fit, gm_scores *out,
                       gm_error *err);

/* ---------------------------------------------------------------- state.c
   A run of Stage I as a file. */

/* SHA-256 of the calibration's token ids. */
void gm_fit_tokens_hash(const gm_fit *fit, char hex[65]);
/* fit->hash: candidates, tokens and all options that change the result. */
void gm_fit_hash(gm_fit *fit);

/* The state as text, exact (hexadecimal floats); loading refuses a state whose
   hash differs. */
gm_status gm_fit_save(gm_arena *arena, const gm_fit *fit, const char *path,
                      gm_error *err);
gm_status gm_fit_load(gm_arena *arena, gm_fit *fit, const char *path,
                      gm_error *err);

/* ------------------------------------------------------------- frontier.c
   Beyond one budget. */

typedef struct { int64_t size, score; } gm_point;

/* Every Pareto-optimal point of the problem (its budget is ignored), ascending
   in size.  options: seconds, memory, report.  GM_ELIMIT: they did not suffice;
   the points are then the supported ones (see frontier.c). */
typedef struct { long count; gm_point *point; bool complete; } gm_frontier;
gm_status gm_frontier_find(gm_arena *arena, const gm_mckp *problem,
                           const gm_solve_options *options, gm_frontier *out,
                           gm_error *err);

/* The budget solved again with scores drawn from their standard errors.
   share[m, k]: how often module m took candidate k; changed[m]: how often not
   choice[m]; regret: mean of score(choice) - score(optimum) under the draws,
   in units of the scores. */
typedef struct { long resamples; double *share, *changed, regret; } gm_robust;
gm_status gm_robust_find(gm_arena *arena, const gm_scores *scores,
                         const gm_budget *budget, const gm_mckp *problem,
                         int score_bits, const gm_solve_options *options,
                         const int *choice, long resamples, uint64_t seed,
                         gm_robust *out, gm_error *err);

/* ----------------------------------------------------------------- check.c
   Verifies an assignment and its certificate; shares no code with solver.c,
   glpk.c or allocate.c. */

/* One claim of the file, and what follows from the scores. */
typedef struct { const char *claim, *stated, *found; bool holds; } gm_claim;
typedef struct {
    gm_claim *claim;
    long count, room, failed;
    gm_sizes sizes;
    double score;               /* sum of the real scores                    */
    double bound;               /* from the multiplier alone, real scores    */
    int64_t gap;                /* objective - that bound, integers          */
    bool certified;             /* the file has a certificate                */
} gm_check;

/* resources: "a.tsv,b.tsv", tables of what the certificate limits, or NULL.
   Without a certificate (files of other tools) sizes are counted and the bound
   is for the assignment's own code bits.  GM_EDIFFER: a claim fails. */
gm_status gm_check_allocation(gm_arena *arena, const gm_allocation *allocation,
                              const gm_scores *scores, const char *resources,
                              gm_check *out, gm_error *err);

/* ------------------------------------------------------------------ eval.c
   Perplexity, KL divergence and top-1 agreement over windows of a text. */

/* What to measure on: the first `windows` non-overlapping windows. */
typedef struct {
    const int32_t *tokens;      /* [windows, window] */
    long windows, window;
} gm_text;

/* Windows in one forward pass of a block. */
long gm_batch(long windows, long window);

/* Rows whose logits exist at once, of `rows`: even chunks of at most 512 rows
   and, above 64 rows, of 2^24 logits. */
long gm_logit_rows(long vocab, long rows);

/* Hidden states after the last block (before the final norm) for every token,
   h [windows window, d].  choice: candidate of each module, or NULL for the
   original weights.  Blocks outermost: memory is one block and the states. */
gm_status gm_final_states(gm_arena *arena, const gm_model *model,
                          const gm_candidates *candidates, const int *choice,
                          const gm_text *text, const gm_report *report,
                          gm_real *h, gm_error *err);

/* Per window, tokens 1..window-1 are predicted from those before them.
   nll: mean over all predicted tokens, natural log; perplexity = exp(nll).
   Standard errors are over window means.  KL(teacher || student) in nats;
   top1: share of positions where both have the same largest logit. */
typedef struct {
    long windows, window, predicted;
    double nll, nll_error, perplexity;
    double kl, kl_error, top1, top1_error;      /* when a teacher was given */
    double *window_nll, *window_kl, *window_top1;   /* [windows] means */
} gm_measure;

/* Mean of the n differences x - y (y NULL: of x) and that mean's standard
   error, sqrt(sum (d - mean)^2 / (n - 1) / n); 0 for n = 1. */
double gm_mean_error(long n, const double *x, const double *y, double *error);

/* Means and their errors from window_nll, window_kl, window_top1. */
void gm_measure_means(gm_measure *m);

/* student and teacher: states as above; teacher may be NULL. */
gm_status gm_evaluate(gm_arena *arena, const gm_head *head,
                      const gm_text *text, const gm_real *student,
                      const gm_real *teacher, const gm_report *report,
                      gm_measure *out, gm_error *err);

/* ------------------------------------------------------------------ plan.c
   What a run will take, before it starts.  docs/performance.md compares. */

typedef enum {
    GM_PLAN_HASH, GM_PLAN_STATES, GM_PLAN_HESSIANS, GM_PLAN_CANDIDATES,
    GM_PLAN_SEPARABLE, GM_PLAN_STEPS_OF_FIT, GM_PLAN_SOLVE, GM_PLAN_QUANTIZE,
    GM_PLAN_RIVALS, GM_PLAN_EVAL, GM_PLAN_STEPS
} gm_plan_step;
const char *gm_plan_step_name(gm_plan_step step);

/* What ways to choose bits measure: nothing, errors of single modules or of
   blocks, also the KL of whole quantized models, also its gradients. */
typedef enum {
    GM_MEASURES_NOTHING, GM_MEASURES_BLOCKS, GM_MEASURES_MODELS,
    GM_MEASURES_GRADIENTS
} gm_measures;

/* What is to be done.  base: bytes held before it.  stored: bytes of a weight
   in the checkpoint.  candidates, learns, models: whether they are made. */
typedef struct {
    gm_config config;
    gm_recipe recipe;
    gm_fit_options fit;
    double model_bytes, base, stored;
    bool candidates, learns, models;
    gm_measures rivals;
    int budgets, uniforms;      /* measured beside the original */
    long windows, window;       /* of the evaluation text; 0: none */
    long group;                 /* windows whose states are held; 0: all */
} gm_plan;
/* memory: the process's peak in that step; 0: the step is not taken. */
typedef struct { double seconds; int64_t memory, disk; } gm_planned;

void gm_plan_memory(const gm_plan *plan, gm_planned step[GM_PLAN_STEPS]);
int64_t gm_plan_peak(const gm_planned step[GM_PLAN_STEPS]);
/* Fewer windows and sequences at a time (group, recipe.at_once: no result
   depends on them) until the peak is within `limit` bytes.  GM_EMEM: it can
   not; the message says which option to lower. */
gm_status gm_plan_fit(gm_plan *plan, int64_t limit, gm_error *err);
/* Adds seconds, from a calibration of about a second. */
gm_status gm_plan_time(gm_arena *arena, const gm_plan *plan,
                       gm_planned step[GM_PLAN_STEPS], gm_error *err);

/* ---------------------------------------------------------------- taylor.c
   The KL of the whole quantized model around an assignment, to second order. */

/* text: S sequences of T >= 2 tokens; teacher: the original model's h_L of
   them, [S T, d]; choice [M].  seed: of the labels that curve is drawn from. */
typedef struct {
    const gm_candidates *candidates;
    const gm_head *head;
    gm_sequences text;
    const gm_real *teacher;
    const int *choice;
    uint64_t seed;
    const gm_report *report;
} gm_expansion;

/* KL(choice, but module m at candidate k) ~ KL(choice) + slope_mk + curve_mk in
   nats, both [M, K], 0 where choice has k or m lacks it. */
gm_status gm_expand(gm_arena *arena, const gm_expansion *expansion,
                    double *slope, double *curve, gm_error *err);
/* Its work in forward passes of the model over the text, and its memory. */
long gm_expand_evaluations(void);
int64_t gm_expand_bytes(const gm_config *config, long T, int K);

/* ------------------------------------------------------------- objective.c
   What an assignment costs on a calibration text: what the rivals minimise. */

/* The original model's states of the whole text, and buffers, in the arena. */
typedef struct gm_objective gm_objective;
gm_status gm_objective_begin(gm_arena *arena, const gm_candidates *candidates,
                             const gm_sequences *text, const gm_report *report,
                             gm_objective **out, gm_error *err);

/* Work since begin or forget, in forward passes of all blocks over the text. */
double gm_objective_evaluations(const gm_objective *objective);
void gm_objective_forget(gm_objective *objective);

/* S_mk = E_l with module m alone at candidate k (gamma.c's E_l), where wanted;
   else 0.  wanted, S: [M, K]. */
gm_status gm_objective_separable(gm_objective *objective, const bool *wanted,
                                 double *S, gm_error *err);
/* D_mk = tr(dW H dW^T) / tr(W H W^T), dW = Q_mk - W_m, H = X^T X, X what
   module m sees in the original model.  0 where not wanted. */
gm_status gm_objective_gram(gm_objective *objective, const bool *wanted,
                            double *D, gm_error *err);

/* sum_l E_l with all seven modules of each block at their candidates.  Blocks
   are remembered until gm_objective_forget; memory for them: the arena. */
gm_status gm_objective_blocks(gm_objective *objective, const int *choice,
                              double *sum, gm_error *err);

/* Mean KL(original || quantized) over the text, nats.  _begin: once before. */
gm_status gm_objective_kl_begin(gm_objective *objective, gm_error *err);
gm_status gm_objective_kl(gm_objective *objective, const int *choice,
                          double *kl, gm_error *err);
/* How it changes around `choice`: gm_expand.  After _kl_begin. */
gm_status gm_objective_expand(gm_objective *objective, const int *choice,
                              uint64_t seed, double *slope, double *curve,
                              gm_error *err);

/* ---------------------------------------------------------------- search.c
   From one assignment to the next.  Candidates of a module are ordered by
   (size, k) among those allowed. */

/* The candidate next above or below k, or -1; up from -1: the smallest. */
int gm_step_up(const gm_mckp *problem, long m, int k);
int gm_step_down(const gm_mckp *problem, long m, int k);
int64_t gm_size_of(const gm_mckp *problem, const int *choice);

/* Drawn steps down until the budget holds, then drawn steps up that fit it,
   until none does. */
typedef struct { uint64_t seed, stream, counter; } gm_draws;
void gm_fill_random(const gm_mckp *problem, int *choice, gm_draws *draws);

/* What is searched.  spent: evaluations so far; `share`: what a change of one
   module costs at most, a whole assignment being 1. */
typedef struct {
    const gm_mckp *problem;
    gm_status (*cost)(void *context, const int *choice, double *cost,
                      gm_error *err);
    double (*spent)(void *context);
    void *context;
    double share, evaluations;          /* the search ends before `spent` is
                                           above `evaluations` */
    uint64_t seed;
    const gm_report *report;
} gm_search;

/* choice: a feasible start, replaced by the best assignment evaluated. */
gm_status gm_anneal(gm_arena *arena, const gm_search *search, int *choice,
                    gm_error *err);
/* starts [given, M]: first members of the population, feasible. */
gm_status gm_evolve(gm_arena *arena, const gm_search *search,
                    const int *starts, long given, uint64_t stream,
                    int *choice, gm_error *err);

/* nll[i] = -ln softmax(head(h_i))[next_i] for rows h_i, [rows, d]. */
gm_status gm_token_losses(gm_arena *arena, const gm_head *head,
                          const gm_real *h, const int32_t *next, long rows,
                          double *nll, gm_error *err);

/* ---------------------------------------------------------------- choice.c
   Multiple choice as lm-evaluation-harness does it. */

/* Context and one choice: tokens[0 .. context-1], then the choice's. */
typedef struct {
    const int32_t *tokens;
    long count, context;
    long characters, bytes;     /* of the choice's text */
} gm_pair_tokens;
typedef struct { long line, count, answer; gm_pair_tokens *pair; } gm_question;
typedef struct {
    const char *path;
    long count, pairs;          /* pairs: sum of the questions' counts */
    gm_question *question;
} gm_questions;

/* One JSON object a line: {"context": "...", "choices": ["...", ...],
   "answer": index}.  The text is context, delimiter (the harness has one
   space), choice.  positions: the model's longest input; of longer ones the
   front is cut off.  No BOS. */
gm_status gm_questions_read(gm_arena *arena, const char *path,
                            const gm_tokenizer *tokenizer, long positions,
                            const char *delimiter, gm_questions *out,
                            gm_error *err);

/* A model, or (choice not NULL) its candidates. */
typedef struct {
    const gm_model *model;
    const gm_candidates *candidates;
    const int *choice;
    const gm_head *head;
} gm_scored_model;

/* out[pairs]: ln p(choice | context), question by question. */
gm_status gm_questions_likelihoods(gm_arena *arena, const gm_scored_model *m,
                                   const gm_questions *questions,
                                   const gm_report *report, double *out,
                                   gm_error *err);

/* Shares of questions whose answer has the largest ln p (acc), ln p divided by
   the choice's characters (acc_norm) or bytes (acc_bytes); of equal ones the
   first counts.  Errors: standard errors over questions. */
typedef struct {
    long questions;
    double acc, acc_error, acc_norm, acc_norm_error, acc_bytes,
           acc_bytes_error;
} gm_accuracy;
void gm_questions_score(const gm_questions *questions,
                        const double *likelihood, gm_accuracy *out);

/* ------------------------------------------------------------------ plot.c
   Series of points as text and as SVG, legible in black and white. */

/* letter: in the text plot; 0: a, b, ... in order.  line: SVG joins the points
   in the order given. */
typedef struct {
    const char *name;
    char letter;
    bool line;
    long count;
    const double *x, *y;
} gm_series;
/* At most 26 series.  Values must be finite, on a log axis positive. */
typedef struct {
    const char *title, *x_label, *y_label;      /* labels with their units */
    bool log_x, log_y;
    const gm_series *series;
    long count;
} gm_plot;
/* width x height characters (at least 40 x 8) and a legend, in the arena. */
gm_status gm_plot_text(gm_arena *arena, const gm_plot *plot, long width,
                       long height, const char **out, gm_error *err);
gm_status gm_plot_svg(gm_arena *arena, const gm_plot *plot, const char *path,
                      gm_error *err);

/* ---------------------------------------------------------------- rivals.c
   The other ways to choose bits, on the same candidates, table of sizes and
   budget as GAMMA: docs/rivals.md.  Every answer is within the budget and
   depends on options, method and budget alone. */

typedef enum {
    GM_UNIFORM,         /* the most bits that fit everywhere                 */
    GM_RANDOM,          /* seeded                                            */
    GM_FIRST_HIGH,      /* more bits to the first blocks                     */
    GM_LAST_HIGH,
    GM_GREEDY,          /* separable errors, by marginal gain per size       */
    GM_GRAM,            /* per-linear output error, exact solver             */
    GM_SEPARABLE,       /* per-block separable error S_mk, exact solver      */
    GM_CLOSED_FORM,     /* BAQ's formula per module, rounded to candidates   */
    GM_ANNEAL,          /* simulated annealing on the block objective        */
    GM_EVOLVE,          /* evolutionary search on the block objective        */
    GM_EVOLVE_KL,       /* the same on end-to-end KL                         */
    GM_LEARNED,         /* GAMMA's scores, exact solver                      */
    GM_REFINED,         /* the same, scores corrected by end-to-end KL       */
    GM_METHODS
} gm_method;
const char *gm_method_name(gm_method method);   /* "uniform" ... "gamma" */
gm_measures gm_method_measures(gm_method method);

/* What all methods share.  text: calibration, never the evaluation text. */
typedef struct {
    const gm_candidates *candidates;
    gm_sequences text;
    const gm_scores *learned;   /* GAMMA's; NULL: GM_LEARNED and GM_REFINED
                                   are refused */
    long evaluations;           /* most evaluations of a search, >= 1        */
    uint64_t seed;
} gm_rivals_options;

/* evaluations: forward passes of the model, or of all its blocks, over the
   text; parts of one counted as such.  What a method would spend alone: errors
   measured for an earlier call are counted again, in both. */
typedef struct { double evaluations, seconds; } gm_effort;

typedef struct gm_rivals gm_rivals;     /* sizes; errors measured so far */
gm_status gm_rivals_begin(gm_arena *arena, const gm_rivals_options *options,
                          const gm_report *report, gm_rivals **out,
                          gm_error *err);
/* choice [M]; GM_EINFEASIBLE when not even the least sizes fit. */
gm_status gm_rivals_choose(gm_rivals *rivals, gm_method method,
                           const gm_budget *budget, int *choice,
                           gm_effort *effort, gm_error *err);
/* GM_REFINED, and between what: `start` [M], the optimum of `learned`, and
   `choice`, that of `score` [M, K] (all the caller's); their KL on the text, in
   nats a token. */
typedef struct { int *start; double *score, kl_before, kl; } gm_refined;
gm_status gm_rivals_refine(gm_rivals *rivals, const gm_budget *budget,
                           int *choice, gm_refined *out, gm_effort *effort,
                           gm_error *err);
/* The table that budgets are parsed against: sizes, scores zero. */
const gm_scores *gm_rivals_table(const gm_rivals *rivals);

/* --------------------------------------------------------------- compare.c
   The table of `gamma compare`, kept in a directory: docs/formats.md. */

/* One method at one budget.  run: hash of all that the rows of one comparison
   share; key: of that, method and budget.  above: mean over windows of KL minus
   gamma's at the same budget (if paired), with its standard error. */
typedef struct {
    const char *method, *quantizer, *budget, *convention, *run, *key;
    double code_bits, effective_bits;
    int64_t bytes;
    double perplexity, nll, nll_error, kl, kl_error, top1, top1_error;
    double above, above_error, evaluations, seconds;
    bool paired;
    long windows;
    double *window_kl;          /* [windows] */
} gm_compared;
enum { GM_ROW_TEXT = 512 };
extern const char gm_comparison_columns[];      /* those of a row as text */
void gm_compared_text(const gm_compared *row, char text[GM_ROW_TEXT]);

/* All rows of DIR/compare.tsv in the order in which they were measured. */
typedef struct {
    const char *dir, *path;
    long count, room;
    gm_compared *row;
} gm_comparison;
/* No file: no rows.  One that is damaged is an error. */
gm_status gm_comparison_open(gm_arena *arena, const char *dir,
                             gm_comparison *out, gm_error *err);
const gm_compared *gm_comparison_find(const gm_comparison *c,
                                      const char *key);
/* Appends the row with what was measured and writes the file anew. */
gm_status gm_comparison_add(gm_arena *arena, gm_comparison *c,
                            const gm_compared *row, const gm_measure *m,
                            gm_error *err);
/* KL against size, a series for each method. */
gm_status gm_comparison_series(gm_arena *arena, const gm_compared *const *rows,
                               long count, gm_convention in, gm_plot *out,
                               gm_error *err);

/* ------------------------------------------------------------------ dump.c
   What one step of Stage I saw, as a safetensors file; docs/verify.md lists
   every name with its equation and shape. */
typedef struct {
    const char *only;       /* "PATTERN,...", '*' for anything, or NULL       */
    bool detail;            /* also what happens inside the original blocks   */
    int64_t limit;          /* bytes above which large families are left out
                               when `only` is NULL                            */
} gm_dump_options;

/* Takes the next step of the fit and writes what it saw to `path` and its
   scalars to the same name with .tsv.  Memory is one tensor beside the fit's;
   the size is reported before anything is written. */
gm_status gm_dump_step(gm_arena *arena, gm_fit *fit,
                       const gm_dump_options *options, const char *path,
                       const gm_report *report, gm_error *err);

/* Whether `name` matches one of "PATTERN,...". */
bool gm_name_matches(const char *patterns, const char *name);

/* ---------------------------------------------------------------- verify.c
   Compares two dumps in the order of computation; tolerances are derived per
   quantity (docs/verify.md). */

typedef enum { GM_PASSES, GM_DEPARTS, GM_ABSENT } gm_outcome;

/* One name.  Errors are those of the worst element: the one with the largest
   error in units of its tolerance.  `excess` is that ratio (> 1 departs),
   infinite for NaN and for other shapes. */
typedef struct {
    const char *name, *family;
    gm_outcome outcome;
    int64_t elements, worst, differing;     /* differing: above tolerance    */
    double ours, theirs, absolute, relative, ulp, tolerance, excess;
    const char *unit;       /* what `relative` is relative to                */
    const char *why;        /* derivation of the tolerance                   */
    const char *problem;    /* shapes or types that cannot be compared       */
    const gm_tensor *a, *b;                 /* NULL: absent                  */
} gm_verdict;

typedef struct {
    gm_verdict *verdict;    /* in the order of computation                   */
    long count, compared, failed, first;    /* first that departs, or -1     */
    long hints;             /* causes that the data point to, likeliest first */
    const char *hint[8];
} gm_verification;

/* tolerances: "NAME=FACTOR,..." or NULL; NAME may hold '*'.
   GM_EDIFFER: something departs; GM_EINPUT: nothing was compared. */
gm_status gm_verify(gm_arena *arena, const gm_tensors *ours,
                    const gm_tensors *theirs, const char *tolerances,
                    gm_verification *out, gm_error *err);

/* "[3, 5]": element i of a tensor. */
const char *gm_index_text(const gm_tensor *tensor, int64_t i, char text[96]);
/* All elements of a tensor of any number type, in double. */
gm_status gm_elements(gm_arena *arena, const gm_tensor *tensor, double **out,
                      gm_error *err);

/* ----------------------------------------------------------------- signs.c
   What usually causes a departure, told from the numbers. */

/* Fills out->hint for the first verdict that departs.  model: NULL, or the
   original, with which mistakes inside a block are tried out. */
gm_status gm_recognise(gm_arena *arena, const gm_tensors *ours,
                       const gm_tensors *theirs, const gm_model *model,
                       gm_verification *out, gm_error *err);

/* ----------------------------------------------------------------- main*.c
   The command line, nothing else.  Each command is a table of options and a
   function; options, operands and results all go through these. */

enum { GM_MAX_OPTIONS = 64, GM_MAX_OPERANDS = 8 };

/* "--steps", "N" (NULL: a flag), "60" (NULL: none), what it does: formula,
   range.  A table ends with a NULL name; the help of that row, if not NULL,
   names a command whose options follow. */
typedef struct { const char *name, *value, *fallback, *help; } gm_option;

typedef struct gm_call gm_call;
typedef struct gm_command {
    const char *name, *operands, *summary, *about;
    int least_operands, most_operands;
    const gm_option *options;
    gm_status (*run)(gm_call *call);
} gm_command;

/* One invocation.  stdout gets results (gm_result_*), stderr talk. */
struct gm_call {
    const gm_command *command;
    const char *value[GM_MAX_OPTIONS];      /* by position in options */
    bool given[GM_MAX_OPTIONS];
    const char *operand[GM_MAX_OPERANDS];
    int operands;
    bool quiet, json, profile;
    FILE *to;                   /* where results go; NULL: stdout */
    gm_arena arena;
    gm_error err;
    gm_report report;
};

/* Value of an option of this command: its argument, else its fallback, else
   NULL.  A name that the command's table lacks is our own mistake (assert). */
const char *gm_arg(const gm_call *call, const char *name);
bool gm_arg_given(const gm_call *call, const char *name);
/* Another fallback for an option that was not given. */
void gm_arg_default(gm_call *call, const char *name, const char *value);
gm_status gm_arg_long(gm_call *call, const char *name, long least, long most,
                      long *out);
gm_status gm_arg_double(gm_call *call, const char *name, double least,
                        double most, double *out);

/* The one table printer.  Columns are named once ("method\tbytes\tppl"); each
   row is a format giving tab-separated cells.  Prints TSV; aligned columns
   when stdout is a terminal; an array of objects with --json.  Numbers are
   those cells that read as JSON numbers.  Control characters in cells are
   shown as '?'. */
void gm_result_begin(gm_call *call, const char *columns);
void gm_result_row(gm_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void gm_result_end(gm_call *call);

/* main_profile.c: --profile's table on stderr; `wall` seconds are explained. */
void gm_call_profile(gm_call *call, double wall);

/* A line of talk on stderr, unless --quiet. */
void gm_talk(const gm_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* An output directory: not the model's own, made if need be, and ours alone
   until the process ends. */
gm_status gm_call_claim(gm_call *call, const char *dir);

/* What several commands do alike (main_fit.c).  Tokens come from a text or a
   .npy file, whichever is not NULL; ids are checked against the vocabulary. */
gm_status gm_call_tokens(gm_call *call, const gm_model *model, const char *text,
                         const char *npy, int32_t **tokens, long *count);
/* S sequences of T of them, as gm_calibration spreads them. */
gm_status gm_call_calibration(gm_call *call, const gm_model *model,
                              const char *text, const char *npy, long S, long T,
                              gm_sequences *out);
gm_status gm_call_recipe(gm_call *call, gm_recipe *recipe);
/* --quantizer, --scales, --hessian, --damping, --act-order and --sequential,
   where given, into a recipe; a command that calls this has all of them. */
gm_status gm_call_quantizer(gm_call *call, gm_recipe *recipe);
/* --external FILE, where given: the recipe becomes its candidates with these
   bits ("2,3,4"; NULL: as --bits says, else all it has). */
gm_status gm_call_external(gm_call *call, const gm_model *model,
                           const char *bits, gm_recipe *recipe);
gm_status gm_call_fit_options(gm_call *call, const gm_recipe *recipe,
                              gm_fit_options *out);
/* --allow into candidates->allowed; the target B within what is left. */
gm_status gm_call_allow(gm_call *call, gm_candidates *candidates,
                        gm_fit_options *options);
/* arena: for *fit, which may be much more than the scores. */
gm_status gm_call_fit(gm_call *call, gm_arena *arena,
                      const gm_candidates *candidates,
                      const int32_t *tokens, const gm_fit_options *options,
                      const char *dir, bool resume, gm_fit *fit);
/* What was learned, also as DIR/scores.tsv. */
gm_status gm_call_scores(gm_call *call, const gm_fit *fit, const char *dir,
                         gm_scores *out);

/* main_quantize.c: an allocation file, the candidates it was made for, the
   candidate of each module.  Reads the options of GM_CHOSEN_OPTIONS. */
typedef struct {
    gm_allocation allocation;
    gm_recipe recipe;
    gm_candidates candidates;
    gm_scores table;
    int *choice;
} gm_chosen;
gm_status gm_call_chosen(gm_call *call, gm_model *model, const char *path,
                         gm_chosen *out);

/* main_eval.c: an evaluation text cut into windows by --window and --windows;
   the head and the original's states are there once something was measured. */
typedef struct {
    gm_text text;
    gm_head head;
    long group;                 /* windows whose states are held; 0: all      */
    long held;                  /* 1 + first of those in `original`; 0: none  */
    gm_real *original, *student;        /* [group window, d]; NULL: not yet   */
} gm_measuring;
gm_status gm_call_windows(gm_call *call, const gm_model *model,
                          const char *path, const char *npy,
                          gm_measuring *out);
/* The candidates at `choice` against the original; choice NULL: the original
   alone. */
gm_status gm_call_measure(gm_call *call, const gm_model *model,
                          const gm_candidates *candidates, const int *choice,
                          gm_measuring *on, gm_measure *out);

/* main_solve.c: which one of `count` options that say a budget was given. */
gm_status gm_call_way(gm_call *call, const char *const *ways, int count,
                      const char **way);

/* main_compare.c: the hashes of model and candidates, where scores name them,
   are these (NULL: not known yet). */
gm_status gm_call_match(gm_call *call, const gm_scores *scores,
                        const char *model, const char *candidates);

/* main_run.c: each of --budgets, in --in, checked to be within reach (sizes are
   known without scores). */
gm_status gm_call_budgets(gm_call *call, const gm_scores *table);

/* main_plan.c: says how much memory what *plan asks for will take; with
   --max-memory, it is made to fit, or refused.  Sizes and base: filled here. */
gm_status gm_call_plan(gm_call *call, const gm_model *model, gm_plan *plan);
/* How many --budgets there are, and different uniform choices beside them. */
int gm_call_uniforms(gm_call *call, const gm_recipe *recipe, int *budgets);
#define GM_MEMORY_OPTION                                                      \
    {"--max-memory", "SIZE", NULL, "such as 2G or 1.5GiB: fewer sequences "   \
     "and windows at a time, to the same results, as planned to fit; what needs " \
     "more is refused before it starts, naming the option to lower"}

/* Option rows that two commands share.  Of quantize and eval: */
#define GM_CHOSEN_OPTIONS                                                     \
    {"--bits", "LIST", NULL, "candidates (those the allocation was made "     \
     "for)"},                                                                 \
    {"--group", "N", NULL, "columns per scale, 1..512 (as the allocation "    \
     "was made for, else 128)"},                                              \
    {"--quantizer", "NAME", NULL, "rtn or gptq (as the allocation was made "  \
     "for, else rtn), see gamma fit"},                                        \
    {"--scales", "NAME", NULL, "minmax or mse, see gamma fit"},               \
    {"--hessian", "NAME", NULL, "of gptq: token, plain or attention, see "    \
     "gamma fit"},                                                            \
    {"--damping", "R", NULL, "of gptq, see gamma fit"},                       \
    {"--act-order", NULL, NULL, "of gptq, see gamma fit"},                    \
    {"--sequential", NULL, NULL, "of gptq, see gamma fit"},                   \
    {"--external", "FILE", NULL, "the file given to gamma fit --external"},   \
    {"--calib", "FILE", NULL, "make gptq's candidates from this text, if "    \
     "they are not in the cache (else: as gamma fit left them there)"},       \
    {"--sequences", "S", "16", "of --calib, as given to gamma fit"},          \
    {"--length", "T", "512", "of --calib, as given to gamma fit"},            \
    {"--cache", "DIR", NULL, "where the candidate file is or goes (beside "   \
     "the allocation)"},                                                      \
    GM_MEMORY_OPTION

/* Of run and compare: candidates and Stage I, as gamma fit explains them. */
#define GM_LEARN_OPTIONS                                                      \
    {"--bits", "LIST", "2,3,4", "candidates, see gamma fit, like all below"}, \
    {"--group", "N", "128", "columns per scale"},                             \
    {"--quantizer", "NAME", "rtn", "rtn or gptq"},                            \
    {"--scales", "NAME", "minmax", "minmax or mse"},                          \
    {"--hessian", "NAME", "token", "of gptq: token, plain or attention"},     \
    {"--damping", "R", "0.01", "of gptq"},                                    \
    {"--act-order", NULL, NULL, "of gptq"},                                   \
    {"--sequential", NULL, NULL, "of gptq"},                                  \
    {"--external", "FILE", NULL, "another tool's candidates, see gamma fit"}, \
    {"--sequences", "S", "16", "calibration sequences"},                      \
    {"--length", "T", "512", "tokens in a calibration sequence"},             \
    {"--batch", "N", "4", "sequences in one step"},                           \
    {"--steps", "N", NULL, "steps (--score scaled: 15, else 60)"},            \
    {"--recipe", "NAME", "default", "default or paper"},                      \
    {"--relaxation", "NAME", "soft-corrected", "soft, soft-corrected, "       \
     "gumbel or hard"},                                                       \
    {"--norm", "NAME", "token", "token, robust, plain, energy or update"},    \
    {"--first-weight", "W", "1", "of a sequence's first position"},           \
    {"--score", "NAME", NULL, "theta, loss or scaled"},                       \
    {"--train-bits", "B", NULL, "budget while learning (the middle)"},        \
    {"--alpha", "A", "0.1", "entropy weight"},                                \
    {"--rho", "R", "10", "penalty"},                                          \
    {"--eta", "E", "0.02", "multiplier ascent"},                              \
    {"--tau", "T", NULL, "temperature (1; gumbel and hard: 2)"},              \
    {"--tau-last", "T", NULL, "gumbel, hard: of the last step (0.5)"},        \
    {"--rate", "R", "0.1", "Adam's step"},                                    \
    {"--tail", "F", "0.33", "share of steps averaged"},                       \
    {"--seed", "N", "1", "seed"}

extern const gm_command gm_command_info, gm_command_fit, gm_command_solve,
    gm_command_check, gm_command_quantize, gm_command_eval, gm_command_run,
    gm_command_dump, gm_command_verify, gm_command_baq, gm_command_compare,
    gm_command_plan, gm_command_refine;

#endif
