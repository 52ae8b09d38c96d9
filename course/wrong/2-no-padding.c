/* only the sum is rounded up to whole bytes: every row of codes, and of
zeros, is padded by itself */
#define stored_bytes right_stored_bytes
#include "solutions/2.c"
#undef stored_bytes

long stored_bytes(long out, long in, int bits, long group) {
    const long groups = (in + group - 1) / group;
    return (out * (in + groups) * bits + 7) / 8 + 2 * out * groups;
}
