/* main_plan.c: the command `plan`, and the line about memory and --max-memory
   of the commands that compute.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "cmd.h"

#include <string.h>

/* The program, its libraries and their tables; workspaces of a thread. */
static const double PROGRAM = 8e6, THREAD = 1.2e6;

typedef struct { gm_arena *arena; const char *text; int64_t limit; } limit_text;

static void parse_limit(void *context) {
    limit_text *t = context;
    gm_scores none = {0};
    t->limit = gm_budget_parse(t->arena, &none, GM_BYTES, t->text).limit;
}

static void limit_of(gm_call *call, int64_t *limit) {
    const char *text = gm_arg(call, "--max-memory");
    if (!text) {
        *limit = INT64_MAX;
        return;
    }
    limit_text size = {&call->arena, text, 0};
    if (gm_try(parse_limit, &size, NULL))
        gm_fail(GM_EUSAGE, "--max-memory: expected a "
                       "positive number of bytes, such as 500M or 2.5GiB, "
                       "found \"%s\"", text);
    *limit = size.limit;
}

static void plan_within(gm_call *call, gm_plan *p) {
    int64_t limit = 0;
    p->base = PROGRAM + THREAD * gm_threads() + (double)call->arena.used;
    limit_of(call, &limit);
    gm_plan_fit(p, limit);
}

void gm_call_plan(gm_call *call, const gm_model *model, gm_plan *p) {
    gm_planned step[GM_PLAN_STEPS];
    p->config = model->config;
    p->stored = (double)gm_dtype_bytes(gm_linear_tensor(model, 0, 0)->dtype);
    for (long i = 0; i < model->tensors.count; i++)
        p->model_bytes += (double)model->tensors.tensor[i].bytes;
    plan_within(call, p);
    char text[256] = "";
    gm_plan_memory(p, step);
    for (int i = 0; i < GM_PLAN_STEPS; i++)
        if (step[i].memory && i != GM_PLAN_HASH && i != GM_PLAN_SOLVE)
            snprintf(text + strlen(text), 40, "%s%s %.1f", *text ? ", " : "",
                     gm_plan_step_name((gm_plan_step)i),
                     (double)step[i].memory / 1e6);
    gm_talk(call, "memory: about %.1f MB (%s)",
            (double)gm_plan_peak(step) / 1e6, text);
}

int gm_call_uniforms(gm_call *call, const gm_recipe *recipe, int *budgets) {
    int uniforms = 0, last = -1;
    bool bits = strcmp(gm_arg(call, "--in"), "bits") == 0;
    char *list = gm_format(&call->arena, "%s", gm_arg(call, "--budgets"));
    *budgets = 0;
    for (char *item; list && (item = strsep(&list, ","));) {
        double b;
        int k = recipe->count - 1;
        ++*budgets;
        if (!gm_is_double(item, 0, 1e18, &b)) continue;
        while (k >= 0 && recipe->bits[k] > b) k--;
        uniforms += k >= 0 && k != last;
        last = k;
    }
    return bits ? uniforms : *budgets < recipe->count ? *budgets
                                                      : recipe->count;
}

/* -------------------------------------------------------------------- plan */

static const gm_option plan_options[] = {
    {.help = "run"}};

/* A directory with config.json alone: weights of torch_dtype's size. */
static void shapes_only(gm_call *call, gm_plan *p) {
    gm_arena *a = &call->arena;
    const char *dir = call->operand[0];
    const char *path = gm_format(a, "%s/config.json", dir);
    gm_config_read(a, dir, &p->config);
    const gm_json *root = gm_json_read(a, path);
    const gm_json *type = gm_json_get(root, "torch_dtype");
    if (!type) type = gm_json_get(root, "dtype");
    p->stored = gm_json_is(type, "float32") ? 4 : 2;
    const gm_config *c = &p->config;
    double weights = (double)c->vocab * (double)c->d * (c->tied ? 1 : 2);
    for (int j = 0; j < GM_LINEARS; j++) {
        long out, in;
        gm_linear_shape(c, j, &out, &in);
        weights += (double)c->layers * (double)out * (double)in;
    }
    p->model_bytes = weights * p->stored;
    gm_talk(call, "%s: no weights there; %.2f GB from its config.json", dir,
            p->model_bytes / 1e9);
}

/* The texts that `run` would hold, where they are given. */
static void plan_texts(gm_call *call, const gm_model *model, gm_plan *p) {
    const char *text = gm_arg(call, "--calib"), *npy = gm_arg(call, "--tokens");
    const char *eval = gm_arg(call, "--eval");
    const char *eval_npy = gm_arg(call, "--eval-tokens");
    gm_measuring on;
    gm_sequences calibration;
    gm_arg_long(call, "--window", 2, 1 << 20, &p->window);
    gm_arg_long(call, "--windows", 0, 1 << 30, &p->windows);
    if ((eval || eval_npy)) {
        gm_call_windows(call, model, eval, eval_npy, &on);
        p->windows = on.text.windows;
    } else if (!p->windows) {
        p->windows = 16;
        gm_talk(call, "no --eval and no --windows: 16 windows are assumed");
    }
    if ((text || npy))
        gm_call_calibration(call, model, text, npy, p->fit.S, p->fit.T,
                                &calibration);
    else                                    /* what the text will take */
        gm_alloc(&call->arena, (size_t)(p->fit.S * p->fit.T), sizeof(int32_t));
}

static void print_plan(gm_call *call, const gm_planned *step) {
    double disk = 0;
    gm_result_begin(call, "step\tmemory_MB\tdisk_MB");
    for (int i = 0; i < GM_PLAN_STEPS; i++) {
        if (!step[i].memory) continue;
        gm_result_row(call, "%s\t%.1f\t%.1f",
                      gm_plan_step_name((gm_plan_step)i),
                      (double)step[i].memory / 1e6, (double)step[i].disk / 1e6);
        disk += (double)step[i].disk / 1e6;
    }
    gm_result_row(call, "all\t%.1f\t%.1f",
                  (double)gm_plan_peak(step) / 1e6, disk);
    gm_result_end(call);
}

static void run_plan(gm_call *call) {
    gm_model model = {0};
    gm_plan p = {.candidates = true, .learns = true};
    gm_planned step[GM_PLAN_STEPS];
    const char *dir = call->operand[0];
    const char *one = gm_format(&call->arena, "%s/model.safetensors", dir);
    const char *many = gm_format(&call->arena,
                                 "%s/model.safetensors.index.json", dir);
    bool weights = gm_exists(one) || gm_exists(many);
    if (weights) gm_model_open(&call->arena, dir, &model);
    else shapes_only(call, &p);
    gm_call_recipe(call, &p.recipe);
    gm_call_fit_options(call, &p.recipe, &p.fit);
    p.models = !gm_arg_given(call, "--no-models");
    p.uniforms = gm_call_uniforms(call, &p.recipe, &p.budgets);
    if (!weights) model.dir = dir, model.config = p.config;
    plan_texts(call, &model, &p);
    if (weights) gm_call_plan(call, &model, &p);
    else plan_within(call, &p);
    gm_plan_memory(&p, step);
    print_plan(call, step);
    double products = gm_plan_products(&p), rate = gm_plan_rate(&call->arena);
    gm_talk(call, "%.3g multiply-adds in products, %.3g a second here: at least "
            "%.1f s", products, rate, rate > 0 ? products / rate : 0);
    if (weights) gm_model_close(&model);
}

const gm_command gm_command_plan = {
    "plan", "MODEL [options of run]",
    "What gamma run will take: memory and disk of each step, products",
    "Prints, for the options of gamma run, the process's peak memory in each\n"
    "step and the bytes it leaves on disk; then the multiply-adds of all products\n"
    "over this machine's measured rate, a lower bound of the time.  fit is the steps down to fit_steps.  MODEL may hold a config.json\n"
    "alone.  With --max-memory, what it takes within that.",
    1, 1, plan_options, run_plan};
