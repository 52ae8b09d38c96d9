#!/bin/sh
# test_course.sh: the course keeps what it says: every command quoted in a
# handout (4 spaces and "$ ") prints what stands below it; the reference
# solutions and the lessons' own answers get all points; every wrong solution is
# told what is wrong; so are solutions changed here, which the checker has never
# seen; results.json has the keys that Gradescope reads.
# SPDX-License-Identifier: GPL-3.0-or-later
w=build/test/course
. tests/shell.sh
root=$PWD
unset MAKEFLAGS MFLAGS MAKELEVEL      # of a make that runs this test

# ------------------------------------------------------- quoted commands
# Blank lines and the width of blanks do not count; stderr is not quoted.
squeeze() { tr -s ' \t' ' ' | sed 's/^ //; s/ $//' | grep -v '^$'; }
for file in course/[0-9]-*/README.md; do
    d=$w/$(basename "$(dirname "$file")")
    mkdir -p "$d"
    ln -sf "$root/data" "$root/gamma" "$root/course" "$d/"
    awk -v d="$d/" '
        more { sub(/^    /, ""); print >(d n ".sh"); more = /\\$/; next }
        /^    \$ / { n++; sub(/^    \$ /, ""); print >(d n ".sh")
                     printf "" >(d n ".quoted"); more = /\\$/; on = 1; next }
        /^[^ ]/ { on = 0 }
        on { print >(d n ".quoted") }' "$file"
    n=1
    while [ -f "$d/$n.sh" ]; do
        (cd "$d" && NO_COLOR=1 LC_ALL=C.UTF-8 sh "$n.sh" 2>"$n.err") | squeeze >"$d/$n.out"
        squeeze <"$d/$n.quoted" >"$d/$n.expected"
        same "$d/$n.expected" "$d/$n.out"
        n=$((n + 1))
    done
    if [ "$n" -gt 2 ]; then ok; else bad "$file quotes $((n - 1)) commands"; fi
done

# ------------------------------------------ solutions, wrong ones, skeletons
course() { make -s --no-print-directory -C course "$@" >"$w/out" 2>&1; }
course -k -j2 --output-sync=target solutions wrong
cp "$w/out" "$w/all"
is "lessons" "$(ls -d course/[0-9]-* | wc -l | tr -d ' ')" 8
is "what all say" "$(grep -v -e ': 10 of 10 points$' \
    -e ': [0-9]* wrong solutions, 0 not told so$' "$w/all")" ""
for k in 1 2 3 4 5 6 7 8; do
    is "lesson $k" "$(grep "^lesson $k" "$w/all")" \
        "lesson $k: 10 of 10 points"
    if [ "$(sed -n "s/^$k-.*: \([0-9]*\) wrong solutions.*/\1/p" "$w/all")" \
        -ge 5 ]; then ok; else bad "lesson $k has few wrong solutions"; fi
    if course check-"$k"; then bad "the skeleton of lesson $k passes"; else ok; fi
    is "lesson $k, not written" "$(grep "10 points" "$w/out")" "0 of 10 points"
    for part in README.md slides.md; do
        if cat course/"$k"-*/$part >/dev/null; then ok; else bad "$k: no $part"; fi
    done
    # what fits on a slide of pandoc's beamer (seen rendered)
    is "lesson $k, code too wide for a slide" \
        "$(grep -E '^    .{57}' course/"$k"-*/slides.md)" ""
done

# told N WORDS SED: solution N, changed by SED, is refused with WORDS
told() {
    sed "$3" course/solutions/"$1".c >"$w/changed.c"
    if cmp -s "$w/changed.c" course/solutions/"$1".c; then
        bad "\"$3\" changes nothing in solution $1"
    fi
    if course check-"$1" FILE="$root/$w/changed.c"; then
        bad "lesson $1 accepts \"$3\""
    elif grep -qF "$2" "$w/out"; then ok; else
        bad "lesson $1, \"$3\": expected \"$2\" in
$(grep -v ' right' "$w/out")"
    fi
}
told 1 "2^b - 1 steps lie between" 's/(1 << bits) - 1/1 << bits/'
told 1 "drops the fraction" 's/rint(w/trunc(w/'
told 1 "crashed" 's/double sum = 0;/double sum = *(volatile double *)8;/'
told 1 "a recursion without end" \
    's/double sum = 0;/& if (n >= 0) return n + squared_error(w, code, n, scale, zero);/'
told 1 "a loop without end" 's/double sum = 0;/double sum = 0; while (n);/'
told 1 "not a number" 's/double sum = 0;/double sum = NAN;/'
told 1 "there is no function encode" 's/encode/encodes/'
told 1 "does not compile" 's/double sum = 0;/double sum = 0/'
told 1 "ended the program" 's/double sum = 0;/& exit(0);/'
told 1 "writes into \`w\`" 's/const double e = w/((double *)w)[0] = 1; &/'
told 1 "nothing was written into \`zero\`" '/\*zero = /d'
told 2 "divide by T" 's,sum / (double)T,sum,'
told 2 "a last group that is not full" 's/(in + group - 1) /in /'
told 2 "beyond the ends of" 's/in - j < group ? in - j : group/group/'
told 3 "must be that of the weight as it has become" 's/e = (v\[j\]/e = (w[j]/'
told 3 "second derivative" 's/= 2 \* sum/= sum/'
told 3 "the wrong way: w_t" 's/v\[t\] -= e/v[t] += e/'
told 4 "the product rule has a second term" 's/ + g\[i\] \* s \* (1 - s)//'
told 4 "depends on every x_k" 's/ - x\[i\] \* inner.*;/;/'
told 4 "lie 2 h apart" 's,(2 \* h),h,'
told 5 "not put back" 's/^        choice\[m\] = -1;//'
told 5 "it adds nothing" 's/if (size > 0)//'
told 5 "smaller by the root of n" 's, / (double)n);,);,'
told 6 "gain for each byte" 's/ (size\[i + 1\] - size\[i\]);/ 1;/'
told 6 "at most is <=, not <" 's/if (size\[i\] > B)/if (size[i] >= B)/'
told 6 "the minimum is of the sum" 's/^            least = .*/            if (score[i] < s0) s0 = score[i], least = s0 + lambda * size[i];/; s/double least = INFINITY;/& double s0 = INFINITY;/'
told 7 "1 - 2 p" 's/1 - 2 \* p/1 - p/'
told 7 "exp overflows" 's/(theta\[k\] - most)/theta[k]/'
told 7 "lambda rises by eta rho c" 's/eta \* rho/eta/'
told 8 "both are gone" 's/(bytes\[j\] < bytes\[i\] || kl\[j\] < kl\[i\])/i != j/'
told 8 "most of the spread is common" 's/\*error = sqrt.*/*error = 0; for (long i = 0; i < n; i++) { double A = 0, B = 0; for (long j = 0; j < n; j++) A += a[j] \/ n, B += b[j] \/ n; *error += (a[i] - A) * (a[i] - A) + (b[i] - B) * (b[i] - B); } *error = sqrt(*error \/ n \/ (n - 1));/'
told 8 "turned around" 's/? 1 :/? -1 :/; s/? -1 : 0/? 1 : 0/'

# ------------------------------------------------------------------ grading
if course check-1 FILE=solutions/1.c SEED=5 JSON="$root/$w/results.json"; then
    ok; else bad "seed 5: $(cat "$w/out")"; fi
is "results.json" "$(sed 's/"[^"]*": */&\n/g' "$w/results.json" |
    sed -n 's/.*"\(.*\)": *$/\1/p' | sort -u | tr '\n' ' ')" \
    "max_score name output score tests visibility "
for v in visible after_published; do
    if grep -q "\"visibility\": \"$v\"" "$w/results.json"; then ok; else
        bad "results.json: nothing is $v"; fi
done

finish
