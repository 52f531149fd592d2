# SPDX-License-Identifier: GPL-2.0
#
# Rules that run bindgen over bindings_helper.h and over the C helpers. Included
# by Kbuild.
#
# Every nominal type that `kernel::bindings` already defines is kept out of our
# run, so that `struct device` or `struct scatterlist` is one type in the whole
# module; scripts/build/blocklist.py makes that list and checks the outcome.

# The kernel's bindgen parameters work here, except those of crate attributes it
# sets for itself, see the file.
iser-bindgen-params := $(src)/rust/bindings/bindgen_parameters

# The flags of gcc that libclang does not know, as in the kernel's rust/Makefile.
ifdef CONFIG_CC_IS_CLANG
iser-bindgen-c-flags = $(c_flags)
else
iser-bindgen-skip := -mno-fp-ret-in-387 -mpreferred-stack-boundary=% \
	-mskip-rax-setup -mgeneral-regs-only -msign-return-address=% \
	-mindirect-branch=thunk-extern -mindirect-branch-register \
	-mfunction-return=thunk-extern -mrecord-mcount -mabi=lp64 \
	-mindirect-branch-cs-prefix -mstack-protector-guard% -mtraceback=no \
	-mno-pointers-to-nested-functions -mno-string \
	-mno-strict-align -mstrict-align -mdirect-extern-access \
	-mexplicit-relocs -mno-check-zero-division \
	-fconserve-stack -falign-jumps=% -falign-loops=% \
	-femit-struct-debug-baseonly -fno-ipa-cp-clone -fno-ipa-sra \
	-fno-partial-inlining -fplugin-arg-arm_ssp_per_task_plugin-% \
	-fno-reorder-blocks -fno-allow-store-data-races -fasan-shadow-offset=% \
	-fzero-call-used-regs=% -fno-stack-clash-protection \
	-fno-inline-functions-called-once -fsanitize=bounds-strict \
	-fstrict-flex-arrays=% -fmin-function-alignment=% \
	-fzero-init-padding-bits=% -mno-fdpic \
	-fdiagnostics-show-context -fdiagnostics-show-context=% \
	--param=% --param asan-% -fno-isolate-erroneous-paths-dereference \
	-ffixed-r2 -mmultiple -mno-readonly-in-sdata

iser-bindgen-target-x86 := x86_64-linux-gnu
iser-bindgen-target-arm64 := aarch64-linux-gnu
iser-bindgen-target-arm := arm-linux-gnueabi
iser-bindgen-target-loongarch := loongarch64-linux-gnusf
iser-bindgen-target-riscv := riscv64-linux-gnu
iser-bindgen-target-s390 := s390x-linux-gnu
iser-bindgen-target-powerpc := powerpc64le-linux-gnu

iser-bindgen-c-flags = $(filter-out $(iser-bindgen-skip), $(c_flags)) \
	-w --target=$(iser-bindgen-target-$(SRCARCH))
endif

iser-bindgen-c-flags-final = $(filter-out $(CC_FLAGS_LTO), $(iser-bindgen-c-flags)) \
	-fno-builtin -D__BINDGEN__ -DMODULE

# One parameter a line with arguments separated by spaces; nothing is quoted.
iser-bindgen-args = $(shell grep -Ehv '^\#|^$$' $(1))

# As in the kernel's rust/Makefile.
iser-bindgen-common := --rust-target 1.85 --use-core --ctypes-prefix ffi \
	--no-layout-tests --no-debug '.*' --enable-function-attribute-detection

iser-blocklist-tool := $(src)/scripts/build/blocklist.py
iser-blocklist := $(iser-python) build.blocklist

# The kernel's generated bindings, or what asking the compiler says of them: some
# distributions ship only their metadata.
iser-kernel-bindings := $(wildcard $(objtree)/rust/bindings/bindings_generated.rs)
ifeq ($(iser-kernel-bindings),)
include $(src)/rust/bindings/probe.mk
endif

iser-helper-bindings := $(iser-bindings-dir)/bindings_helpers_generated.rs

quiet_cmd_iser_blocklist = BLOCKLIST $@
      cmd_iser_blocklist = $(iser-blocklist) make \
	$(iser-kernel-bindings) $(iser-helper-bindings) > $@

$(iser-bindings-dir)/blocklist.args: $(iser-kernel-bindings) \
    $(iser-helper-bindings) $(iser-blocklist-tool) FORCE
	$(call if_changed,iser_blocklist)

quiet_cmd_iser_bindgen = BINDGEN $@
      cmd_iser_bindgen = \
	$(BINDGEN) $< $(call iser-bindgen-args,$(iser-bindgen-params)) \
		$$(cat $(iser-bindings-dir)/blocklist.args) \
		$(iser-bindgen-common) --with-derive-default \
		-o $@ -- $(iser-bindgen-c-flags-final); \
	sed -Ei 's/pub const RUST_CONST_HELPER_([a-zA-Z0-9_]*)/pub const \1/g' $@; \
	$(iser-blocklist) check $(iser-kernel-bindings) $@

$(iser-bindings-dir)/bindings_generated.rs: \
    $(src)/rust/bindings/bindings_helper.h $(iser-bindgen-params) \
    $(iser-bindings-dir)/blocklist.args FORCE
	$(call if_changed_dep,iser_bindgen)

# Functions that have a helper are kept out of the run above, so that no name is
# there twice. The helpers are declared under the plain name of what
# they wrap.
quiet_cmd_iser_bindgen_helpers = BINDGEN $@
      cmd_iser_bindgen_helpers = \
	$(BINDGEN) $< --blocklist-type '.*' --allowlist-var '' \
		--allowlist-function 'rust_helper_iser_.*' \
		$(iser-bindgen-common) \
		-o $@ -- $(iser-bindgen-c-flags-final) \
		-Wno-missing-prototypes -Wno-missing-declarations; \
	sed -Ei 's/pub fn rust_helper_iser_([a-zA-Z0-9_]*)/\#[link_name="rust_helper_iser_\1"]\n    pub fn \1/g' $@

$(iser-helper-bindings): $(src)/rust/helpers/helpers.c FORCE
	$(call if_changed_dep,iser_bindgen_helpers)

targets += rust/bindings/blocklist.args rust/bindings/bindings_generated.rs \
	   rust/bindings/bindings_helpers_generated.rs

$(obj)/rust/bindings/iser_bindings.o: $(iser-bindings-dir)/bindings_generated.rs \
	$(iser-bindings-dir)/bindings_helpers_generated.rs

# No header declares the helpers: they are for Rust only.
CFLAGS_REMOVE_rust/helpers/helpers.o = -Wmissing-prototypes -Wmissing-declarations
