# SPDX-License-Identifier: GPL-2.0
#
# The verbs of this project. What goes into the module is in Kbuild; this file
# finds the kernel to build for and hands over. `make help` lists the verbs.

KDIR ?= /lib/modules/$(shell uname -r)/build

MAKEFLAGS += --no-print-directory

# The directory of the kernel build, with the metadata of its Rust crates.
prepare = dir=$$(python3 scripts/build/prepare.py '$(KDIR)') || exit 1;
# Kbuild in that directory, with as many jobs as there are processors.
jobs = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
kbuild = $(MAKE) $(jobs) -C "$$dir" M='$(CURDIR)' $(if $(MO),MO='$(abspath $(MO))')

.PHONY: all module clean
all: module

module:
	+@$(prepare) $(kbuild) modules

# Needs no Rust metadata, so it works with any KDIR that can build modules at all.
clean:
	+@dir='$(KDIR)'; $(kbuild) clean
