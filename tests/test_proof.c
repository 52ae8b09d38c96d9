/* test_proof.c: every small program of random kinds gets a proof whose bound is
   what enumeration finds (or that there is nothing), which audit/vipr.c and
   tools/check_vipr.py, two checkers with nothing in common, accept; tampered
   proofs are refused by both; what both say of damaged ones agrees, and what
   they accept is true.  Needs python3.  KEEP=1 leaves the proofs, ok-*.vipr and
   bad-*.vipr, in build/test/proof-work for other checkers (tools/vipr.sh).
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit/audit.h"
#include "test.h"

#include <inttypes.h>

#define WORK "build/test/proof-work"

static uint64_t seed, drawn;
static long below(long n) {
    return (long)(gm_uniform(27, seed, drawn++) * (double)n);
}

/* A file, what the C checker says of it, what the other must say. */
static struct proof { char path[64], why[256]; bool good; } proof[8192];
static long proofs;

static struct proof *new_proof(const char *kind) {
    struct proof *t = &proof[proofs++];
    if (proofs > 8192) exit(1);
    snprintf(t->path, sizeof t->path, WORK "/%s-%04ld.vipr", kind, proofs);
    return t;
}

/* ---------------------------------------------------------------- instances */

static const char *const odd_name[] = {
    "model.layers.0.mlp.up_proj", "a b", "a_b", "a~20b", "caf\xC3\xA9", "a",
    "a_2", "e5", "x+y:z", ("a-name-that-is-far-too-long-for-some-readers-of-"
    "the-LP-format-and-so-becomes-a-number-alone")};

/* M modules, K candidates, some missing or not allowed, some fused, rows. */
static void make_problem(gm_arena *a, long M, int K, long rows, bool exact,
                         gm_scores *s, gm_mckp *p) {
    static const int bits[] = {2, 3, 4, 8};
    int64_t least = 0, most = 0;
    const long unit = below(3) ? 1 : 3, spread = below(4) ? 1000 : 3;
    gm_scores_new(a, M, K, bits, s);
    gm_mckp_new(a, M, K, p);
    p->scores = s, p->exact = exact, p->rows = rows;
    p->row = gm_alloc(a, GM_MAX_ROWS, sizeof *p->row);
    if (below(2)) p->group = gm_alloc(a, (size_t)M, sizeof *p->group);
    for (long r = 0; r < rows; r++) {
        p->row[r].name = "row";
        p->row[r].cost = gm_alloc(a, (size_t)(M * K), sizeof(int64_t));
        p->row[r].limit = below(8 * M) - M;
    }
    for (long m = 0; m < M; m++) {
        int64_t small = INT64_MAX, large = INT64_MIN;
        s->name[m] = odd_name[m % 10];
        if (p->group) p->group[m] = below(3) - 1;
        for (int k = 0; k < K; k++) {
            const long i = m * K + k;
            p->size[i] = unit * (1 + below(9) + 3 * k);
            p->score[i] = below(spread) - spread / 4 + spread * (K - k) / 3;
            s->bytes[i] = k && !below(8) ? -1 : 1;
            p->allowed[i] = s->bytes[i] >= 0 && below(10);
            for (long r = 0; r < rows; r++)
                p->row[r].cost[i] = below(12) - 2;
            if (p->size[i] < small) small = p->size[i];
            if (p->size[i] > large) large = p->size[i];
        }
        least += small, most += large;
    }
    p->budget = least - 2 + below((long)(most - least) + 3);
}

/* Every byte of a name can be read back from its spelling; no two are one. */
static void test_names(void) {
    static const char *const expected[] = {
        "x_model.layers.0.mlp.up_proj_2", "x_a~20b_2", "x_a_b_2", "x_a~7E20b_2",
        "x_caf~C3~A9_2", "x_a_2", "x_a_2_2", "x_e5_2", "x_x~2By~3Az_2",
        "x_~~9_2"};
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_program q;
    seed = drawn = 0;
    make_problem(&a, 10, 2, 0, false, &s, &p);
    gm_program_build(&a, &p, &q);
    for (int m = 0; m < 10; m++)
        CHECK_TEXT(q.name[q.variable[2 * m]], expected[m]);
    gm_arena_free(&a);
}

/* The least objective and a choice that has it; false: nothing is feasible. */
static bool enumerate(const gm_mckp *p, int *best, int64_t *value) {
    int choice[16] = {0};
    bool found = false;
    for (;;) {
        int64_t size = 0, score = 0;
        bool good = true;
        for (long m = 0; m < p->M; m++) {
            const long i = m * p->K + choice[m];
            size += p->size[i], score += p->score[i];
            good = good && p->allowed[i];
            for (long n = 0; p->group && n < m; n++)
                good = good && (p->group[m] < 0 || p->group[m] != p->group[n] ||
                                choice[m] == choice[n]);
        }
        good = good && (p->exact ? size == p->budget : size <= p->budget);
        for (long r = 0; r < p->rows; r++) {
            int64_t cost = 0;
            for (long m = 0; m < p->M; m++)
                cost += p->row[r].cost[m * p->K + choice[m]];
            good = good && cost <= p->row[r].limit;
        }
        if (good && (!found || score < *value)) {
            found = true, *value = score;
            memcpy(best, choice, sizeof choice);
        }
        long m = 0;
        while (m < p->M && ++choice[m] == p->K) choice[m++] = 0;
        if (m == p->M) return found;
    }
}

/* Fractions that can be reduced: viprchk takes no others. */
static long unreduced(const char *text) {
    long found = 0;
    for (const char *bar = text; (bar = strchr(bar, '/')); bar++) {
        const char *from = bar;
        while (from[-1] >= '0' && from[-1] <= '9') from--;
        long a = strtol(from, NULL, 10), b = strtol(bar + 1, NULL, 10);
        while (b) {
            const long rest = a % b;
            a = b, b = rest;
        }
        found += a != 1;
    }
    return found;
}

static void test_random(void) {
    long none = 0, split = 0;
    for (seed = 1; seed <= 600; seed++) {
        gm_arena a = {0};
        gm_scores s;
        gm_mckp p;
        gm_proven t = {0}, u = {0};
        int choice[16];
        int64_t value = 1;
        drawn = 0;
        const long M = 1 + below(6), rows = below(3) ? 0 : 1 + below(2);
        const int K = 2 + (int)below(3);
        make_problem(&a, M, K, rows, below(3) == 0, &s, &p);
        const bool found = enumerate(&p, choice, &value);
        struct proof *file = new_proof("ok");
        file->good = true;
        gm_status status = STATUS(t = gm_proof_write(&a, &p, found ? choice
                                                     : NULL, file->path));
        CHECK(status == GM_OK && t.none == !found && t.lower == value &&
              t.upper == value, "seed %lu: %s: %ld of %ld, %ld nodes",
              (unsigned long)seed, err.text, (long)t.lower, (long)value,
              t.nodes);
        status = STATUS(u = gm_proof_check(&a, file->path, &p));
        CHECK(status == GM_OK && u.none == !found &&
              (u.none || (u.lower == value && u.upper == value)),
              "seed %lu: %s", (unsigned long)seed, err.text);
        const char *text = gm_file_text(&a, file->path, NULL);
        CHECK(unreduced(text) == 0, "%s", file->path);
        none += !found, split += t.nodes > 1;
        gm_arena_free(&a);
    }
    CHECK(none > 100 && none < 300 && split > 100, "%ld infeasible, %ld split",
          none, split);
}

/* An answer that is not the best: the bound stays below the optimum; that
   nothing is feasible is not proven where something is. */
static void test_worse(void) {
    for (seed = 1001; seed <= 1100; seed++) {
        gm_arena a = {0};
        gm_scores s;
        gm_mckp p, q;
        gm_proven t = {0};
        int choice[16];
        int64_t value, worst;
        drawn = 0;
        make_problem(&a, 4, 3, 0, false, &s, &p);
        if (!enumerate(&p, choice, &value)) {
            gm_arena_free(&a);
            continue;
        }
        struct proof *file = new_proof("ok");
        STATUS(t = gm_proof_write(&a, &p, NULL, file->path));
        CHECK(t.none && t.lower < t.upper && !gm_exists(file->path),
              "seed %lu: infeasible, it says", (unsigned long)seed);
        file->good = true;
        q = p;                                  /* the worst that is feasible */
        q.score = gm_alloc(&a, 12, sizeof *q.score);
        for (int i = 0; i < 12; i++) q.score[i] = -p.score[i];
        enumerate(&q, choice, &worst);
        const gm_status status =
            STATUS(t = gm_proof_write(&a, &p, choice, file->path));
        CHECK(status == GM_OK && t.upper == -worst && t.lower <= value,
              "seed %lu: %ld, optimum %ld", (unsigned long)seed, (long)t.lower,
              (long)value);
        CHECK(STATUS(gm_proof_check(&a, file->path, &p)) == GM_OK, "%s",
              err.text);
        gm_arena_free(&a);
    }
}

/* --------------------------------------------------------------- tamperings */

/* Word `word` (from 0; below 0: from the end) of the nth line that begins with
   `line` (below 0: from the end) becomes what `to` says: +N and -N add, "~" is
   removed, "/" halves, else it is that word.  word 99: the whole line. */
static const struct { const char *line; int nth, word; const char *to; }
tampering[] = {
    {"RTP", 0, 2, "+1"}, {"RTP", 0, 3, "-1"}, {"RTP", 0, 1, "infeas"},
    {"RTP", 0, 2, "~"}, {"RTP", 0, 99, "RTP infeas"}, {"SOL", 0, 1, "0"},
    {"SOL", 0, 1, "2"}, {"SOL", 0, 1, "-1"}, {"DER", 0, 1, "-1"},
    {"DER", 0, 1, "+1"}, {"DER", 0, 1, "0"},
    /* the solution */
    {"assignment", 0, 1, "-1"}, {"assignment", 0, 2, "+1"},
    {"assignment", 0, 3, "0"}, {"assignment", 0, 3, "2"},
    {"assignment", 0, 3, "1/2"}, {"assignment", 0, -2, "+1"},
    {"assignment", 0, -1, "-1"},
    /* what rows become */
    {"room", 0, 1, "G"}, {"room", 0, 1, "E"}, {"room", 0, 2, "-1"},
    {"room", 0, 3, "-1"}, {"room", 0, 4, "+1"}, {"room", 0, 5, "+1"},
    {"room", 0, 5, "-1"}, {"room", 0, -3, "+1"}, {"room", 0, -4, "-1"},
    {"room", 1, 2, "-1"}, {"room", 1, 5, "+1"}, {"room", 1, -3, "+1"},
    {"room", 0, 99, ""}, {"room", 1, 99, ""},
    /* leaves: multipliers, references, claims */
    {"leaf", 0, 2, "+1"}, {"leaf", 0, 1, "L"}, {"leaf", 0, 1, "E"},
    {"leaf", 0, 3, "0"}, {"leaf", 0, 5, "uns"},
    {"leaf", 0, 5, "asm"}, {"leaf", 0, 5, "sol"}, {"leaf", 0, 6, "-1"},
    {"leaf", 0, 6, "+1"}, {"leaf", 0, 7, "+1"}, {"leaf", 0, 8, "+1"},
    {"leaf", 0, 8, "-1"}, {"leaf", 0, 8, "/"}, {"leaf", 0, 8, "0"},
    {"leaf", 0, 9, "-1"}, {"leaf", 0, 10, "+1"}, {"leaf", 0, 12, "+1"},
    {"leaf", 0, -3, "+1"}, {"leaf", 0, -3, "0"}, {"leaf", 0, -4, "-1"},
    {"leaf", 1, 8, "+1"}, {"leaf", 1, 10, "+1"},
    {"leaf", -1, 8, "-1"}, {"leaf", -1, -3, "+1"},
    {"leaf", 0, 99, ""}, {"leaf", 1, 99, ""}, {"leaf", -1, 99, ""},
    {"leaf", 0, 4, "("}, {"leaf", 0, -2, "~"}, {"leaf", 0, -2, "]"},
    /* assumptions */
    {"asm", 0, 1, "G"}, {"asm", 0, 1, "E"}, {"asm", 0, 2, "+1"},
    {"asm", 0, 4, "+1"}, {"asm", 0, 5, "0"}, {"asm", 0, 5, "2"},
    {"asm", 1, 2, "+1"},
    {"asm", 0, 99, ""}, {"asm", 1, 99, ""}, {"asm", -1, 99, ""},
    {"asm", -1, 2, "+1"}, {"asm", 0, -3, "lin"},
    /* where branches join */
    {"node", 0, 2, "+1"}, {"node", 0, 6, "-1"}, {"node", 0, 7, "-1"},
    {"node", 0, 8, "-1"}, {"node", 0, 9, "-1"}, {"node", 0, 9, "+1"},
    {"node", -1, 1, "L"}, {"node", -1, 1, "E"}, {"node", -1, 3, "0"},
    {"node", -1, 2, "+1"}, {"node", -1, 5, "lin"}, {"node", -1, 5, "asm"},
    {"node", -1, 6, "+1"}, {"node", -1, 7, "+1"}, {"node", -1, 8, "+1"},
    {"node", -1, 9, "+1"}, {"node", 0, 99, ""}, {"node", -1, 99, ""}};

/* The begin of the nth line from RTP on that begins with `line`, or NULL. */
static char *find_line(char *text, const char *line, int nth) {
    char *hit[2048], *at = strstr(text, "\nRTP") + 1;
    long hits = 0;
    for (; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, line, strlen(line)) == 0 && hits < 2048)
            hit[hits++] = at;
    if (nth < 0) nth += (int)hits;
    return nth >= 0 && nth < hits ? hit[nth] : NULL;
}

/* The text with line[word] changed. */
static char *tampered(gm_arena *a, char *text, char *line, int word,
                      const char *to) {
    char *end = strchr(line, '\n'), *at = line, new[64];
    if (word == 99)
        return gm_format(a, "%.*s%s%s", (int)(line - text), text, to,
                         *to ? end : end + 1);
    long words = 1;
    for (char *c = line; c < end; c++) words += *c == ' ';
    if (word < 0) word += (int)words;
    for (; word > 0; word--) at = strchr(at, ' ') + 1;
    const size_t n = strcspn(at, " \n");
    const char *bar = memchr(at, '/', n);
    snprintf(new, sizeof new, "%s", to);
    if (strchr("+-", *to) && to[1])
        snprintf(new, sizeof new, "%ld%.*s", strtol(at, NULL, 10) +
                 strtol(to, NULL, 10), bar ? (int)(at + n - bar) : 0,
                 bar ? bar : "");
    if (*to == '/' && bar) snprintf(new, sizeof new, "%.*s", (int)n - 2, at);
    if (*to == '/' && !bar) snprintf(new, sizeof new, "%.*s/2", (int)n, at);
    if (*to == '~') *new = 0;
    return gm_format(a, "%.*s%s%s", (int)(at - text), text, new, at + n);
}

/* Writes it and asks the C checker. */
static struct proof *judge(gm_arena *a, const char *kind, const char *text,
                           const gm_mckp *p, gm_proven *t) {
    struct proof *file = new_proof(kind);
    FILE *f = fopen(file->path, "w");
    fputs(text, f);
    fclose(f);
    const gm_status status = STATUS(*t = gm_proof_check(a, file->path, p));
    CHECK(status == GM_OK || status == GM_EDIFFER, "status %d: %s", status,
          err.text);
    file->good = status == GM_OK;
    snprintf(file->why, sizeof file->why, "%.255s", err.text);
    return file;
}

/* A proof with branches, fused modules, a pin and a resource, of which the text
   is left; its problem. */
static char *make_rich(gm_arena *a, uint64_t from, bool exact, gm_scores *s,
                       gm_mckp *p, int64_t *value) {
    int choice[16];
    for (seed = from;; seed++) {
        gm_proven t = {0};
        drawn = 0;
        make_problem(a, 8, 3, exact ? 0 : 1, exact, s, p);
        if (!p->group || !enumerate(p, choice, value)) continue;
        STATUS(t = gm_proof_write(a, p, choice, WORK "/rich.vipr"));
        if (t.nodes >= 7) return gm_file_text(a, WORK "/rich.vipr", NULL);
    }
}

static void test_tampered(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_proven t;
    int64_t value;
    for (int exact = 0; exact < 2; exact++) {
        char *text = make_rich(&a, exact ? 3000 : 2000, exact, &s, &p, &value);
        CHECK(judge(&a, "ok", text, &p, &t)->good, "%s", err.text);
        for (size_t i = 0; i < sizeof tampering / sizeof *tampering; i++) {
            char *line = find_line(text, tampering[i].line, tampering[i].nth);
            CHECK(line, "no line %s %d", tampering[i].line, tampering[i].nth);
            if (!line) continue;
            const char *bad = tampered(&a, text, line, tampering[i].word,
                                       tampering[i].to);
            CHECK(!judge(&a, "bad", bad, &p, &t)->good, "%s %d, word %d: %s: "
                  "accepted (%s)", tampering[i].line, tampering[i].nth,
                  tampering[i].word, tampering[i].to, proof[proofs - 1].path);
        }
    }
    gm_arena_free(&a);
}

/* Any word behind RTP becomes another: what is accepted stays true. */
static void test_damaged(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_proven t;
    int64_t value;
    long good = 0;
    for (int i = 0; i < 2000; i++) {
        static char *text;
        if (i % 200 == 0)
            text = make_rich(&a, 4000 + 100 * (uint64_t)i, i / 200 % 2, &s, &p,
                             &value);
        seed = 5000 + (uint64_t)i, drawn = 0;
        char *line = strstr(text, "\nRTP") + 1;
        for (long n = below(24); n > 0 && strchr(line, '\n')[1]; n--)
            line = strchr(line, '\n') + 1;
        static const char *const to[] = {"+1", "-1", "0", "1", "~", "L", "E",
                                         "+7", "-3", "OBJ"};
        long words = 0;
        for (char *c = line; *c != '\n'; c++) words += *c == ' ';
        const bool derived = words && strchr(line, '}') &&
                             strchr(line, '}') < strchr(line, '\n');
        const char *bad = tampered(&a, text, line, (int)below(words + !derived),
                                   to[below(10)]);
        if (judge(&a, "any", bad, &p, &t)->good) {
            good++;
            CHECK(!t.none && t.lower <= value && value <= t.upper,
                  "%s: %ld to %ld, optimum %ld", proof[proofs - 1].path,
                  (long)t.lower, (long)t.upper, (long)value);
        }
    }
    CHECK(good > 10 && good < 1000, "%ld of 2000 accepted", good);
    gm_arena_free(&a);
}

/* Derivations by hand, one for each rule that only a forger breaks.  5 x0 +
   3 x1 is least; lines 0, 1: x >= 0; 2: x0 + x1 = 1; 3: x0 + 2 x1 <= 3. */
static void test_forged(void) {
    static const struct { const char *text, *why; } forged[] = {
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 1\n"
         "f G 3 OBJ { lin 2 2 3 0 2 } -1\n", NULL},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 2\n"
         "f G 2 OBJ { lin 2 2 5/2 0 5/2 } -1\n"
         "f G 3 OBJ { rnd 3 4 1/2 2 3/2 0 1 } -1\n",
         "f does not follow from its multipliers"},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 1\n"
         "f G 3 OBJ { rnd 4 2 5/2 0 5/2 1 1/2 3 0 } -1\n", NULL},
        {"RTP range 4 5\nSOL 1\na 1 0 1\nDER 1\n"
         "f G 4 OBJ { lin 3 3 1 2 1 0 3 } -1\n",
         "the multiplier of b0 has the wrong sign"},
        {"RTP range 4 5\nSOL 1\na 1 0 1\nDER 1\n"
         "f G 4 OBJ { lin 3 0 3 2 1 3 1 } -1\n",
         "the multiplier of budget has the wrong sign"},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 2\n"
         "e E 1 2 0 1 1 1 { rnd 1 2 1 } -1\n"
         "f G 3 OBJ { lin 2 2 3 0 2 } -1\n", "an equation is not rounded"},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 1\n"
         "f G 3 OBJ { lin 3 2 1 2 2 0 2 } -1\n", "2 stands there twice"},
        {"RTP range 4 5\nSOL 1\na 1 0 1\nDER 2\n"
         "e G 4 2 1 4 1 2 { asm } -1\n"
         "f G 3 OBJ { lin 2 2 3 0 2 } -1\n", "1 stands there twice"},
        {"RTP infeas\nSOL 0\nDER 1\nf G 1 0 { lin 1 4 1 } -1\n",
         "expected a whole number from 0 to 3, found \"4\""},
        {"RTP infeas\nSOL 0\nDER 1\nf G 1 0 { lin 1 2 1/0 } -1\n",
         "expected a multiplier such as -3 or 5/8, found \"1/0\""},
        {"RTP infeas\nSOL 0\nDER 1\nf G 1 0 { lin 1 3 "
         "-170141183460469231731687303715884105727 } -1\n",
         "a sum is beyond 128 bits"},
        {"RTP infeas\nSOL 0\nDER 1\nf G 1 0 { lin 2 "
         "0 1/9223372036854775807000001 1 1/9223372036854775807000003 } -1\n",
         "a common denominator is beyond 128 bits"},
        {"RTP infeas\nSOL 0\nDER 1\nf G 1 0 { asm } -1\n",
         "the last line still assumes f"},
        {"RTP infeas\nSOL 0\nDER 1\nf G 1 0 { lin 0 } -1\n",
         "f does not follow from its multipliers"},
        {"RTP infeas\nSOL 0\nDER 1\nf E 0 0 { lin 0 } -1\n",
         "the last line, f, does not give what is to be proven"},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 3\n"
         "a L 0 1 0 1 { asm } -1\nb G 1 1 1 1 { asm } -1\n"
         "f G 3 OBJ { uns 4 4 5 5 } -1\n", "a does not give f"},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 1\n"
         "f G 3 OBJ { lin 2 2 3 0 2 } 4\n", "expected \"-1\", found \"4\""},
        {"RTP range 3 3\nSOL 1\na 1 1 1\nDER 1\n"
         "f G 3 OBJ { lin 2 2 3 0 2 } -1 2\n", "text behind the last line"}};
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_proven t;
    static const int bits[2] = {2, 3};
    gm_scores_new(&a, 1, 2, bits, &s);
    gm_mckp_new(&a, 1, 2, &p);
    s.name[0] = "m", p.scores = &s, p.budget = 3;
    p.size[0] = 1, p.size[1] = 2, p.score[0] = 5, p.score[1] = 3;
    STATUS(gm_proof_write(&a, &p, (int[]){1}, WORK "/rich.vipr"));
    char *text = gm_file_text(&a, WORK "/rich.vipr", NULL);
    *(strstr(text, "\nRTP") + 1) = 0;
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        const char *why = forged[i].why;
        /* an equation rounded to itself does no harm: viprchk lets it pass */
        const char *kind = !why ? "ok" : strstr(why, "equation") ? "any"
                                                                 : "bad";
        const struct proof *f = judge(&a, kind, gm_format(
            &a, "%s%s", text, forged[i].text), &p, &t);
        if (why) CHECK(!f->good && strstr(f->why, why), "%s", f->why);
        else CHECK(f->good, "%s", f->why);
        if (why && strstr(why, "\"-1\"")) proofs--;     /* ours alone */
    }
    gm_arena_free(&a);
}

/* A proof of one program is none of another. */
static void test_other(void) {
    gm_arena a = {0};
    gm_scores s;
    gm_mckp p;
    gm_proven t;
    int64_t value;
    char *text = make_rich(&a, 6000, false, &s, &p, &value);
    static const char expected[] =
        "not the program that the scores, the budget and the constraints give";
    for (int i = 0; i < 8; i++) {
        gm_mckp q = p;
        gm_scores r = s;
        int64_t *score = gm_alloc(&a, 24, sizeof *score);
        bool *allowed = gm_alloc(&a, 24, 1);
        long *group = gm_alloc(&a, 8, sizeof *group);
        const char **name = gm_alloc(&a, 8, sizeof *name);
        gm_row *row = gm_alloc(&a, 1, sizeof *row);
        memcpy(score, p.score, 24 * sizeof *score);
        memcpy(allowed, p.allowed, 24);
        memcpy(group, p.group, 8 * sizeof *group);
        memcpy(name, s.name, 8 * sizeof *name);
        q.score = score, q.allowed = allowed, q.group = group;
        q.scores = &r, r.name = name, *row = *p.row, q.row = row;
        if (i == 0) score[7]++;
        if (i == 1) q.budget++;
        if (i == 2) q.exact = true;
        if (i == 3) allowed[0] = !allowed[0];
        if (i == 4) group[0] = group[0] < 0 ? 0 : -1;
        if (i == 5) name[3] = "other";
        if (i == 6) row->limit--;
        if (i == 7) q.rows = 0;
        const struct proof *f = judge(&a, "other", text, &q, &t);
        CHECK(!f->good && strstr(f->why, expected), "%d: %s", i, f->why);
        proofs--;
    }
    static const char *const end[] = {"", "more\n", "\1"};
    for (int i = 0; i < 3; i++) {
        const char *longer = gm_format(&a, "%s%s", text, end[i]);
        CHECK(judge(&a, i ? "bad" : "ok", longer, &p, &t)->good == !i, "%s",
              err.text);
    }
    gm_arena_free(&a);
}

/* -------------------------------------------------------- the other checker */

/* tools/check_vipr.py says the same of every file. */
static void test_python(void) {
    char line[1024], path[512];
    long read = 0;
    FILE *list = fopen(WORK "/list", "w");
    for (long i = 0; i < proofs; i++) fprintf(list, "%s\n", proof[i].path);
    fclose(list);
    FILE *out = popen("xargs python3 tools/check_vipr.py <" WORK "/list", "r");
    for (long i = 0; i < proofs && fgets(line, sizeof line, out); i++, read++) {
        const char *verdict = strstr(line, ": ");
        snprintf(path, sizeof path, "%.*s", (int)(verdict ? verdict - line : 0),
                 line);
        const bool good = verdict && strncmp(verdict, ": accepted", 10) == 0;
        CHECK(strcmp(path, proof[i].path) == 0 && good == proof[i].good,
              "%s\n  python: %s  C: %s", proof[i].path, line, proof[i].good ?
              "accepted" : proof[i].why);
    }
    pclose(out);
    CHECK(read == proofs, "check_vipr.py (needs python3) judged %ld of %ld "
          "files", read, proofs);
}

static int test_main(void) {
    if (system("rm -rf " WORK) || STATUS(gm_make_dir(WORK))) return 1;
    test_names();
    test_random();
    test_worse();
    test_tampered();
    test_forged();
    test_other();
    test_damaged();
    test_python();
    if (!getenv("KEEP")) CHECK(system("rm -rf " WORK) == 0, "rm");
    return test_end("test_proof");
}

TEST_MAIN(test_main())
