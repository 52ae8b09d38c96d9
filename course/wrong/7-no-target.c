/* the average bits are given: c is what they exceed the target B by */
#define off_target right_off_target
#include "solutions/7.c"
#undef off_target

double off_target(const learning *l, const double *p) {
    return right_off_target(l, p) + l->B;
}
