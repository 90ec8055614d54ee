import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { OsImageError } from '../errors.ts';
import type { Stub } from '../formats/uki.ts';
import type { ToolBox } from '../tools/tool-box.ts';

const COMPILER = 'usr/libexec/gcc/x86_64-linux-gnu/14/cc1';
const FLAGS = [
  ...[
    '-quiet',
    '-Os',
    '-std=gnu11',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-ffreestanding',
    '-fpie',
    '-fshort-wchar',
  ],
  ...[
    '-fno-builtin',
    '-fno-tree-loop-distribute-patterns',
    '-fno-stack-protector',
    '-fno-asynchronous-unwind-tables',
  ],
  ...['-fcf-protection=none', '-mno-red-zone', '-mgeneral-regs-only', '-ffunction-sections', '-fno-ident'],
];

/** Compiles the EFI stub with the locked compiler, into a program that runs at any address. */
export async function buildStub(sources: string, tools: ToolBox, work: string): Promise<Stub> {
  const folder = join(work, 'stub');
  await mkdir(folder, { recursive: true });
  const at = (name: string) => join(folder, name);
  // Names relative to the work folder, so that no path of this machine can get into the program.
  const options = { cwd: folder };
  await tools.run(COMPILER, [...FLAGS, join(sources, 'stub.c'), '-o', 'stub.s'], options);
  await tools.run('usr/bin/x86_64-linux-gnu-as', ['-o', 'stub.o', 'stub.s'], options);
  const link = ['-T', join(sources, 'stub.ld'), '-o', 'stub.elf', 'stub.o', '--build-id=none'];
  await tools.run('usr/bin/x86_64-linux-gnu-ld', link, options);
  await tools.run('usr/bin/x86_64-linux-gnu-objcopy', ['-O', 'binary', 'stub.elf', 'stub.bin'], options);
  const symbols = await tools.run('usr/bin/x86_64-linux-gnu-nm', ['stub.elf'], options);
  const address = (name: string): number => {
    const found = new RegExp(`^([0-9a-f]+) \\w ${name}$`, 'm').exec(symbols);
    if (found === null) throw new OsImageError('build-failed', `The boot stub has no symbol ${name}`);
    return Number.parseInt(found[1]!, 16);
  };
  const program = new Uint8Array(await readFile(at('stub.bin')));
  return { program, dataStart: address('data_start'), entry: address('efi_main') };
}
