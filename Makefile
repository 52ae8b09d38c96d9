# gamma: all | demo | test | check | fuzz | mutants | coverage | bench | install |
# uninstall | clean.
# See README.md.
#   make OPENMP=0   without threads          make GLPK=0   dynamic program only
#   make MPI=1      blocks shared by the processes of mpirun (Open MPI)
ifeq ($(origin CC),default)
CC      := gcc
endif
PREFIX  ?= /usr/local
OPENMP  ?= 1
GLPK    ?= 1
MPI     ?= 0
OPT     ?= -O3
WARN    := -Wall -Wextra -Wconversion -Wshadow -Wno-unknown-pragmas
# Should a file get past all checks, these stand in its way.
HARDEN  := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
MACHINE := $(shell $(CC) -dumpmachine)
HARDEN  += $(if $(filter x86_64%,$(MACHINE)),-fcf-protection)
HARDEN  += $(if $(filter aarch64%,$(MACHINE)),-mbranch-protection=standard)
CFLAGS  := -std=gnu11 -g $(WARN) -ffp-contract=off -fno-math-errno $(HARDEN)
ifeq ($(findstring darwin,$(MACHINE))$(findstring macos,$(MACHINE)),)
CFLAGS  += -fstack-clash-protection
LDLIBS  := -pie -Wl,-z,relro,-z,now,-z,noexecstack -lm
CFLAGS  += $(if $(filter 1,$(OPENMP)),-fopenmp,-fopenmp-simd)
else    # macOS: another linker, and libraries of Homebrew, OpenMP's among them
BREW    := $(shell brew --prefix)
CFLAGS  += -isystem $(BREW)/include
LDLIBS  := -L$(BREW)/lib -lm
ifeq ($(OPENMP),1)
CFLAGS  += -Xpreprocessor -fopenmp -isystem $(BREW)/opt/libomp/include
LDLIBS  += -L$(BREW)/opt/libomp/lib -lomp
endif
endif
# gcc for AArch64 moves loads of a tile up until its sums leave the registers:
# 74 instructions for 24 vectors of them, 42 without.  clang has no such flag.
ifneq ($(filter aarch64%,$(MACHINE)),)
CFLAGS  += $(if $(findstring clang,$(shell $(CC) --version)),,-fno-schedule-insns)
endif
ifeq ($(GLPK),1)
LDLIBS  += -lglpk
else
CFLAGS  += -DGM_NO_GLPK
endif

ifeq ($(MPI),1)
CFLAGS  += -DGM_MPI $(patsubst -I%,-isystem %,$(shell mpicc --showme:compile))
LDLIBS  += $(shell mpicc --showme:link)
endif

B    := build/$(CC)-o$(OPENMP)g$(GLPK)$(if $(filter 1,$(MPI)),m1)
# Rooms in the order of who may use whom: docs/house.md.
ROOMS := lib formats rivals audit show
LIB   := $(basename $(wildcard *.c $(ROOMS:%=%/*.c)))
MAIN  := $(basename $(wildcard cmd/*.c))
HEADERS := gamma.h $(filter-out course/%,$(wildcard */*.h tests/*.h))
SAN  := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
        -fno-omit-frame-pointer -U_FORTIFY_SOURCE

TESTS   := $(filter-out test_grad%,$(patsubst tests/%.c,%,$(wildcard tests/test_*.c)))
GRADS   := $(patsubst tests/%.c,%,$(wildcard tests/test_grad*.c))
BENCHES := $(patsubst tools/bench/%.c,build/bench/%,$(wildcard tools/bench/*.c))

all: gamma

# build/variant changes when CC, OPENMP, GLPK or MPI do, so that gamma is relinked.
build/variant: always
	@mkdir -p build; echo "$(B)" | cmp -s - $@ || echo "$(B)" >$@
gamma: $(LIB:%=$(B)/%.o) $(MAIN:%=$(B)/%.o) build/variant
	@echo "  link $@" && $(CC) $(CFLAGS) $(OPT) $(filter %.o,$^) $(LDLIBS) \
	    -o $@.tmp && mv $@.tmp $@

$(B)/%.o: %.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  cc $<" && $(CC) $(CFLAGS) $(OPT) -c $< -o $@

# Tests: the same sources under the address and undefined-behaviour sanitizers.
build/test/%.o: %.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  cc $< (sanitized)" && $(CC) $(CFLAGS) $(SAN) -c $< -o $@
build/test/%.o: tests/%.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  cc $< (sanitized)" && $(CC) $(CFLAGS) $(SAN) -I. -c $< -o $@
build/test/gamma: $(LIB:%=build/test/%.o) $(MAIN:%=build/test/%.o)
	@$(CC) $(CFLAGS) $(SAN) $^ $(LDLIBS) -o $@
COMMANDS := $(filter-out cmd/main,$(MAIN))
build/test/test_%: build/test/test_%.o $(LIB:%=build/test/%.o) \
    $(COMMANDS:%=build/test/%.o) build/test/fuzz/main.o
	@$(CC) $(CFLAGS) $(SAN) $^ $(LDLIBS) -o $@
build/test/test_products: override LDLIBS += -Wl,--wrap=gm_gemm
build/test/encode: build/test/encode.o $(LIB:%=build/test/%.o)
	@$(CC) $(CFLAGS) $(SAN) $^ $(LDLIBS) -o $@
.PRECIOUS: build/test/%.o build/double/%.o

# Fuzzing: the targets of tests/fuzz see files in memory (memory.c).  `make
# test` replays the committed corpus with them; `make fuzz` looks for more, with
# clang's libFuzzer: make fuzz FUZZ="json npy" SECONDS=60, or RUNS=10000000.
FUZZ    := json safetensors tokenizer text config npy scores alloc vec compare \
           choices foreign layout external command verify
WRAPPED := aligned_alloc open fstat stat lstat access close pread fopen mkdir \
           rename unlink
WRAP    := $(WRAPPED:%=-Wl,--wrap=%)
FUZZED  := memory $(FUZZ)
build/test/lib/base.o: override SAN += -DGM_CHUNK=0
# where nearly all the time of the tests goes: 61 % in one tile at -O1
build/test/lib/kernels.o: override SAN += $(OPT)
build/test/fuzz/%.o: tests/fuzz/%.c tests/fuzz/fuzz.h $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  cc $<" && $(CC) $(CFLAGS) $(SAN) -I. -c $< -o $@
build/test/fuzz/main.o: cmd/main.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $(SAN) -Dmain=gamma_main -Wno-missing-prototypes -c $< -o $@
build/test/test_fuzz.o: override SAN += -Itests/fuzz
build/test/test_fuzz: build/test/test_fuzz.o $(LIB:%=build/test/%.o) \
    $(COMMANDS:%=build/test/%.o) \
    build/test/fuzz/main.o $(FUZZED:%=build/test/fuzz/%.o)
	@$(CC) $(CFLAGS) $(SAN) $^ $(WRAP) $(LDLIBS) -o $@

# Built without tracing of comparisons (TRACE=0) they are twice as fast.
TRACE  ?= 1
FUZZCC := clang $(filter-out -fopenmp,$(CFLAGS)) -O2 -fno-omit-frame-pointer \
          -fsanitize=address,undefined,float-cast-overflow \
          -fno-sanitize-recover=all -U_FORTIFY_SOURCE -DGM_CHUNK=0 -I.
TRACED := $(if $(filter 0,$(TRACE)),-fno-sanitize-coverage=trace-cmp)
F      := build/fuzz$(TRACE)
$(F)/%.o: %.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  clang $<" && $(FUZZCC) -fsanitize=fuzzer-no-link $(TRACED) \
	    $(if $(filter cmd/main,$*),-Dmain=gamma_main) -c $< -o $@
$(FUZZED:%=$(F)/tests/fuzz/%.o): tests/fuzz/fuzz.h tests/vec.h
$(F)/fuzz_%: $(LIB:%=$(F)/%.o) $(MAIN:%=$(F)/%.o) \
    $(FUZZED:%=$(F)/tests/fuzz/%.o) tests/fuzz/entry.c
	@$(FUZZCC) -fsanitize=fuzzer -DFUZZ_TARGET=fuzz_$* $^ $(WRAP) $(LDLIBS) -o $@
.PRECIOUS: $(F)/%.o
fuzz: gamma $(FUZZ:%=$(F)/fuzz_%)
	BUILD=$(F) sh tests/fuzz/fuzz.sh $(FUZZ)

# Makes allocations and file operations fail; preloaded by test_faults.sh.
build/test/faults.so: tests/faults.c Makefile
	@mkdir -p $(@D)
	@$(CC) -shared -fPIC -O1 $(WARN) $< -o $@ -ldl

# The double build: gradients against finite differences.
build/double/%.o: %.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  cc $< (double)" && $(CC) $(CFLAGS) $(OPT) -DGM_DOUBLE -c $< -o $@
build/double/%.o: tests/%.c $(HEADERS) Makefile
	@mkdir -p $(@D)
	@echo "  cc $< (double)" && $(CC) $(CFLAGS) $(OPT) -DGM_DOUBLE -I. -c $< -o $@
build/double/test_%: build/double/test_%.o $(LIB:%=build/double/%.o)
	@$(CC) $(CFLAGS) $(OPT) $^ $(LDLIBS) -o $@

# The longest first, so that the processors end together.
LONG     := test_rivals test_faults.sh test_allocate test_plan test_compare.sh \
            test_hostile.sh test_kill.sh test_course.sh test_solver test_gamma \
            test_verify
TESTBINS := $(TESTS:%=build/test/%) $(GRADS:%=build/double/%) \
            $(wildcard tests/test_*.sh)
FIRST    := $(foreach t,$(LONG),$(filter %/$(t),$(TESTBINS)))
test: gamma build/test/gamma build/test/faults.so $(TESTBINS)
	@sh tests/run.sh $(FIRST) $(filter-out $(FIRST),$(TESTBINS))

# The tests, the tests of the tests, static analysis, sanitizers, faults and
# kills, the numeric contract over compilers, flags and machines; says how long
# each took.  make check CHECK="gcc clang tidy" does those.
check: gamma build/test/gamma build/test/faults.so
	MAKE="$(MAKE)" sh tests/check.sh $(CHECK)

# Each change of one line in tests/mutants.txt must make a test fail.
$(B)/gamma_main.o: cmd/main.c $(HEADERS) Makefile
	@$(CC) $(CFLAGS) $(OPT) -Dmain=gamma_main -Wno-missing-prototypes -c $< -o $@
mutants: gamma $(LIB:%=build/double/%.o) $(B)/gamma_main.o build/test/faults.so
	@CC="$(CC)" LIB="$(LIB)" MAIN="$(MAIN)" COMMANDS="$(COMMANDS)" LDLIBS="$(LDLIBS)" FLAGS="$(CFLAGS)" \
	    OBJECTS="$(B)" sh tests/mutants.sh '$(MUTANTS)'

# Lines and branches that the tests run.
coverage:
	sh tests/coverage.sh

# Against tools/second.py, with its wrong copies; needs Python with torch.  Layouts
# against those of the runtimes' libraries that PYTHON has; LLAMACPP=DIR: llama.cpp,
# built in DIR/build.
PYTHON ?= python3
crosscheck: gamma
	sh tests/crosscheck_layouts.sh ./gamma $(PYTHON)
	[ -z "$(LLAMACPP)" ] || sh tests/crosscheck_llamacpp.sh ./gamma $(PYTHON) $(LLAMACPP)
	sh tests/crosscheck.sh ./gamma $(PYTHON) $(CROSSCHECK)
	sh tests/mistakes.sh ./gamma $(PYTHON)

demo: gamma
	sh tests/demo.sh

# The library for the programs of course/.
build/libgamma.a: $(LIB:%=$(B)/%.o) build/variant
	@rm -f $@ && ar rcsD $@ $(filter %.o,$^)
build/bench/%: tools/bench/%.c $(LIB:%=$(B)/%.o) $(HEADERS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OPT) -I. $< $(LIB:%=$(B)/%.o) $(LDLIBS) -ldl -o $@
# Ratios against what PYTHON has (torch, GPTQModel, ...), OpenBLAS and CBC;
# BENCH: options of tools/bench/peers.py, such as BENCH="--only gptq --rounds 3".
bench: gamma $(BENCHES)
	$(PYTHON) tools/bench/peers.py --cc $(CC) --flags "$(CFLAGS) $(OPT)" $(BENCH)

# All but the program is made from the table of its options.
SHARE     := $(DESTDIR)$(PREFIX)/share
INSTALLED := $(DESTDIR)$(PREFIX)/bin/gamma $(SHARE)/man/man1/gamma.1 \
             $(SHARE)/bash-completion/completions/gamma \
             $(SHARE)/zsh/site-functions/_gamma
install: gamma
	@for file in $(INSTALLED); do install -d "$${file%/*}" || exit 1; done
	install -m 755 gamma $(word 1,$(INSTALLED))
	./gamma --man >$(word 2,$(INSTALLED))
	./gamma --complete-bash >$(word 3,$(INSTALLED))
	./gamma --complete-zsh >$(word 4,$(INSTALLED))
	chmod 644 $(wordlist 2,4,$(INSTALLED))
uninstall:
	rm -f $(INSTALLED)

clean:
	rm -rf build gamma gamma.tmp

always:

.PHONY: always all demo test check fuzz mutants coverage crosscheck bench install uninstall \
        clean
