import type { Context } from '../context.ts';
import { connectGov, type GovOptions, type GovSession, type GovView } from '../gov/connect-gov.ts';
import { type Plan, planRegistration } from './plan.ts';
import { type Registration, type RegistrationOptions, readRegistration } from './read-registration.ts';
import { requireKnownCode } from './require-known-code.ts';
import type { Workload } from './workload.ts';

/** A workload, and what the chain says about it now. */
export interface OpenRegistration {
  readonly session: GovSession;
  readonly view: GovView;
  readonly registration: Registration;
  readonly plan: Plan;
}

/** Reads contracts, their owners and what is missing, all at one block. */
export async function openRegistration(
  context: Context,
  workload: Workload,
  options: GovOptions & RegistrationOptions,
  requireTimelock: number | undefined,
): Promise<OpenRegistration> {
  const { appId } = workload;
  const session = await connectGov(context, { ...options, app: appId === undefined ? [] : [appId] });
  const view = await session.read();
  await requireKnownCode(session, view, appId);
  const registration = await readRegistration(session, view, workload, options);
  return {
    ...{ session, view, registration },
    plan: await planRegistration(session, view, registration, requireTimelock),
  };
}
