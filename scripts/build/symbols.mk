# SPDX-License-Identifier: GPL-2.0
#
# The check of Rust symbols, run before modpost links the module. Included by
# Kbuild.

quiet_cmd_iser_symbols = SYMBOLS $@
      cmd_iser_symbols = $(iser-python) build.symbols \
		--nm "$(NM)" --rustc "$(RUSTC)" --objtree $(objtree) $< > $@

$(obj)/symbols.checked: $(obj)/ib_iser_rs.o $(objtree)/Module.symvers \
    $(src)/scripts/build/symbols.py FORCE
	$(call if_changed,iser_symbols)

always-m += symbols.checked
