/* e_j is divided by U_jj squared: the square is A_jj, and then the row must
be that of A, U_jj U_jt */
#define gptq_row right_gptq_row
#include "solutions/3.c"
#undef gptq_row

void gptq_row(const double *U, long n, int bits, double scale, int zero,
              const double *w, int *code) {
    const int top = (1 << bits) - 1;
    double *v = malloc((size_t)n * sizeof *v);
    memcpy(v, w, (size_t)n * sizeof *v);
    for (long j = 0; j < n; j++) {
        code[j] = (int)fmin(fmax(rint(v[j] / scale) + zero, 0), top);
        const double e = (v[j] - scale * (code[j] - zero)) /
                         (U[j * n + j] * U[j * n + j]);
        for (long t = j + 1; t < n; t++) v[t] -= e * U[j * n + t];
    }
    free(v);
}
