import type { Agent } from '../agent/agent.ts';
import { freshTlsKey } from '../agent/tls-key.ts';

const LIFE_SECONDS = 10 * 86_400;
const RENEW_BEFORE_SECONDS = 600;

type Certified = { readonly cert: string; readonly key: string };

/** What the guest shows to gateways. */
export interface ClientIdentity {
  /** A certificate of the key service that says who this is. */
  plain(): Promise<Certified>;
  /** The same with evidence in it. */
  withEvidence(): Promise<Certified>;
}

/** Certificates for ten days, made when they are first needed and again shortly before they end. */
export function clientIdentity(agent: Agent): ClientIdentity {
  return { plain: kept(agent, false), withEvidence: kept(agent, true) };
}

function kept(agent: Agent, usageRaTls: boolean): () => Promise<Certified> {
  let current: (Certified & { readonly notAfter: number }) | undefined;
  return async () => {
    const now = agent.now();
    if (current !== undefined && now < current.notAfter - RENEW_BEFORE_SECONDS) return current;
    const notAfter = now + LIFE_SECONDS;
    const { key, certificateChain } = await freshTlsKey(agent, {
      subject: 'dstack-guest-agent',
      altNames: [],
      usageRaTls,
      usageServerAuth: false,
      usageClientAuth: true,
      withAppInfo: true,
      notAfter: BigInt(notAfter),
    });
    current = { key, cert: certificateChain.join('\n'), notAfter };
    return current;
  };
}
