import type { K256Backend } from './backend.ts';
import { libsecp256k1 } from './libsecp256k1.ts';
import { noble } from './noble.ts';

let chosen: K256Backend | undefined;

/** The fastest backend that works here: libsecp256k1 where its binary fits the machine, else JavaScript. */
export function k256(): K256Backend {
  chosen ??= libsecp256k1() ?? noble;
  return chosen;
}
