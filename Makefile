# SPDX-License-Identifier: GPL-2.0
#
# The verbs of this project, and the kernel that they are for. What goes into the
# module is in Kbuild. `make help` prints the lines below that begin with `#:`.

#: Building
#:   all (default)    build ib_iser_rs.ko
#:   clean            remove what any verb here made in this directory
#:   rustdoc          documentation of the crates rdma and iscsi, in doc/
#: Installing (as root)
#:   install          modules_install, and /etc/modprobe.d/ib_iser_rs.conf
#:   modules_install  only the module, where modprobe finds it
#:   uninstall        undo `make install`
#: Checking
#:   check            the test suite; its parts: scripts/check --help
#:   check-all        all tests that there are: also fuzz, miri, the long selftests, peers, hostile,
#:                    soak and kunit, and on the kernel with KASAN, lockdep and others hostile,
#:                    soak, peers and all selftests, the last two over iWARP, too: many hours
#:   bench            measure against the C driver and its rivals: below 40 minutes; QUICK=1
#:                    below 8; GOALS=1 only what the goals are about
#:   check-debug      the selftests but for those that take long, on a kernel with KASAN, lockdep
#:                    and others (it is built once: 17 minutes): hours; less by ARGS="--only reset/"
#:   kunit            the module's KUnit suites, on that kernel
#:   fuzz             libFuzzer on the pure code, SECONDS=60; ARGS=--help
#:   miri             tests of the pure code under Miri, which is part of nightly Rust
#:   hostile          a target that breaks the rules in about 290 ways; ARGS=--help
#:   peers            the selftests in two machines, of which one dies or hangs; ARGS=--help
#:   soak             random faults under verified load, MINUTES=10; ARGS=--help
#:   lint             formats, clippy, checkpatch, shellcheck, licence headers, Python
#:   rustfmt          format the Rust code
#:   rustfmtcheck     only say what is not formatted
#: Virtual machines (as root; more of this: scripts/iser-lab --help)
#:   toolchain        make the root of the distribution whose compiler built the kernel
#:   demo             boot the stock kernel, log in to a target, verify data
#:   shell            a prompt in the same machine
#: Variables
#:   KDIR=DIR         kernel build directory, by default that of the running kernel
#:   MO=DIR           put what is built there and not here
#:   KSRC=PATH        source (tree or tarball) of the kernel, if its packages lack the
#:                    metadata of the Rust crates and apt does not have the source
#:   CLIPPY=1         compile with clippy
#:   V=1, W=1         print commands, more warnings: as in the kernel
#:   LLVM=, CC=, RUSTC=, BINDGEN=, PAHOLE=, RUSTFMT=   tools: as in the kernel
#:   DEFAULT=1        install: load ib_iser_rs where ib_iser is asked for, so that
#:                    `iscsiadm -I iser` uses it
#:   DESTDIR=DIR      install below that directory
#:   INSTALL_MOD_PATH=DIR, INSTALL_MOD_DIR=DIR, INSTALL_MOD_STRIP=1   as in the kernel
#:   ISER_CACHE=DIR   what is made once, by default ~/.cache/ib_iser_rs
#:   ARGS=            passed to the program behind check, check-debug, bench, demo, hostile, peers, shell, soak, toolchain

# In the toolchain root the kernel is the one that root was made for.
KDIR ?= /lib/modules/$(or $(ISER_RELEASE),$(shell uname -r))/build
DESTDIR ?=
INSTALL_MOD_PATH ?= $(DESTDIR)
INSTALL_MOD_DIR ?= updates
RUSTFMT ?= rustfmt

MAKEFLAGS += --no-print-directory

output := $(if $(MO),$(abspath $(MO)),$(CURDIR))
python := PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='$(CURDIR)/scripts' python3 -m

# Variables that Kbuild takes from its command line only.
forward = $(foreach name,V W CLIPPY,$(if $($(name)),$(name)='$($(name))'))
# As many jobs as there are processors, unless the user said how many.
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
# $(call kbuild,build or install): make in the kernel's build directory.
kbuild = $(python) build.kbuild $(1) '$(KDIR)' $(MAKE) $(jobs) \
	M='$(CURDIR)' $(if $(MO),MO='$(output)') $(forward)
installer = $(python) build.install --kdir '$(KDIR)' --root '$(INSTALL_MOD_PATH)' \
	--etc '$(or $(DESTDIR),$(INSTALL_MOD_PATH))/etc' --directory '$(INSTALL_MOD_DIR)'

.PHONY: all module
all: module
module:
	+@$(call kbuild,build) modules

.PHONY: rustdoc
rustdoc:
	+@$(call kbuild,build) ISER_RUSTDOC=1 modules
	@echo '  see $(output)/doc/rdma/index.html and $(output)/doc/iscsi/index.html'

.PHONY: install modules_install uninstall
modules_install:
	@$(installer) check '$(output)/ib_iser_rs.ko'
	+@$(call kbuild,install) INSTALL_MOD_PATH='$(INSTALL_MOD_PATH)' \
		INSTALL_MOD_DIR='$(INSTALL_MOD_DIR)' modules_install
	@$(installer) depmod
install: modules_install
	@$(installer) configure $(if $(filter 1 y,$(DEFAULT)),--default)
uninstall:
	@$(installer) uninstall

# Only what is ignored by git too; `target` is Cargo's.
.PHONY: clean
clean:
	@rm -rf '$(output)/doc' .lint
	@find '$(output)' \( -name .git -o -name target \) -prune -o -type f \( \
		-name '*.ko' -o -name '*.[aio]' -o -name '.*.cmd' -o -name '.*.d' -o -name '*.mod' \
		-o -name '*.mod.c' -o -name '*.rmeta' -o -name '*.pyc' -o -name '.module-common.o' \
		-o -name 'Module.symvers' -o -name 'modules.order' -o -name 'symbols.checked' \
		-o -name '*_generated.rs' -o -name 'blocklist.args' \) -exec rm -f {} +
	@find '$(output)' -name .git -prune -o -type d -name __pycache__ -exec rmdir {} +

# $(call sources,pattern): files of this project, whether git knows them or not.
sources = $$($(python) build.files '$(1)')

.PHONY: rustfmt rustfmtcheck lint
rustfmt:
	@$(RUSTFMT) --edition 2021 --config-path .rustfmt.toml $(call sources,*.rs)
rustfmtcheck:
	@$(RUSTFMT) --edition 2021 --config-path .rustfmt.toml --check $(call sources,*.rs)
lint:
	+@scripts/lint $(ARGS)

.PHONY: check check-all bench toolchain demo shell check-debug kunit hostile peers fuzz miri soak
bench:
	+@tests/bench/run $(ARGS)
check:
	+@scripts/check $(ARGS)
check-all:
	+@scripts/check --all $(ARGS)
check-debug:
	+@scripts/check --kernel debug $(ARGS)
fuzz:
	+@scripts/iser-lab fuzz $(if $(SECONDS),--seconds '$(SECONDS)') $(ARGS)
soak:
	+@scripts/iser-lab soak $(if $(MINUTES),--minutes '$(MINUTES)') $(ARGS)
miri:
	+@scripts/check --stage miri $(ARGS)
toolchain demo shell kunit hostile peers:
	+@scripts/iser-lab $@ $(ARGS)

.PHONY: help
help:
	@sed -n 's/^#: \{0,1\}//p' Makefile
