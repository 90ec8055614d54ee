import {
  GovernanceError,
  type Proposal,
  proposalHash,
  recoverSigner,
  transactionService,
} from '@dstack-cloud/governance';
import type { Address } from 'viem';
import type { GovernanceModel } from '../model/governance-model.ts';
import type { WaitingTransaction } from './waiting-transaction.ts';

/** Checked for one Safe in one poll: a service that lies must not keep this program busy. */
const MAX_SIGNATURES = 200;
/** Of one poll of all Safes: the chain is not followed meanwhile. */
const DEADLINE_MS = 20_000;
/** Signers whose last signature is remembered, of one Safe. */
const MAX_SIGNERS = 100;

/** How the service is asked. */
export type SafeServiceOptions = {
  readonly url: string;
  readonly apiKey?: string | undefined;
  readonly pollSeconds: number;
  /** Unix seconds. */
  readonly now: () => number;
  /** The next nonce of each Safe, as the chain has it; undefined for what is no Safe. */
  readonly nonces: (safes: readonly string[]) => Promise<readonly (bigint | undefined)[]>;
  /** When a signature was first seen, as an earlier run of this program noted. */
  readonly noted: (safe: string, hash: string, signer: string) => number | undefined;
  readonly deadlineMs?: number;
};

/** What is wrong with the service. */
export type ServiceProblem = { readonly code: string; readonly message: string; readonly since: number };

/**
 * Asks the Safe transaction service for what signers have proposed and signed. It is trusted with nothing: hashes are
 * computed here, signatures are checked, and who is a signer and which nonce is next say the chain's own events and code.
 */
export class SafeService {
  readonly #options: SafeServiceOptions;
  #next = 0;
  #problem: ServiceProblem | undefined;
  #waiting: readonly WaitingTransaction[] = [];
  readonly #firstSeen = new Map<string, number>();
  readonly #signed = new Map<string, Map<string, number>>();
  /** Signatures that were taken into account. */
  readonly #seen = new Set<string>();

  constructor(options: SafeServiceOptions) {
    this.#options = options;
  }

  /** Transactions that wait, as the last answers had them. */
  get waiting(): readonly WaitingTransaction[] {
    return this.#waiting;
  }

  /** Undefined while the service answers as it should. */
  get problem(): ServiceProblem | undefined {
    return this.#problem;
  }

  /**
   * Asks, if it is time. Never fails: what is wrong is in `problem`. A failure for one Safe hides no other, and what was
   * known of that Safe stays.
   */
  async poll(chainId: number, model: GovernanceModel, signal?: AbortSignal): Promise<void> {
    const { now, pollSeconds, nonces, deadlineMs = DEADLINE_MS } = this.#options;
    if (now() < this.#next) return;
    this.#next = now() + pollSeconds;
    const safes = [...model.safes.keys()];
    const deadline = AbortSignal.timeout(deadlineMs);
    const until = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
    const found: WaitingTransaction[] = [];
    const errors: unknown[] = [];
    try {
      const next = await nonces(safes);
      for (const [index, safe] of safes.entries()) {
        const nonce = next[index];
        if (nonce === undefined) continue;
        try {
          found.push(...(await this.#ask(chainId, safe, nonce, model, until)));
        } catch (error) {
          errors.push(error);
          found.push(...this.#waiting.filter((one) => one.safe === safe && one.tx.nonce >= nonce));
        }
      }
      if (signal?.aborted) return;
      this.#waiting = found;
      const hashes = new Set(found.map(({ hash }) => hash));
      for (const hash of this.#firstSeen.keys()) if (!hashes.has(hash)) this.#firstSeen.delete(hash);
    } catch (error) {
      errors.push(error);
    }
    if (signal?.aborted) return;
    this.#problem = errors.length === 0 ? undefined : this.#problemOf(errors);
  }

  /** Of several, a lie comes first: it is told at once. */
  #problemOf(errors: readonly unknown[]): ServiceProblem {
    const lie = errors.find((one) => one instanceof GovernanceError && one.code === 'service-inconsistent');
    const error = lie ?? errors[0];
    const code = error instanceof GovernanceError ? error.code : 'service-unreachable';
    const message = error instanceof Error ? error.message.slice(0, 1_000) : String(error);
    return { code, message, since: this.#problem?.since ?? Math.floor(this.#options.now()) };
  }

  /** Signing counts as taking part, like approving and executing. */
  mark(model: GovernanceModel): void {
    for (const [safe, times] of this.#signed) {
      const { owners, lastSeen } = model.safe(safe);
      for (const [signer, time] of times)
        if (owners.has(signer) && (lastSeen.get(signer) ?? 0) < time) lastSeen.set(signer, time);
    }
  }

  async #ask(
    chainId: number,
    safe: string,
    nonce: bigint,
    model: GovernanceModel,
    signal: AbortSignal,
  ): Promise<WaitingTransaction[]> {
    const { url, apiKey, now } = this.#options;
    const service = transactionService(url, {
      ...{ chainId, safe: safe as Address, apiKey, signal, maxSignatures: MAX_SIGNATURES },
    });
    const { owners, approvals } = model.safe(safe);
    const found: WaitingTransaction[] = [];
    for (const proposal of await service.pending(safe as Address, nonce)) {
      // The service was asked for these alone, and may answer more.
      if (proposal.tx.nonce < nonce) continue;
      const hash = proposalHash(proposal);
      const signers = (await signersOf(hash, proposal)).filter((signer) => owners.has(signer));
      const approvedBy = [...(approvals.get(hash)?.owners ?? [])].filter((owner) => owners.has(owner));
      // Whatever no signer has signed or approved, the service or a stranger made up.
      if (signers.length + approvedBy.length === 0) continue;
      const since = this.#firstSeen.get(hash) ?? Math.floor(now());
      this.#firstSeen.set(hash, since);
      for (const signer of signers) this.#sign(safe, hash, signer);
      found.push({ safe, hash, tx: proposal.tx, signers, approvedBy, since });
    }
    return found;
  }

  /** The service's own times are anybody's word: a signature counts from when it was first seen. */
  #sign(safe: string, hash: string, signer: string): void {
    const { noted, now } = this.#options;
    const key = `${hash}/${signer}`;
    if (this.#seen.has(key)) return;
    if (this.#seen.size >= MAX_SIGNERS * MAX_SIGNATURES) this.#seen.clear();
    this.#seen.add(key);
    const times = this.#signed.get(safe) ?? new Map<string, number>();
    this.#signed.set(safe, times);
    const time = noted(safe, hash, signer) ?? Math.floor(now());
    times.set(signer, Math.max(time, times.get(signer) ?? 0));
    if (times.size > MAX_SIGNERS) times.delete(times.keys().next().value!);
  }
}

async function signersOf(hash: `0x${string}`, { signatures }: Proposal): Promise<string[]> {
  const signers = await Promise.all(signatures.map((signature) => recoverSigner(hash, signature)));
  return [...new Set(signers.map(({ signer }) => signer.toLowerCase()))];
}
