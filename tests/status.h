/* status.h: how a call ended, for tests and fuzz targets: errors do not return
   (lib/base.c), so each such call opens a frame of its own.
   SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef GM_STATUS_H
#define GM_STATUS_H

#include "lib/lib.h"

#include <setjmp.h>
#include <string.h>

/* A call in a frame of its own: how it ended; its message is in err.  ANSWER: of
   a call that returns a status, too.  SOLVED: and says why in a certificate. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wclobbered"
#endif
__attribute__((unused)) static gm_error err;
#define ANSWER(call)                                                       \
    ({                                                                     \
        gm_frame frame_;                                                   \
        gm_frame_open(&frame_);                                            \
        if (setjmp(frame_.at) == 0) {                                      \
            gm_status answer_ = (call);                                    \
            gm_frame_close(&frame_);                                       \
            frame_.status = answer_;                                       \
        }                                                                  \
        err = frame_.error;                                                \
        frame_.status;                                                     \
    })
#define STATUS(call) ANSWER(((call), GM_OK))
#define SOLVED(call, certificate)                                          \
    ({                                                                     \
        gm_status solved_ = ANSWER(call);                                  \
        if (!*err.text) strcpy(err.text, (certificate).why);               \
        solved_;                                                           \
    })

#endif
