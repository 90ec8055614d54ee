import type { Context } from '../context.ts';
import { firewallPlace } from '../firewall/fw-place.ts';

/** `fw list`: rules of the instance, also those that deny. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const { firewall, place } = await firewallPlace(context, flags);
  const rules = await firewall.list(place);
  context.result(rules);
  if (rules.length === 0) context.info(`No rules for ${firewall.instance(place)}`);
  for (const { name, action, ports, sources } of rules)
    context.print(
      `${action.padEnd(6)} ${ports.join(',').padEnd(10)} ${sources.join(',').padEnd(20)} ${name}`,
    );
  return undefined;
}
