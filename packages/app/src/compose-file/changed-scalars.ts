import type { ComposeFile } from './compose-file.ts';
import { memberOf } from './compose-node.ts';

/** A value without quotes that container engines do not take as the text it is. */
export interface ChangedScalar {
  readonly service: string;
  readonly name: string;
  readonly text: string;
  readonly at: number;
}

const MAX_INTEGER = 0x7fff_ffff_ffff_ffffn;
const NUMBER = /^[-+]?(?:[0-9][0-9_]*)?(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?$/;
/** Bases other than ten, and times, which YAML 1.1 counts in sixties. */
const OTHER_NUMBER = /^[-+]?(?:0[0-7_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+)$/;

/** Values of `environment` that an engine reads as numbers and writes in another way. */
export function changedScalars({ services }: ComposeFile): ChangedScalar[] {
  return [...services].flatMap(([service, node]) => {
    const environment = memberOf(node, 'environment');
    if (environment?.kind !== 'map') return [];
    return [...environment.entries].flatMap(([name, { value }]) =>
      value.kind === 'scalar' && value.plain && value.text !== null && isChanged(value.text)
        ? [{ service, name, text: value.text, at: value.at }]
        : [],
    );
  });
}

function isChanged(text: string): boolean {
  if (OTHER_NUMBER.test(text)) return true;
  if (!/[0-9]/.test(text) || !NUMBER.test(text)) return false;
  if (/^-?(?:0|[1-9][0-9]*)$/.test(text)) return BigInt(text) > MAX_INTEGER || BigInt(text) < -MAX_INTEGER;
  return String(Number(text)) !== text;
}
