import { type PublicClient, stringify } from 'viem';
import { disagreement, fromOthers } from '../chain/other-endpoints.ts';
import type { Context } from '../context.ts';
import { connectGov, type GovOptions, type GovSession, type GovView } from '../gov/connect-gov.ts';
import { pendingProposals } from '../gov/pending-proposals.ts';
import { type Plan, planRegistration } from './plan.ts';
import { type Registration, type RegistrationOptions, readRegistration } from './read-registration.ts';
import { requireKnownCode } from './require-known-code.ts';
import type { Workload } from './workload.ts';

const MAX_SHOWN = 2_000;

/** A workload, and what the chain says about it now. */
export interface OpenRegistration {
  readonly session: GovSession;
  readonly view: GovView;
  readonly registration: Registration;
  readonly plan: Plan;
}

/** Reads contracts, their owners and what is missing, all at one block; of a second endpoint, if there is one, too. */
export async function openRegistration(
  context: Context,
  workload: Workload,
  options: GovOptions & RegistrationOptions,
  requireTimelock: number | undefined,
): Promise<OpenRegistration> {
  const { appId } = workload;
  const session = await connectGov(context, { ...options, app: appId === undefined ? [] : [appId] });
  const view = await session.read();
  const pending = await pendingProposals(session, view);
  const seenBy = async (client: PublicClient): Promise<{ registration: Registration; plan: Plan }> => {
    const through = { ...session, client };
    await requireKnownCode(through, view, appId);
    const registration = await readRegistration(through, view, workload, options);
    return {
      registration,
      plan: await planRegistration(through, view, registration, { requireTimelock, pending }),
    };
  };
  const [seen, others] = await Promise.all([
    seenBy(session.client),
    fromOthers(context, session.others, seenBy),
  ]);
  const one = stringify(seen);
  for (const other of others.map((answer) => stringify(answer))) {
    if (one !== other)
      throw disagreement('what is allowed', one.slice(0, MAX_SHOWN), other.slice(0, MAX_SHOWN));
  }
  return { session, view, ...seen };
}
