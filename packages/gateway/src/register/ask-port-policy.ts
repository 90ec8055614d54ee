import { createHash } from 'node:crypto';
import { AppError, parsePortPolicy } from '@dstack-cloud/app';
import { createPrpcClient, httpTransport, Worker } from '@dstack-cloud/prpc';
import type { Instance, PortPolicy } from '../routes/instance.ts';
import { portPolicyOf } from './port-policy-of.ts';
import { RegisterError } from './register-error.ts';

const CALL_TIMEOUT_MS = 10_000;
/** An app-compose.json and an event log, as JSON in JSON. */
const MAX_ANSWER = 4 * 2 ** 20;

/** What the instance said can never become an answer; another compose hash may. */
export class PolicyUnusable extends Error {
  override readonly name = 'PolicyUnusable';
}

/**
 * Asks the guest agent of an instance, through its tunnel, which ports its app-compose opens. Only the document that was
 * attested counts: its hash must be the one of the guest's certificate.
 * @throws PolicyUnusable when asking again is of no use, anything else when it may be
 */
export async function askPortPolicy(
  { ip, composeHash }: Instance,
  agentPort: number,
  signal: AbortSignal,
): Promise<PortPolicy> {
  const transport = httpTransport({
    baseUrl: `http://${ip}:${agentPort}/prpc`,
    timeoutMs: CALL_TIMEOUT_MS,
    maxResponseBytes: MAX_ANSWER,
  });
  try {
    const { tcbInfo } = await createPrpcClient(Worker, transport).info({}, { signal });
    return policyFrom(tcbInfo, composeHash);
  } finally {
    transport.close?.();
  }
}

/** @throws PolicyUnusable */
export function policyFrom(tcbInfo: string, composeHash: string): PortPolicy {
  // An application that keeps its TCB information to itself; guests that restrict ports report them.
  if (tcbInfo === '') return { ports: [], restrict: false };
  const compose = composeOf(tcbInfo);
  const hash = createHash('sha256').update(compose, 'utf8').digest('hex');
  if (hash !== composeHash)
    throw new PolicyUnusable(
      `the guest shows an app-compose of hash ${hash}; its certificate has ${composeHash}`,
    );
  try {
    const { ports, restrictMode } = parsePortPolicy(compose);
    return portPolicyOf(ports, restrictMode);
  } catch (error) {
    if (error instanceof AppError || error instanceof RegisterError)
      throw new PolicyUnusable(error.message, { cause: error });
    throw error;
  }
}

function composeOf(tcbInfo: string): string {
  let json: unknown;
  try {
    json = JSON.parse(tcbInfo);
  } catch (cause) {
    throw new PolicyUnusable('tcb_info is not JSON', { cause });
  }
  const compose = (json as { app_compose?: unknown } | null)?.app_compose;
  if (typeof compose !== 'string') throw new PolicyUnusable('tcb_info holds no app_compose');
  return compose;
}
