import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { loadPlace } from '../platforms/load-place.ts';
import { notYet } from '../platforms/not-yet.ts';

/** `doctor`: one line for each thing that a deploy needs, with what to do about it. */
export async function run(context: Context): Promise<number> {
  const place = await loadPlace(context);
  const { platform } = place.project.config;
  if (platform !== 'gcp') throw notYet(`doctor on platform ${platform}`);
  const { examine } = await import('../doctor/examine-gcp.ts');
  const findings = await examine(place);
  for (const { name, state, found, hint } of findings) {
    context.print(`${state.padEnd(5)} ${name.padEnd(16)} ${found}`);
    if (hint !== undefined && state !== 'ok') context.print(`      ${hint.replaceAll('\n', '\n      ')}`);
  }
  context.result(
    findings.map(({ name, state, found, hint }) => ({ name, state, found, hint: hint ?? null })),
  );
  return findings.some(({ state }) => state === 'bad') ? EXIT.failure : EXIT.ok;
}
