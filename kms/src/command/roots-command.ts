import { parseArgs } from 'node:util';
import { toHex } from '@dstack-cloud/encoding';
import type { Root } from '../key-directory/kms-keys.ts';
import { readRoots } from '../key-directory/load-keys.ts';
import { COMMON_OPTIONS, type Command } from './command.ts';

/** `dstack-kms roots`: the roots of this KMS by their ids and public keys. */
export const rootsCommand: Command = {
  usage: 'roots',
  summary: 'print the active root and the retired ones, without secrets',
  async run(args, { load, now, print }) {
    const { values } = parseArgs({ args: [...args], options: COMMON_OPTIONS });
    const { core } = load(values.config);
    const roots = await readRoots(core.cert_dir, now());
    const retired = roots.history.map((root) => ({ ...rootFacts(root), successor: root.successor }));
    print({ ...rootFacts(roots), retired });
  },
};

/** What everybody may know of a root; bytes in hex. */
export function rootFacts({ id, k256Pubkey, rootCa }: Root): Record<string, string> {
  return { root: id, k256_pubkey: toHex(k256Pubkey), ca_pubkey: toHex(rootCa.key.spki) };
}
