# SPDX-License-Identifier: GPL-2.0
#
# Rules that ask the compiler which types kernel::bindings has, for a kernel build
# directory without rust/bindings/bindings_generated.rs. Included by bindgen.mk.

iser-probe-tool := $(src)/scripts/build/probe.py
iser-probe := $(iser-python) build.probe
iser-candidates := $(iser-bindings-dir)/candidates_generated.rs
iser-kernel-bindings := $(iser-bindings-dir)/kernel_types_generated.rs

# Our bindings as they would be without the kernel's: their types are the question.
quiet_cmd_iser_candidates = BINDGEN $@
      cmd_iser_candidates = \
	$(BINDGEN) $< $(call iser-bindgen-args,$(iser-bindgen-params)) \
		$(iser-bindgen-common) --with-derive-default \
		-o $@ -- $(iser-bindgen-c-flags-final)

$(iser-candidates): $(src)/rust/bindings/bindings_helper.h $(iser-bindgen-params) FORCE
	$(call if_changed_dep,iser_candidates)

quiet_cmd_iser_probe = PROBE   $@
      cmd_iser_probe = $(iser-probe) source $(iser-candidates) > $@

$(iser-bindings-dir)/probe_generated.rs: $(iser-candidates) $(iser-probe-tool) FORCE
	$(call if_changed,iser_probe)

quiet_cmd_iser_types = TYPES   $@
      cmd_iser_types = \
	$(OBJCOPY) -O binary -j .iser_probe --set-section-flags .iser_probe=alloc $< $@.bin; \
	$(iser-probe) types $(iser-candidates) $@.bin > $@; rm -f $@.bin

$(iser-kernel-bindings): $(iser-bindings-dir)/probe_generated.o $(iser-candidates) FORCE
	$(call if_changed,iser_types)

targets += rust/bindings/candidates_generated.rs rust/bindings/probe_generated.rs \
	   rust/bindings/probe_generated.o rust/bindings/kernel_types_generated.rs
