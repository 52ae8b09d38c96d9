/* proof.c: the integer program of an assignment with nothing left out, and a
   proof of its bound that programs of others can check: VIPR 1.0 (Cheung,
   Gleixner, Steffy 2017).  Shares no code with solver.c; every number that is
   written is an exact integer or fraction.

   A group is a module, or fused ones, of which the first leads; it has the
   options i that all its members may take, U_gi = sum of their u.  Row r of the
   program (0: the budget) becomes, subtracting least costs, dividing by what is
   common, rounding down,
     sum_gi w_rgi x_gi <= room_r,   or = room_0                            (1)
   For any multipliers mu_r >= 0 (mu_0 of any sign for "=") and a node's options
   lo_g .. hi_g, ascending in w_0,
     sum_u x >= sum_g min_lo..hi (U + sum_r mu_r w_r) - sum_r mu_r room_r  (2)
   and, scores being whole, its ceiling.  Nodes are split between two options of
   a group, the least (2) first; a leaf is (2) as a linear combination of rows,
   rounded up, under the assumptions of its branch; two of them give their
   parent's.  Where nothing is feasible the objective is 0 and the target 1.

   Writes the file of --proof or --lp-plain, no more.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "audit.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef __int128 wide;

enum { ROWS = GM_MAX_ROWS + 1, FINEST = 40 };   /* multipliers: n / 2^40 */

/* -------------------------------------------------------------- the program */

/* "x_MODULE_BITS": what is no letter, digit, point or underscore becomes ~ and
   two hexadecimal digits.  The last _ ends the module (q4_0 is q4.0), so no two
   are the same; names too long for some readers of LP are x_~~NUMBER_BITS. */
static const char *spelled(gm_arena *arena, const gm_mckp *p, long m) {
    const char *name = p->scores->name[m];
    char *out = gm_alloc(arena, 3 * strlen(name) + 1, 1), *to = out;
    for (; *name; name++) {
        const char c = *name;
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || c == '.' || c == '_';
        to += sprintf(to, plain ? "%c" : "~%02X", (unsigned char)c);
    }
    return to - out > 80 ? gm_format(arena, "~~%ld", m) : out;
}

static gm_line *add_line(gm_program *q, const char *name, int sense,
                         int64_t side, long room) {
    gm_line *line = &q->line[q->lines++];
    *line = (gm_line){.name = name, .sense = sense, .side = side};
    line->index = gm_alloc(q->arena, (size_t)room, sizeof *line->index);
    line->value = gm_alloc(q->arena, (size_t)room, sizeof *line->value);
    return line;
}

static void add_to(gm_line *line, long variable, int64_t value) {
    line->index[line->terms] = variable;
    line->value[line->terms++] = value;
}

/* sum cost x <= or = limit, all variables. */
static void add_limit(gm_program *q, const char *name, int sense,
                      const int64_t *cost, int64_t limit) {
    gm_line *line = add_line(q, name, sense, limit, q->variables);
    for (long i = 0; i < q->p->M * q->p->K; i++)
        if (q->variable[i] >= 0) add_to(line, q->variable[i], cost[i]);
}

/* Leaders, and what each group may take. */
static void find_leaders(gm_program *q) {
    const gm_mckp *p = q->p;
    const long M = p->M, K = p->K;
    for (long m = 0; m < M; m++) {
        long lead = q->leader[m] = m;
        for (long n = 0; p->group && p->group[m] >= 0 && n < m; n++)
            if (p->group[n] == p->group[m]) lead = q->leader[m] = q->leader[n];
        for (long k = 0; k < K; k++)
            q->live[lead * K + k] = (lead == m || q->live[lead * K + k]) &&
                                    p->allowed[m * K + k];
    }
}

/* Variables are the candidates that modules have; rows in this order: x >= 0,
   one candidate each, x = 0 for what the group may not take, fused members
   like their leader, budget, resources. */
void gm_program_build(gm_arena *arena, const gm_mckp *p, gm_program *q) {
    const long M = p->M, K = p->K;
    const size_t cells = (size_t)(M * K);
    *q = (gm_program){.arena = arena, .p = p};
    q->variable = gm_alloc(arena, cells, sizeof *q->variable);
    q->row_of = gm_alloc(arena, cells, sizeof *q->row_of);
    q->name = gm_alloc(arena, cells, sizeof *q->name);
    q->leader = gm_alloc(arena, (size_t)M, sizeof *q->leader);
    q->live = gm_alloc(arena, cells, sizeof *q->live);
    q->line = gm_alloc(arena, 2 * cells + (size_t)M + ROWS + 1,
                       sizeof *q->line);
    find_leaders(q);
    for (long i = 0; i < M * K; i++) {
        q->variable[i] = p->scores->bytes[i] < 0 ? -1 : q->variables;
        if (p->scores->bytes[i] < 0) continue;
        char *name = gm_format(arena, "x_%s_%s", spelled(arena, p, i / K),
                               p->scores->label[i % K]);
        char *label = name + strlen(name) - strlen(p->scores->label[i % K]);
        while ((label = strchr(label, '_'))) *label = '.';
        q->name[q->variables++] = name;
    }
    for (long v = 0; v < q->variables; v++)
        add_to(add_line(q, gm_format(arena, "b%ld", v), 1, 0, 1), v, 1);
    for (long m = 0; m < M; m++) {
        gm_line *line = add_line(q, gm_format(arena, "one_%s",
                                              spelled(arena, p, m)), 0, 1, K);
        for (long i = m * K; i < (m + 1) * K; i++)
            if (q->variable[i] >= 0) add_to(line, q->variable[i], 1);
    }
    for (long i = 0; i < M * K; i++) {
        const long lead = q->leader[i / K], v = q->variable[i];
        const bool live = q->live[lead * K + i % K];
        q->row_of[i] = q->lines;
        if (v < 0 || (live && lead == i / K)) continue;
        gm_line *line = add_line(q, gm_format(arena, "%s_%s", live ? "fused"
                                              : "never", q->name[v] + 2), 0, 0,
                                 2);
        add_to(line, v, 1);
        if (live) add_to(line, q->variable[lead * K + i % K], -1);
    }
    q->budget = q->lines;
    add_limit(q, "budget", p->exact ? 0 : -1, p->size, p->budget);
    for (long r = 0; r < p->rows; r++)
        add_limit(q, gm_format(arena, "limit_%ld", r + 1), -1, p->row[r].cost,
                  p->row[r].limit);
    add_limit(q, "OBJ", 0, p->score, 0);
    q->objective = q->line[--q->lines];         /* none of the rows */
}

static void print_terms(gm_out *out, const gm_line *line) {
    gm_out_print(out, "%ld", line->terms);
    for (long i = 0; i < line->terms; i++)
        gm_out_print(out, " %ld %" PRId64, line->index[i], line->value[i]);
    gm_out_print(out, "\n");
}

void gm_program_print(const gm_program *q, gm_out *out) {
    gm_out_print(out, "VER 1.0\nVAR %ld\n", q->variables);
    for (long v = 0; v < q->variables; v++)
        gm_out_print(out, "%s\n", q->name[v]);
    gm_out_print(out, "INT %ld\n", q->variables);
    for (long v = 0; v < q->variables; v++)
        gm_out_print(out, "%ld%c", v, v + 1 < q->variables ? ' ' : '\n');
    gm_out_print(out, "OBJ min\n");
    print_terms(out, &q->objective);
    gm_out_print(out, "CON %ld %ld\n", q->lines, q->variables);
    for (const gm_line *line = q->line; line < q->line + q->lines; line++) {
        gm_out_print(out, "%s %c %" PRId64 " ", line->name,
                     "LEG"[line->sense + 1], line->side);
        print_terms(out, line);
    }
}

/* "+ 3 a - 4 b", four terms a line; one of 0 where there is none. */
static void print_sum(gm_out *out, const gm_program *q, const gm_line *line) {
    long printed = 0;
    for (long i = 0; i < line->terms; i++) {
        const int64_t a = line->value[i];
        if (a == 0 && (printed || i + 1 < line->terms)) continue;
        gm_out_print(out, "%s%c %" PRIu64 " %s",
                     printed && printed % 4 == 0 ? "\n   " : " ",
                     a < 0 ? '-' : '+', a < 0 ? -(uint64_t)a : (uint64_t)a,
                     q->name[line->index[i]]);
        printed++;
    }
}

void gm_program_write_lp(const gm_program *q, const char *path) {
    gm_out out;
    gm_out_open(q->arena, path, &out);
    gm_out_print(&out, "\\ gamma %s: scores times 2^%d, rounded\nMinimize\n"
                 " score:", GM_VERSION, q->p->shift);
    print_sum(&out, q, &q->objective);
    gm_out_print(&out, "\nSubject To\n");
    for (long i = q->variables; i < q->lines; i++) {
        gm_out_print(&out, " %s:", q->line[i].name);
        print_sum(&out, q, &q->line[i]);
        gm_out_print(&out, " %s %" PRId64 "\n",
                     q->line[i].sense ? "<=" : "=", q->line[i].side);
    }
    gm_out_print(&out, "Binary\n");
    for (long v = 0; v < q->variables; v++)
        gm_out_print(&out, " %s\n", q->name[v]);
    gm_out_print(&out, "End\n");
    gm_out_commit(&out);
}

/* --------------------------------------------------------------- the groups */

struct option { int k; int64_t u, w[ROWS]; };   /* as in (1), (2) */

struct group {
    long m;                     /* its leader                                */
    int options, lo, hi;        /* lo .. hi: a node's                        */
    struct option *option;      /* one of zeros where there is none          */
    int64_t least[ROWS];
    long above, below;          /* lines that assume i >= lo, i <= hi        */
};

/* Options >= cut (above) or < cut of `group`, of those that the parent has. */
struct node {
    long parent, child, group;  /* child, child + 1: its parts; 0: a leaf    */
    int cut;
    bool above;
    int64_t bound;              /* (2), at most `upper`                      */
    double mu[ROWS];
};

struct term { long line; wide num; int64_t den; };

struct proof {
    const gm_program *q;
    int rows;
    bool none;                  /* nothing is feasible: u = 0, upper = 1     */
    long G;
    struct group *group;        /* [G]                                       */
    long *group_of;             /* [M] of leaders                            */
    int64_t unit[ROWS], room[ROWS], rest;   /* rest: of room_0's division    */
    double most[ROWS];          /* sum of w and |room|: no product overflows */
    int64_t upper, target;
    struct node *node;
    long nodes;
    int64_t mu[ROWS];           /* of a leaf, over 2^shift                   */
    int shift;
    long next, low_line, room_line[ROWS];   /* next: the line to come        */
    struct term *term;          /* that it follows from                      */
    long terms;
    gm_out out;
};

static int64_t cost_of(const struct proof *d, int r, long i) {
    return r ? d->q->p->row[r - 1].cost[i] : d->q->p->size[i];
}

wide gm_gcd(wide a, wide b) {
    while (b) {
        const wide rest = a % b;
        a = b, b = rest;
    }
    return a;
}

static int by_size(const void *a, const void *b) {
    const struct option *x = a, *y = b;
    return x->w[0] != y->w[0] ? (x->w[0] > y->w[0]) - (x->w[0] < y->w[0])
                              : x->k - y->k;
}

/* Sums over the members stay below 2^61: the solvers refuse others. */
static void find_groups(struct proof *d) {
    const gm_program *q = d->q;
    const long M = q->p->M, K = q->p->K;
    d->group = gm_alloc(q->arena, (size_t)M, sizeof *d->group);
    d->group_of = gm_alloc(q->arena, (size_t)M, sizeof *d->group_of);
    for (long m = 0; m < M; m++) {
        const bool leads = q->leader[m] == m;
        if (leads) d->group_of[m] = d->G++;
        struct group *g = &d->group[d->group_of[q->leader[m]]];
        if (leads) {
            g->m = m;
            g->option = gm_alloc(q->arena, (size_t)K, sizeof *g->option);
            for (int k = 0; k < K; k++)
                if (q->live[m * K + k]) g->option[g->options++].k = k;
        }
        for (struct option *o = g->option; o < g->option + g->options; o++) {
            o->u += d->none ? 0 : q->p->score[m * K + o->k];
            for (int r = 0; r < d->rows; r++)
                o->w[r] += cost_of(d, r, m * K + o->k);
        }
    }
    for (long g = 0; g < d->G; g++)
        qsort(d->group[g].option, (size_t)d->group[g].options,
              sizeof(struct option), by_size);
}

/* (1) */
static void reduce(struct proof *d, int r) {
    int64_t side = r ? d->q->p->row[r - 1].limit : d->q->p->budget, unit = 0;
    for (struct group *g = d->group; g < d->group + d->G; g++) {
        g->least[r] = g->option[0].w[r];
        for (int i = 1; i < g->options; i++)
            if (g->option[i].w[r] < g->least[r])
                g->least[r] = g->option[i].w[r];
        for (int i = 0; i < g->options; i++)
            unit = (int64_t)gm_gcd(g->option[i].w[r] -= g->least[r], unit);
        side -= g->least[r];
    }
    if (unit == 0) unit = 1;
    const int64_t rest = (side % unit + unit) % unit;
    if (r == 0) d->rest = rest;
    d->unit[r] = unit;
    d->room[r] = (side - rest) / unit;
    d->most[r] = fabs((double)d->room[r]);
    for (struct group *g = d->group; g < d->group + d->G; g++)
        for (int i = 0; i < g->options; i++) {
            g->option[i].w[r] /= unit;
            d->most[r] += (double)g->option[i].w[r];
        }
}

/* ---------------------------------------------------------------- the bound */

static double penalised(const struct proof *d, const struct option *o,
                        const double *mu) {
    double value = (double)o->u;
    for (int r = 0; r < d->rows; r++) value += mu[r] * (double)o->w[r];
    return value;
}

/* (2) in doubles, and a supergradient. */
static double value_at(const struct proof *d, const double *mu, double *slope) {
    double sum = 0;
    for (int r = 0; r < d->rows; r++) {
        slope[r] = -(double)d->room[r];
        sum += mu[r] * slope[r];
    }
    for (const struct group *g = d->group; g < d->group + d->G; g++) {
        const struct option *best = g->option + g->lo;
        double least = penalised(d, best, mu);
        for (int i = g->lo + 1; i <= g->hi; i++) {
            const double value = penalised(d, g->option + i, mu);
            if (value < least) least = value, best = g->option + i;
        }
        sum += least;
        for (int r = 0; r < d->rows; r++) slope[r] += (double)best->w[r];
    }
    return sum;
}

/* Multipliers that make (2) large: the ellipsoid method (Yudin, Nemirovski
   1976), for one row bisection.  Any multipliers will do; where one row alone
   is to blame none need be above `reach`, what (2) may have to rise by. */
static void maximise(struct proof *d, struct node *n) {
    const int R = d->rows;
    const bool any_sign = d->q->p->exact;       /* of mu_0 */
    double P[ROWS][ROWS] = {{0}}, mu[ROWS] = {0}, slope[ROWS], step[ROWS];
    double best = value_at(d, n->mu, slope);
    const double reach = (double)d->upper + 1 - value_at(d, mu, slope);
    for (int r = 0; r < R; r++) {
        const double radius = r == 0 && any_sign ? reach : reach / 2;
        mu[r] = reach - radius;
        P[r][r] = radius * radius * R;
    }
    for (int tries = 0; tries < 4000 && best < (double)d->upper; tries++) {
        double norm = 0;
        int bad = any_sign;
        while (bad < R && mu[bad] >= 0) bad++;
        const double value = value_at(d, mu, slope);
        for (int r = 0; r < R && bad < R; r++) slope[r] = r == bad;
        if (bad == R && value > best)
            best = value, memcpy(n->mu, mu, sizeof mu);
        for (int r = 0; r < R; r++) {
            step[r] = 0;
            for (int s = 0; s < R; s++) step[r] += P[r][s] * slope[s];
            norm += step[r] * slope[r];
        }
        norm = sqrt(norm);
        if (!(norm > 1e-4)) break;      /* nothing is better by more */
        for (int r = 0; r < R; r++) step[r] /= norm;
        for (int r = 0; r < R; r++) {
            mu[r] += step[r] / (R + 1);
            for (int s = 0; s < R; s++)
                P[r][s] = R == 1 ? P[r][s] / 4 : R * R / (R * R - 1.0) *
                          (P[r][s] - 2.0 / (R + 1) * step[r] * step[s]);
        }
    }
}

/* 2^shift (U + sum_r mu_r w_r), exactly. */
static wide value_of(const struct proof *d, const struct option *o) {
    wide value = (wide)o->u * ((int64_t)1 << d->shift);
    for (int r = 0; r < d->rows; r++) value += (wide)d->mu[r] * o->w[r];
    return value;
}

/* 2^shift times the least over lo .. hi; a group without options gives all that
   is asked for. */
static wide least_of(const struct proof *d, const struct group *g) {
    if (!g->options) return (wide)d->upper * ((int64_t)1 << d->shift);
    wide least = value_of(d, g->option + g->lo);
    for (int i = g->lo + 1; i <= g->hi; i++) {
        const wide value = value_of(d, g->option + i);
        if (value < least) least = value;
    }
    return least;
}

/* d->mu: the node's as fractions of 2^j, or 0; false: a sum might overflow. */
static bool set_multipliers(struct proof *d, const struct node *n, int j) {
    d->shift = j < 0 ? 0 : j;
    for (int r = 0; r < d->rows; r++) {
        const double x = j < 0 ? 0 : ldexp(n->mu[r], j);
        if (!(fabs(x) < 0x1p62 && fabs(x) * d->most[r] < 0x1p120)) return false;
        d->mu[r] = llround(x);
    }
    return true;
}

/* The ceiling of (2), at most upper, by the coarsest multipliers that reach
   `target`, or else the best. */
static int64_t find_bound(struct proof *d, const struct node *n,
                          int64_t target) {
    int64_t best = INT64_MIN;
    int at = -1;
    for (int j = -1; j <= FINEST && best < target; j += j < 0 ? 1 : 4) {
        wide sum = 0;
        if (!set_multipliers(d, n, j)) break;
        for (int r = 0; r < d->rows; r++) sum -= (wide)d->mu[r] * d->room[r];
        for (long g = 0; g < d->G; g++) sum += least_of(d, d->group + g);
        const wide one = (wide)1 << d->shift;
        sum = sum / one + (sum % one > 0);
        if (sum > d->upper) sum = d->upper;
        if (sum > best) best = (int64_t)sum, at = j;
    }
    set_multipliers(d, n, at);
    return best;
}

/* ----------------------------------------------------------------- the tree */

static void set_ranges(struct proof *d, const struct node *n) {
    for (struct group *g = d->group; g < d->group + d->G; g++)
        g->lo = 0, g->hi = g->options - 1;
    for (; n->cut; n = d->node + n->parent) {
        struct group *g = d->group + n->group;
        if (n->above && n->cut > g->lo) g->lo = n->cut;
        if (!n->above && n->cut <= g->hi) g->hi = n->cut - 1;
    }
}

static void add_node(struct proof *d, struct node n) {
    set_ranges(d, &n);
    maximise(d, &n);
    n.bound = find_bound(d, &n, d->upper);
    d->node[d->nodes++] = n;
}

/* Between the two best options of the group where they are closest. */
static bool find_split(struct proof *d, const struct node *n, struct node *to) {
    double closest = INFINITY;
    set_ranges(d, n);
    for (long j = 0; j < d->G; j++) {
        const struct group *g = d->group + j;
        double least = INFINITY, second = INFINITY;
        int a = 0, b = 0;
        for (int i = g->lo; i <= g->hi; i++) {
            const double value = penalised(d, g->option + i, n->mu);
            if (value < least) second = least, b = a, least = value, a = i;
            else if (value < second) second = value, b = i;
        }
        if (g->lo >= g->hi || second - least >= closest) continue;
        closest = second - least;
        to->group = j, to->cut = a > b ? a : b;
    }
    return to->cut > 0;
}

/* Splits the leaf of least bound until all reach `upper` or there are
   GM_PROOF_NODES; the target is what all reach. */
static void grow(struct proof *d) {
    d->node = gm_alloc(d->q->arena, GM_PROOF_NODES, sizeof *d->node);
    add_node(d, (struct node){0});
    for (;;) {
        struct node *n = d->node, part = {0};
        for (struct node *i = n; i < d->node + d->nodes; i++)
            if (!i->child && (n->child || i->bound < n->bound)) n = i;
        d->target = n->bound;
        if (n->bound >= d->upper || d->nodes + 2 > GM_PROOF_NODES ||
            !find_split(d, n, &part))
            return;
        n->child = d->nodes;
        part.parent = n - d->node;
        memcpy(part.mu, n->mu, sizeof part.mu);
        for (int side = 0; side < 2; side++) {
            part.above = side;
            add_node(d, part);
        }
    }
}

/* ----------------------------------------------------------- the derivation */

static void add_term(struct proof *d, long line, wide num, int64_t den) {
    const int64_t g = (int64_t)gm_gcd(num < 0 ? -num : num, den);
    if (num) d->term[d->terms++] = (struct term){line, num / g, den / g};
}

static void print_wide(gm_out *out, wide x) {
    char text[48], *at = text + sizeof text - 1;
    *at = 0;
    for (wide rest = x; rest || !*at; rest /= 10)
        *--at = (char)('0' + (x < 0 ? -1 : 1) * (int)(rest % 10));
    gm_out_print(out, " %s%s", x < 0 ? "-" : "", at);
}

/* The end of a line: " { rnd 2 0 1/2 1 3 } -1"; the number that it has. */
static long print_reason(struct proof *d, const char *how) {
    gm_out_print(&d->out, " { %s %ld", how, d->terms);
    for (const struct term *t = d->term; t < d->term + d->terms; t++) {
        gm_out_print(&d->out, " %ld", t->line);
        print_wide(&d->out, t->num);
        if (t->den > 1) gm_out_print(&d->out, "/%" PRId64, t->den);
    }
    gm_out_print(&d->out, " } -1\n");
    d->terms = 0;
    return d->next++;
}

/* (1), or its >= (sense 1), from row r: least costs by the lines "one", what is
   never taken and what fused members take by theirs.  To be rounded an equation
   must be an inequality: it gets 1 / (2 unit) of 0 <= 1, which is a module's
   line "one" less its x >= 0. */
static long write_room(struct proof *d, int r, int sense) {
    const gm_program *q = d->q;
    const long K = q->p->K;
    const int slack = q->line[q->budget + r].sense ? 0 : -sense;
    const int64_t den = 2 * d->unit[r];
    long terms = 0;
    for (long g = 0; g < d->G; g++)
        for (int i = 0; i < d->group[g].options; i++)
            terms += d->group[g].option[i].w[r] != 0;
    gm_out_print(&d->out, "room_%ld %c %" PRId64 " %ld", d->next,
                 sense < 0 ? 'L' : 'G', d->room[r] +
                 (sense > 0 && d->rest > 0), terms);
    add_term(d, q->budget + r, 2, den);
    for (const struct group *g = d->group; g < d->group + d->G; g++) {
        for (int i = 0; i < g->options; i++)
            if (g->option[i].w[r])
                gm_out_print(&d->out, " %ld %" PRId64,
                             q->variable[g->m * K + g->option[i].k],
                             g->option[i].w[r]);
        add_term(d, q->variables + g->m, -2 * (wide)g->least[r] +
                 (g->m ? 0 : slack), den);
    }
    for (long i = 0; i < q->p->M * K; i++) {
        const long lead = q->leader[i / K];
        if (q->variable[i] < 0) continue;
        if (i < K) add_term(d, q->variable[i], -slack, den);
        if (lead == i / K && q->live[i]) continue;
        const int64_t least = lead == i / K
                                  ? d->group[d->group_of[lead]].least[r] : 0;
        add_term(d, q->row_of[i], 2 * ((wide)least - cost_of(d, r, i)), den);
    }
    return print_reason(d, "rnd");
}

static void print_claim(struct proof *d, const char *name) {
    gm_out_print(&d->out, "%s_%ld G %" PRId64 " %s", name, d->next, d->target,
                 d->none ? "0" : "OBJ");
}

/* (2) of a leaf.  What an option outside lo .. hi has less than the least is
   made up by an assumption, what others have more by their x >= 0. */
static long write_leaf(struct proof *d, const struct node *n) {
    const gm_program *q = d->q;
    const long K = q->p->K;
    find_bound(d, n, d->target);
    const int64_t one = (int64_t)1 << d->shift;
    print_claim(d, "leaf");
    for (int r = 0; r < d->rows; r++)
        add_term(d, d->mu[r] < 0 ? d->low_line : d->room_line[r],
                 -(wide)d->mu[r], one);
    for (const struct group *g = d->group; g < d->group + d->G; g++) {
        const wide least = least_of(d, g);
        wide lower = least, upper = least, base;
        for (int i = 0; i < g->options; i++) {
            const wide value = value_of(d, g->option + i);
            if (i < g->lo && value < lower) lower = value;
            if (i > g->hi && value < upper) upper = value;
        }
        add_term(d, q->variables + g->m, lower, one);
        add_term(d, g->above, least - lower, one);
        add_term(d, g->below, upper - least, one);
        for (int i = 0; i < g->options; i++) {
            base = i < g->lo ? lower : i > g->hi ? upper : least;
            add_term(d, q->variable[g->m * K + g->option[i].k],
                     value_of(d, g->option + i) - base, one);
        }
        for (long i = g->m * K; i < (g->m + 1) * K; i++)
            if (q->variable[i] >= 0 && !q->live[i])
                add_term(d, q->row_of[i], (d->none ? 0 : q->p->score[i]) *
                         (wide)one - lower, one);
    }
    for (long i = 0; i < q->p->M * K && !d->none; i++)
        if (q->variable[i] >= 0 && q->leader[i / K] != i / K)
            add_term(d, q->row_of[i], q->p->score[i], 1);
    return print_reason(d, d->shift ? "rnd" : "lin");   /* whole as it is */
}

static long write_assumption(struct proof *d, const struct node *n) {
    const struct group *g = d->group + n->group;
    gm_out_print(&d->out, "asm_%ld %s %d", d->next, n->above ? "G 1" : "L 0",
                 g->options - n->cut);
    for (int i = n->cut; i < g->options; i++)
        gm_out_print(&d->out, " %ld 1",
                     d->q->variable[g->m * d->q->p->K + g->option[i].k]);
    gm_out_print(&d->out, " { asm } -1\n");
    return d->next++;
}

/* What a node claims, with all below it; the number of that line. */
static long write_node(struct proof *d, const struct node *n) {
    long line[2], assumed[2];
    if (!n->child) return write_leaf(d, n);
    for (int side = 0; side < 2; side++) {
        const struct node *part = d->node + n->child + side;
        struct group *g = d->group + part->group, was = *g;
        assumed[side] = write_assumption(d, part);
        if (part->above) g->lo = part->cut, g->above = assumed[side];
        else g->hi = part->cut - 1, g->below = assumed[side];
        line[side] = write_node(d, part);
        *g = was;
    }
    print_claim(d, "node");
    gm_out_print(&d->out, " { uns %ld %ld %ld %ld } -1\n", line[0], assumed[0],
                 line[1], assumed[1]);
    return d->next++;
}

/* Where "=" leaves a rest, <= and >= of (1) exclude each other. */
static void write_derivation(struct proof *d) {
    const bool exact = d->q->p->exact, apart = exact && d->rest;
    gm_out_print(&d->out, "DER %ld\n", d->rows + exact +
                 (apart ? 1 : 2 * d->nodes - 1));
    for (int r = 0; r < d->rows; r++) d->room_line[r] = write_room(d, r, -1);
    if (exact) d->low_line = write_room(d, 0, 1);
    if (!apart) {
        set_ranges(d, d->node);
        write_node(d, d->node);
        return;
    }
    print_claim(d, "apart");
    add_term(d, d->room_line[0], -1, 1);
    add_term(d, d->low_line, 1, 1);
    print_reason(d, "lin");
}

gm_proven gm_proof_write(gm_arena *arena, const gm_mckp *p, const int *choice,
                         const char *path) {
    gm_program q;
    gm_program_build(arena, p, &q);
    struct proof d = {.q = &q, .rows = 1 + (int)p->rows, .none = !choice,
                      .upper = !choice, .next = q.lines};
    for (long m = 0; m < p->M && choice; m++)
        d.upper += p->score[m * p->K + choice[m]];
    find_groups(&d);
    for (int r = 0; r < d.rows; r++) reduce(&d, r);
    if (p->exact && d.rest) d.target = d.upper;
    else grow(&d);
    const gm_proven proven = {d.target, d.upper, d.nodes, d.none};
    if (d.none && d.target < d.upper) return proven;
    d.term = gm_alloc(arena, (size_t)(q.lines + ROWS + 2 * d.G),
                      sizeof *d.term);
    gm_out_open(arena, path, &d.out);
    gm_out_print(&d.out, "%% gamma %s: minimise sum u x, u = score 2^%d, "
                 "rounded\n", GM_VERSION, p->shift);
    gm_program_print(&q, &d.out);
    if (d.none) gm_out_print(&d.out, "RTP infeas\nSOL 0\n");
    else {
        gm_out_print(&d.out, "RTP range %" PRId64 " %" PRId64 "\nSOL 1\n"
                     "assignment %ld", d.target, d.upper, p->M);
        for (long m = 0; m < p->M; m++)
            gm_out_print(&d.out, " %ld 1", q.variable[m * p->K + choice[m]]);
        gm_out_print(&d.out, "\n");
    }
    write_derivation(&d);
    gm_out_commit(&d.out);
    return proven;
}
