import { type Address, type Hex, isAddressEqual } from 'viem';
import { z } from 'zod';
import { GovernanceError } from '../errors.ts';
import { addressText, amountText, bytesText, type Proposal, proposalHash } from './proposal-file.ts';
import { recoverSigner } from './signatures.ts';

const TIMEOUT_MS = 15_000;
const MAX_ANSWER = 4 * 1024 * 1024;
const PAGE = 50;
/** More pending transactions than any Safe has. */
const MAX_PENDING = 200;
/** As many as that have with the owners that most Safes have. */
const MAX_SIGNATURES = 2_000;

/**
 * What proves nothing here, and counts for nothing: an approval on chain (v = 1), which the chain itself is asked for, and
 * the signature of a contract (v = 0, EIP-1271), which only that contract can check.
 */
const NOT_OF_ACCOUNT = /^0x0{24}[0-9a-fA-F]{40}(0{64}01$|[0-9a-fA-F]{64}00)/;

const empty = z.literal([null, '', '0x']).transform((): Hex => '0x');
const orZero = z.union([z.null().transform(() => 0n), amountText]);
const orNobody = z.union([
  z.null().transform((): Address => '0x0000000000000000000000000000000000000000'),
  addressText,
]);
/** The service adds much that nobody needs here, and may add more. */
const transaction = z.object({
  safe: addressText,
  to: addressText,
  value: amountText,
  data: z.union([empty, bytesText]),
  operation: z.literal([0, 1]),
  safeTxGas: orZero,
  baseGas: orZero,
  gasPrice: orZero,
  gasToken: orNobody,
  refundReceiver: orNobody,
  nonce: amountText,
  safeTxHash: z.string().regex(/^0x[0-9a-fA-F]{64}$/),
  isExecuted: z.boolean().optional(),
  confirmations: z
    .array(z.object({ owner: addressText, signature: z.union([z.null(), z.string()]).optional() }))
    .max(100)
    .nullish(),
});
const listing = z.object({ results: z.array(transaction).max(PAGE) });

/** Where a Safe's owners leave proposals and signatures for each other. It is trusted with nothing. */
export type TransactionService = {
  readonly host: string;
  /** @param signature by `sender`, an owner */
  submit(proposal: Proposal, sender: Address, signature: Hex): Promise<void>;
  confirm(hash: Hex, signature: Hex): Promise<void>;
  /** A proposal by its hash, with the signatures that are really by whom the service says. */
  find(hash: Hex): Promise<Proposal>;
  /** Proposals that are not executed, from this nonce on. */
  pending(safe: Address, nonce: bigint): Promise<Proposal[]>;
};

/**
 * The Safe transaction service's API: https://docs.safe.global/core-api/transaction-service-overview
 * @param url its base, which ends in `/api`
 */
export function transactionService(
  url: string,
  options: {
    chainId: number;
    safe: Address;
    apiKey?: string | undefined;
    signal?: AbortSignal;
    /** Signatures that are checked in one question: each takes time. */
    maxSignatures?: number;
  },
): TransactionService {
  const { chainId, safe, apiKey, signal, maxSignatures = MAX_SIGNATURES } = options;
  if (!URL.canParse(url))
    throw new GovernanceError('bad-input', 'The URL of the transaction service is no URL');
  const { protocol, host, hostname, username, password } = new URL(url);
  const isLocal = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(hostname);
  if (protocol !== 'https:' && !(protocol === 'http:' && isLocal)) {
    throw new GovernanceError('bad-input', `The transaction service at ${host} must be reached by https`);
  }
  if (username !== '' || password !== '') {
    throw new GovernanceError(
      'bad-input',
      'The URL of the transaction service holds a user name or a password',
      {
        hint: 'Put the key of the API into the environment variable SAFE_API_KEY',
      },
    );
  }
  const base = url.replace(/\/+$/, '');

  async function ask(method: 'GET' | 'POST', path: string, body?: object): Promise<unknown> {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await fetch(`${base}${path}`, {
      ...{
        method,
        redirect: 'error',
        signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      },
      headers: {
        accept: 'application/json',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }).catch(() => undefined);
    if (answer === undefined) throw unreachable(`${host} does not answer`);
    const text = await readBounded(answer, host);
    if (answer.status === 404) {
      throw new GovernanceError('not-found', `The transaction service at ${host} does not know that`, {
        hint: 'Check the hash, or pass the proposal as a file',
      });
    }
    if (!answer.ok) throw unreachable(`${host} answers ${answer.status}`);
    if (text === '') return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw unreachable(`${host} answers no JSON`);
    }
  }

  /** What the service says of a transaction, checked against the transaction itself. */
  async function checked(found: z.infer<typeof transaction>): Promise<Proposal> {
    const { safe: of, safeTxHash, confirmations, isExecuted: _, ...tx } = found;
    const proposal = { chainId, safe: of, tx, signatures: [] as Hex[] };
    const hash = proposalHash(proposal);
    if (!isAddressEqual(of, safe) || hash !== safeTxHash.toLowerCase()) {
      throw new GovernanceError('service-inconsistent', `${host} shows a transaction whose hash is another`, {
        ...{ expected: hash, found: safeTxHash },
        hint: 'Do not sign it: pass the proposal as a file, and find out what is wrong with the service',
      });
    }
    for (const { owner, signature } of confirmations ?? []) {
      if (typeof signature !== 'string' || NOT_OF_ACCOUNT.test(signature)) continue;
      const { signer } = await recoverSigner(hash, signature as Hex);
      if (!isAddressEqual(signer, owner)) {
        throw new GovernanceError(
          'service-inconsistent',
          `${host} shows a signature of ${owner} by another key`,
          {
            ...{ expected: owner, found: signer },
          },
        );
      }
      proposal.signatures.push(signature as Hex);
    }
    return proposal;
  }

  const parse = <T>(schema: z.ZodType<T>, json: unknown): T => {
    const parsed = schema.safeParse(json);
    if (parsed.success) return parsed.data;
    throw unreachable(
      `${host} answers something else than its documentation says: ${z.prettifyError(parsed.error)}`,
    );
  };

  return {
    host,
    async submit(proposal, sender, signature) {
      const { tx } = proposal;
      const texts = Object.fromEntries(
        (['value', 'safeTxGas', 'baseGas', 'gasPrice', 'nonce'] as const).map((name) => [
          name,
          tx[name].toString(),
        ]),
      );
      await ask('POST', `/v2/safes/${proposal.safe}/multisig-transactions/`, {
        ...{ to: tx.to, data: tx.data, operation: tx.operation, ...texts },
        ...{ gasToken: tx.gasToken, refundReceiver: tx.refundReceiver },
        ...{ contractTransactionHash: proposalHash(proposal), sender, signature, origin: 'dstack-cloud gov' },
      });
    },
    async confirm(hash, signature) {
      await ask('POST', `/v1/multisig-transactions/${hash}/confirmations/`, { signature });
    },
    async find(hash) {
      const proposal = await checked(
        parse(transaction, await ask('GET', `/v2/multisig-transactions/${hash}/`)),
      );
      if (proposalHash(proposal) === hash.toLowerCase()) return proposal;
      throw new GovernanceError('service-inconsistent', `${host} answers with another transaction`, {
        ...{ expected: hash, found: proposalHash(proposal) },
      });
    },
    async pending(of, nonce) {
      const proposals: Proposal[] = [];
      let signatures = 0;
      // Its own links to next pages lead wherever the service wants.
      for (let offset = 0; ; offset += PAGE) {
        const query = `?executed=false&nonce__gte=${nonce}&limit=${PAGE}&offset=${offset}`;
        const { results } = parse(
          listing,
          await ask('GET', `/v2/safes/${of}/multisig-transactions/${query}`),
        );
        signatures += results.reduce((sum, { confirmations }) => sum + (confirmations?.length ?? 0), 0);
        if (signatures > maxSignatures)
          throw new GovernanceError('too-much', `${host} has more than ${maxSignatures} signatures of them`);
        for (const one of results) proposals.push(await checked(one));
        if (results.length < PAGE) return proposals;
        if (proposals.length >= MAX_PENDING) {
          throw new GovernanceError('too-much', `${host} has more than ${MAX_PENDING} pending transactions`, {
            hint: 'Leave --service out and pass proposals as files, with --nonce NUMBER',
          });
        }
      }
    },
  };
}

function unreachable(why: string): GovernanceError {
  return new GovernanceError('service-unreachable', `The transaction service cannot be used: ${why}`, {
    hint: 'Pass proposals as files: no service is needed',
  });
}

async function readBounded(answer: Response, host: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  try {
    for await (const chunk of answer.body ?? []) {
      total += chunk.length;
      if (total > MAX_ANSWER) break;
      chunks.push(chunk);
    }
  } catch {
    throw unreachable(`${host} breaks off its answer`);
  }
  if (total > MAX_ANSWER) throw unreachable(`${host} answers more than ${MAX_ANSWER} bytes`);
  return new TextDecoder().decode(Buffer.concat(chunks));
}
