import type { Context } from '../context.ts';
import { firewallPlace } from '../firewall/fw-place.ts';
import { rulesOf } from '../platforms/gcp/firewall.ts';

/** `fw list`: rules of the instance, also those that deny. */
export async function run(
  context: Context,
  _args: readonly string[],
  flags: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const { compute, settings } = await firewallPlace(context, flags);
  const rules = (await rulesOf(compute, settings.instance)).map((rule) => {
    const action = rule.allowed === undefined ? ('deny' as const) : ('allow' as const);
    const ports = (rule.allowed ?? rule.denied ?? []).flatMap(({ IPProtocol = '', ports: list = [] }) =>
      list.map((port) => `${IPProtocol}/${port}`),
    );
    return { name: rule.name, action, ports, sources: rule.sourceRanges ?? [] };
  });
  context.result(rules);
  if (rules.length === 0) context.info(`No rules for ${settings.instance}`);
  for (const { name, action, ports, sources } of rules)
    context.print(
      `${action.padEnd(6)} ${ports.join(',').padEnd(10)} ${sources.join(',').padEnd(20)} ${name}`,
    );
  return undefined;
}
