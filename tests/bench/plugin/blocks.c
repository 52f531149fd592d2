// SPDX-License-Identifier: GPL-2.0
/*
 * A QEMU plugin that counts how often each block of guest code is executed.
 *
 * The guest asks for the counters by executing a marker in user space, a NOP
 * whose displacement is MARK plus a label of 16 bits:
 *
 *	0f 1f 80 <label> 42 49		nopl 0x4942<label>(%rax)
 *
 * Each marker writes the file blocks.<label> into QEMU's working directory: a
 * header and one record for every block executed so far. What happened between
 * two markers is the difference of their files (bench/counts.py).
 *
 * One CPU only: `-smp 1`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_api.h"

#define BLOCKS	(1u << 19)		/* counters */
#define SLOTS	(BLOCKS * 2)		/* of the hash table, which is never full */
#define USER_END 0x0000800000000000ull	/* below it is user space */
#define MARK	0x49420000u
#define MARK_SIZE 7

enum { LOST, USER, FIRST_BLOCK };	/* the first two counters count instructions */

/* As written to the file; bench/counts.py reads it. */
struct record {
	uint64_t address;
	uint64_t executions;
	uint32_t instructions;		/* of one execution */
	uint32_t repeats;		/* 1: a string instruction, executed once per element */
};

struct header {
	char magic[8];
	uint64_t records;
	uint64_t user;
	uint64_t lost;
};

PLUGIN_EXPORT int qemu_plugin_version = PLUGIN_API_VERSION;

static struct record blocks[BLOCKS];
static uint32_t slots[SLOTS];
static uint32_t used = FIRST_BLOCK;
static struct qemu_plugin_scoreboard *counters;

static uint32_t find(uint64_t address, uint32_t instructions, uint32_t repeats)
{
	uint64_t hash = (address * 64 + instructions) * 0x9e3779b97f4a7c15ull;
	uint32_t at = hash >> 40 & (SLOTS - 1);

	for (; slots[at]; at = (at + 1) & (SLOTS - 1)) {
		const struct record *r = &blocks[slots[at]];

		if (r->address == address && r->instructions == instructions &&
		    r->repeats == repeats)
			return slots[at];
	}
	if (used == BLOCKS)
		return LOST;
	blocks[used] = (struct record){ address, 0, instructions, repeats };
	slots[at] = used;
	return used++;
}

static void dump(unsigned int vcpu, void *data)
{
	const uint64_t *count = qemu_plugin_scoreboard_find(counters, vcpu);
	struct header head = { "blocks1", 0, count[USER], count[LOST] };
	char name[32];
	FILE *file;
	uint32_t i;

	for (i = FIRST_BLOCK; i < used; i++)
		head.records += count[i] != 0;
	snprintf(name, sizeof(name), "blocks.%u", (unsigned int)(uintptr_t)data);
	file = fopen(name, "wb");
	if (!file || fwrite(&head, sizeof(head), 1, file) != 1)
		goto failed;
	for (i = FIRST_BLOCK; i < used; i++) {
		struct record r = blocks[i];

		r.executions = count[i];
		if (r.executions && fwrite(&r, sizeof(r), 1, file) != 1)
			goto failed;
	}
	if (fclose(file) == 0)
		return;
	file = NULL;
failed:
	perror(name);
	if (file)
		fclose(file);
}

/* A string instruction with a REP prefix is a block of its own under icount. */
static bool is_repeat(const struct qemu_plugin_insn *insn)
{
	unsigned char code[4];
	size_t size = qemu_plugin_insn_data(insn, code, sizeof(code));
	size_t i;

	for (i = 0; i < size; i++) {
		if (code[i] == 0xf3 || code[i] == 0xf2) {
			size_t op = i + 1 + (i + 1 < size && (code[i + 1] & 0xf0) == 0x40);

			return op < size && ((code[op] >= 0xa4 && code[op] <= 0xa7) ||
					     (code[op] >= 0xaa && code[op] <= 0xaf));
		}
		if (code[i] != 0x66 && code[i] != 0x67 && code[i] != 0x3e && code[i] != 0x90)
			return false;
	}
	return false;
}

static void find_marker(struct qemu_plugin_tb *tb, size_t instructions)
{
	size_t i;

	for (i = 0; i < instructions; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		unsigned char code[MARK_SIZE];
		uint32_t where;

		if (qemu_plugin_insn_size(insn) != MARK_SIZE ||
		    qemu_plugin_insn_data(insn, code, MARK_SIZE) != MARK_SIZE ||
		    memcmp(code, "\x0f\x1f\x80", 3))
			continue;
		memcpy(&where, code + 3, sizeof(where));
		if ((where & 0xffff0000u) == MARK)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, dump, QEMU_PLUGIN_CB_NO_REGS,
							       (void *)(uintptr_t)(where & 0xffff));
	}
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	uint64_t address = qemu_plugin_tb_vaddr(tb);
	size_t instructions = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_u64 counter = { counters, 0 };
	uint32_t index = USER;
	uint64_t step = instructions;

	(void)id;
	if (address < USER_END) {
		find_marker(tb, instructions);
	} else {
		index = find(address, instructions,
			     instructions == 1 && is_repeat(qemu_plugin_tb_get_insn(tb, 0)));
		if (index != LOST)
			step = 1;
	}
	counter.offset = index * sizeof(uint64_t);
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, counter,
							  step);
}

PLUGIN_EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info_t *info, int argc,
				      char **argv)
{
	(void)argc;
	(void)argv;
	if (!info->system_emulation || info->system.max_vcpus != 1) {
		fprintf(stderr, "blocks: needs a machine with one CPU\n");
		return -1;
	}
	counters = qemu_plugin_scoreboard_new(BLOCKS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
