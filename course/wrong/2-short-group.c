/* a last group that is not full is left out: in may be no multiple of group,
so groups is in/group rounded up */
#define stored_bytes right_stored_bytes
#include "solutions/2.c"
#undef stored_bytes

long stored_bytes(long out, long in, int bits, long group) {
    const long groups = in / group;
    return out * ((in * bits + 7) / 8 + 2 * groups + (groups * bits + 7) / 8);
}
