/**
 * The attackers, in a process of their own. Reads a line of material, then lines of orders; answers each order with a
 * line when it is done.
 */
import { createInterface } from 'node:readline';
import { ATTACKS, type AttackTarget, type Material } from './attacks.ts';

export type AttackOrder = {
  readonly attack: string;
  readonly target: AttackTarget;
  readonly addresses: readonly string[];
  /** At the same time, over all addresses. */
  readonly attackers: number;
  readonly ms: number;
};

let material: Material | undefined;
for await (const line of createInterface({ input: process.stdin })) {
  if (material === undefined) {
    material = JSON.parse(line) as Material;
    continue;
  }
  const { attack, target, addresses, attackers, ms } = JSON.parse(line) as AttackOrder;
  const until = Date.now() + ms;
  const known = material;
  await Promise.all(
    Array.from({ length: attackers }, (_, index) =>
      ATTACKS[attack]!({ target, from: addresses[index % addresses.length]!, until, material: known }),
    ),
  );
  process.stdout.write('done\n');
}
process.exit(0);
