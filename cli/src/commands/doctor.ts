import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import { loadPlace } from '../platforms/load-place.ts';

/** `doctor`: one line for each thing that a deploy needs, with what to do about it. */
export async function run(context: Context): Promise<number> {
  const place = await loadPlace(context);
  const { platform } = place.project.config;
  const findings =
    platform === 'gcp'
      ? await (await import('../doctor/examine-gcp.ts')).examineGcp(place)
      : await (await import('../doctor/examine-platform.ts')).examinePlatform(place);
  for (const { name, state, found, hint } of findings) {
    context.print(`${state.padEnd(5)} ${name.padEnd(16)} ${found}`);
    if (hint !== undefined && state !== 'ok') context.print(`      ${hint.replaceAll('\n', '\n      ')}`);
  }
  context.result(
    findings.map(({ name, state, found, hint }) => ({ name, state, found, hint: hint ?? null })),
  );
  return findings.some(({ state }) => state === 'bad') ? EXIT.failure : EXIT.ok;
}
