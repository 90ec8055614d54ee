import { safeBatch } from '@dstack-cloud/contracts/tasks';
import {
  type Call,
  callLines,
  describeCall,
  GovernanceError,
  scheduleCall,
  simulateCalls,
  timeText,
} from '@dstack-cloud/governance';
import { type Address, isAddressEqual } from 'viem';
import { fromAll } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../errors.ts';
import type { GovSession, GovView } from '../gov/connect-gov.ts';
import { operationOf } from '../gov/operation-of.ts';
import { type StartOptions, startCalls } from '../gov/start-calls.ts';
import { openRegistration } from '../measurement/open-registration.ts';
import { addressOption, type MeasurementOptions, workloadOptions } from '../measurement/options.ts';
import { makerText, type PlannedCall, type PlannedGroup, planJson, planLines } from '../measurement/plan.ts';
import { readWorkload } from '../measurement/read-workload.ts';
import type { UnderWay } from '../measurement/under-way.ts';

type Options = MeasurementOptions & StartOptions & { readonly safe?: string; readonly timelock?: string };

/**
 * `measurement register`: verifies evidence, reads the chain, and starts exactly what is missing, in one batch for each owner.
 * What is under way already is not started twice.
 */
export async function run(
  context: Context,
  [target]: readonly (string | undefined)[],
  options: Options,
): Promise<number> {
  const workload = await readWorkload(context, target, workloadOptions(options, 'register'));
  const [safe, timelock] = [
    addressOption('--safe', options.safe),
    addressOption('--timelock', options.timelock),
  ];
  const { session, view, registration, plan } = await openRegistration(
    context,
    workload,
    { ...options, anyDevice: options.anyDevice === true, allowDebug: options.allowDebug === true },
    undefined,
  );
  context.print(
    `${workload.role === 'kms' ? 'Key service' : `App ${workload.appId}`}, from ${workload.source}`,
  );
  for (const line of planLines(view, registration, plan)) context.print(line);
  const tryCalls = (
    { authority }: PlannedGroup['route'],
    calls: readonly Call[],
    given: Parameters<typeof simulateCalls>[3],
  ): Promise<unknown> =>
    fromAll(context, session, (client) => simulateCalls(client, authority, calls, given));
  const started: Record<string, unknown>[] = [];
  const left: PlannedGroup[] = [];
  const account = await session.findAccount();
  for (const { group, calls } of plan.groups.map((one) => ({ group: one, calls: toStart(one, options) }))) {
    if (calls.length === 0) continue;
    const { route } = group;
    if (safe !== undefined || timelock !== undefined) {
      const document = unsigned(session, view, group, calls, { safe, timelock }, options);
      if (document === undefined) left.push(group);
      else {
        await tryCalls(route, calls, {
          names: calls.map(({ entry }) => `allow ${entry.what}`),
          isScheduled: route.timelock !== undefined,
        });
        context.document(document);
        started.push({ authority: route.authority, sent: false, transaction: document });
      }
      continue;
    }
    const isOurs =
      route.safe !== undefined ||
      account === undefined ||
      route.accounts.some((one) => isAddressEqual(one, account.address));
    if (!isOurs) {
      left.push(group);
      continue;
    }
    const parts = transactionsOf(group, calls);
    // Before the first is sent: what the last would run into.
    if (parts.length > 1) {
      await tryCalls(route, calls, {
        names: calls.map(({ entry }) => `allow ${entry.what}`),
        isScheduled: options.announce === true,
      });
    }
    for (const part of parts)
      started.push(await startCalls(context, session, view, { route, calls: part }, options));
  }
  for (const group of left)
    context.warn(
      `Left for ${makerText(group.route)}: ${group.calls.map(({ entry }) => entry.what).join(', ')}`,
    );
  if (plan.groups.length > 0 && started.length === 0 && left.length === 0) {
    context.print('Everything that is missing is under way');
  }
  context.result({
    ...{ role: workload.role, app_id: workload.appId ?? null, source: workload.source },
    ...{ simulated: workload.simulated, ...planJson(view, registration, plan) },
    ...{ started, left: left.map(({ route }) => route.authority) },
  });
  return left.length === 0 ? EXIT.ok : EXIT.failure;
}

/** A Safe and a Timelock make calls of several contracts at once; an account makes one transaction for each contract. */
function transactionsOf({ route }: PlannedGroup, calls: readonly PlannedCall[]): readonly PlannedCall[][] {
  if (route.safe !== undefined || route.timelock !== undefined) return [[...calls]];
  const contracts = [...new Set(calls.map(({ to }) => to.toLowerCase()))];
  return contracts.map((contract) => calls.filter(({ to }) => to.toLowerCase() === contract));
}

/** What nobody has started yet. */
function toStart({ calls }: PlannedGroup, { announce }: Options): readonly PlannedCall[] {
  const isOpen = ({ scheduled, proposed }: UnderWay): boolean =>
    scheduled === undefined && proposed === undefined;
  return announce === true
    ? calls.filter(({ needsAnnouncement, announcement }) => needsAnnouncement && isOpen(announcement))
    : calls.filter(({ underWay }) => isOpen(underWay));
}

/** What a Safe or a Timelock has to be given, as the tasks print it; undefined when it is not theirs to make. */
function unsigned(
  { chain }: GovSession,
  { known, governance }: GovView,
  { route }: PlannedGroup,
  calls: readonly Call[],
  { safe, timelock }: { safe: Address | undefined; timelock: Address | undefined },
  options: Options,
): object | undefined {
  const is = (one: Address | undefined, other: Address | undefined): boolean =>
    one === undefined ? other === undefined : other !== undefined && isAddressEqual(one, other);
  if (!is(timelock, route.timelock?.address)) return undefined;
  if (safe !== undefined && !is(safe, route.safe?.address)) return undefined;
  const operation = operationOf(route, calls, options);
  const transactions =
    operation === undefined || route.timelock === undefined
      ? calls
      : [scheduleCall(route.timelock.address, operation.operation, operation.delay)];
  const plain = transactions.map(({ to, data }) => ({ to, value: '0' as const, data }));
  if (safe === undefined) {
    const [transaction] = plain;
    if (operation === undefined || transaction === undefined) {
      throw new GovernanceError('bad-input', 'There is no Timelock to schedule it in');
    }
    const readyAt = timeText(governance.block.timestamp + operation.delay);
    return { ...transaction, operation: operation.id, salt: operation.operation.salt, not_before: readyAt };
  }
  const name = calls.flatMap((call) => callLines(describeCall(call, known))).join('; ');
  return safeBatch(chain.chain.id, safe, name, plain);
}
