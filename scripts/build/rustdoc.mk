# SPDX-License-Identifier: GPL-2.0
#
# `make rustdoc`: the documentation of the crates that the driver uses. Included by
# Kbuild; a warning is an error here.

ifdef ISER_RUSTDOC

# Flags and environment as in the kernel's rust/Makefile, and the flags of the crate's
# object. doc/rdma.stamp is for rust/rdma/rdma.rs.
iser-doc-crate = $(basename $(notdir $@))

quiet_cmd_iser_rustdoc = RUSTDOC $<
      cmd_iser_rustdoc = \
	OBJTREE=$(abspath $(objtree)) RUST_MODFILE=$(modfile) \
	$(RUSTDOC) $(filter-out --remap-path-scope=%,$(rust_flags)) \
		$(filter-out --emit=%,$(RUSTFLAGS_rust/$(iser-doc-crate)/$(iser-doc-crate).o)) \
		-Zallow-features=$(rust_allowed_features) -Zcrate-attr=no_std \
		-Zcrate-attr='feature($(rust_allowed_features))' \
		-Zunstable-options --generate-link-to-definition \
		--extern pin_init --extern kernel \
		--extern zerocopy --extern zerocopy_derive -L $(objtree)/rust/ \
		--extern-html-root-url kernel=https://rust.docs.kernel.org/ \
		--sysroot=/dev/null $(iser-rustdoc-abi) -Dwarnings \
		--output $(dir $@) --crate-name $(iser-doc-crate) $<; \
	touch $@

# As in the kernel's rust/Makefile: rustdoc does not know the target modifiers.
iser-rustdoc-abi := $(if $(call rustc-min-version,108800),-Cunsafe-allow-abi-mismatch=fixed-x18)

$(obj)/doc/rdma.stamp: $(src)/rust/rdma/rdma.rs $(obj)/rust/rdma/rdma.o FORCE
	$(call if_changed,iser_rustdoc)

$(obj)/doc/iscsi.stamp: $(src)/rust/iscsi/iscsi.rs $(obj)/rust/iscsi/iscsi.o FORCE
	$(call if_changed,iser_rustdoc)

always-m += doc/rdma.stamp doc/iscsi.stamp

endif
