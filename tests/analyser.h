/* analyser.h: included before every source by clang-tidy alone (analysis.sh),
   which reads one file at a time: a failure is never GM_OK.
   SPDX-License-Identifier: GPL-3.0-or-later */
#include "gamma.h"
#define gm_fail(err, status, ...) (gm_fail(err, status, __VA_ARGS__), status)
#define gm_nomem(err) (gm_nomem(err), GM_EMEM)
