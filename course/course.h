/* course.h: what every exercise may use: numbers as fp16 keeps them, and the
   whole of gamma.h.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef COURSE_H
#define COURSE_H

#include "gamma.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The fp16 number nearest to x. */
static inline double fp16(double x) {
    return gm_f16_to_f32(gm_f32_to_f16((float)x));
}

#endif
