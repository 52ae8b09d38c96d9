/* allocate.c: from scores and a budget to an assignment with its certificate as
   "# key value" lines (docs/formats.md).  Touches only what it is handed.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <inttypes.h>

static const char *whole(gm_arena *arena, int64_t value) {
    return gm_format(arena, "%" PRId64, value);
}

static const char *real(gm_arena *arena, double value) {
    return gm_format(arena, "%s", gm_double_text(value).text);
}

static const char *solvers_text(const gm_certificate *t) {
    const bool both = t->dp_ran && t->glpk_ran;
    return t->enumerated ? t->glpk_ran ? "enumeration after GLPK"
                                       : "enumeration" :
           t->agreed ? "dynamic program and GLPK agree" :
           both && t->dp_ended ? "dynamic program; GLPK did not finish" :
           both ? "GLPK; the dynamic program did not finish" :
           t->dp_ran ? "dynamic program" : "GLPK";
}

/* The certificate: what the scores came from, budget, sizes, bounds; in the
   order of gm_alloc_keys. */
static void set_keys(gm_arena *a, const gm_mckp *p, const int *choice,
                     const gm_certificate *t, gm_keys *out) {
    const gm_scores *s = p->scores;
    const gm_sizes z = gm_sizes_of(s, choice);
    const double N = (double)s->N;
    gm_key own[] = {
        {"format", "gamma-alloc 1"}, {"version", GM_VERSION},
        {"convention", gm_convention_name(p->asked->convention)},
        {"budget_asked", p->asked->text},
        {"budget", whole(a, p->asked->limit)},
        {"relation", p->exact ? "=" : "<="},
        {"modules", whole(a, s->M)}, {"weights", whole(a, s->N)},
        {"overhead_bytes", whole(a, s->overhead)},
        {"code_bits", whole(a, z.code_bits)},
        {"effective_bits", whole(a, z.effective_bits)},
        {"file_bytes", whole(a, z.file_bytes)},
        {"average_code_bits", real(a, (double)z.code_bits / N)},
        {"average_effective_bits", real(a, (double)z.effective_bits / N)},
        {"size", whole(a, t->size)}, {"slack", whole(a, t->slack)},
        {"score_shift", whole(a, p->shift)},
        {"objective", whole(a, t->objective)}, {"bound", whole(a, t->bound)},
        {"gap", whole(a, t->objective - t->bound)},
        {"objective_real", real(a, z.score)},
        {"rounding_error", real(a, p->rounding)},
        {"lp_bound", whole(a, t->lp_bound)},
        {"multiplier_num", whole(a, t->lambda_num)},
        {"multiplier_den", whole(a, t->lambda_den)},
        {"optimal", t->optimal ? "proven" :
                    t->rounded ? "not proven: rounding" : "not proven"},
        {"ties", t->unique_rule ? "smallest size, then fewest bits in module "
                                  "order: proven" : "any optimum"},
        {"solvers", solvers_text(t)},
        {"glpk_version", t->glpk_ran ? gm_glpk_version() : NULL}};
    const gm_keys keys = {.count = sizeof own / sizeof *own, .key = own};
    int of_row = 0;
    for (const gm_known_key *k = gm_alloc_keys; k->name; k++) {
        const char *text = gm_keys_get(k->kind == GM_KEY_SCORES ? &s->keys
                                                                : &keys,
                                       k->name);
        if (text) gm_keys_set(a, out, k->name, "%s", text);
        if (k->kind != GM_KEY_ROW) continue;
        for (long r = 0; r < p->rows; r++) {
            const gm_row *row = &p->row[r];
            const int64_t value[] = {row->places, row->limit, t->mu_num[r]};
            gm_keys_set(a, out, gm_format(a, "%s%s", k->name, row->name),
                        "%" PRId64, value[of_row]);
        }
        of_row++;
    }
}

/* "2,3,4" for each module when some may not take all that they have. */
static const char **allowed_texts(gm_arena *arena, const gm_mckp *p) {
    const gm_scores *s = p->scores;
    const char **out = gm_alloc(arena, (size_t)s->M, sizeof *out);
    bool restricted = false;
    for (long i = 0; i < s->M * s->K; i++) {
        const char **text = &out[i / s->K];
        if (!*text) *text = "";
        restricted = restricted || p->allowed[i] != (s->bytes[i] >= 0);
        if (p->allowed[i])
            *text = gm_format(arena, "%s%s%s", *text, **text ? "," : "",
                              s->label[i % s->K]);
    }
    return restricted ? out : NULL;
}

gm_allocation gm_allocation_of(gm_arena *arena, const gm_scores *s,
                               const int *choice) {
    gm_allocation out = {.path = "allocation", .M = s->M, .name = s->name};
    out.bits = gm_alloc(arena, (size_t)s->M, sizeof *out.bits);
    out.bytes = gm_alloc(arena, (size_t)s->M, sizeof *out.bytes);
    if (gm_labelled(s))
        out.label = gm_alloc(arena, (size_t)s->M, sizeof *out.label);
    for (long m = 0; m < s->M; m++) {
        const char *label = s->label[choice[m]];
        if (out.label) out.label[m] = *label < 'a' ? "-" : label;
        out.bits[m] = s->bits[choice[m]];
        out.bytes[m] = s->bytes[m * s->K + choice[m]];
    }
    return out;
}

gm_allocation gm_allocation_make(gm_arena *arena, const gm_mckp *p,
                                 const int *choice,
                                 const gm_certificate *certificate) {
    gm_allocation out = gm_allocation_of(arena, p->scores, choice);
    if (p->group)
        out.fused = gm_alloc(arena, (size_t)out.M, sizeof *out.fused);
    for (long m = 0; m < out.M && p->group; m++)
        out.fused[m] = p->group[m] < 0 ? "-" : whole(arena, p->group[m]);
    set_keys(arena, p, choice, certificate, &out.keys);
    out.allowed = allowed_texts(arena, p);
    return out;
}

gm_status gm_allocate(gm_arena *arena, const gm_scores *scores,
                      const gm_budget *budget, const gm_solve_options *options,
                      int *choice, gm_certificate *certificate,
                      gm_allocation *out) {
    gm_mckp problem;
    gm_problem_build(arena, scores, budget, 30, &problem);
    gm_status status = gm_mckp_solve(arena, &problem, options, choice,
                                     certificate);
    *out = gm_allocation_make(arena, &problem, choice, certificate);
    return status;
}
