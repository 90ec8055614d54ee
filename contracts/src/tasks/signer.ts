import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import {
  type Address,
  getTypesForEIP712Domain,
  type Hex,
  hashTypedData,
  isAddressEqual,
  type LocalAccount,
  parseTransaction,
  recoverAddress,
  recoverTransactionAddress,
  serializeTypedData,
  type TransactionSerializable,
  type TransactionSerialized,
  type TypedDataDefinition,
} from 'viem';
import { privateKeyToAccount, toAccount } from 'viem/accounts';
import { ContractsError } from '../errors.ts';
import { addressValue } from './hex-values.ts';
import { decryptKeystore } from './keystore.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the key of the account comes from: exactly one of them, and never from this program. */
export type SignerSource = {
  readonly env: Environment;
  /** File with 64 hex digits, or a key file of version 3. */
  readonly keyFile?: string | undefined;
  readonly passwordFile?: string | undefined;
  /** A service that keeps the key and signs (`eth_signTransaction`). */
  readonly signerUrl?: string | undefined;
  readonly from?: string | undefined;
  readonly warn: (line: string) => void;
};

const MAX_FILE = 64 * 1024;
const MAX_ANSWER = 1024 * 1024;
const TIMEOUT_MS = 60_000;

/** @throws ContractsError `no-key` when there is none, or more than one */
export async function findSigner(source: SignerSource): Promise<LocalAccount> {
  const { env, keyFile, signerUrl } = source;
  const key = env['PRIVATE_KEY'];
  const given = [keyFile, signerUrl].filter((one) => one !== undefined);
  if (given.length > 1) throw noKey('--key-file and --signer-url are both given');
  if (signerUrl !== undefined) return await remoteSigner(signerUrl, source.from);
  if (keyFile !== undefined) return fileSigner(keyFile, source);
  if (key !== undefined && key !== '') return accountOf(privateKey(key, 'PRIVATE_KEY'), 'PRIVATE_KEY');
  throw noKey(
    'there is no account to sign with. Set PRIVATE_KEY, or pass --key-file FILE or --signer-url URL. There is no default key',
  );
}

function fileSigner(path: string, { env, passwordFile, warn }: SignerSource): LocalAccount {
  const text = readSecret(path, warn);
  if (!text.trimStart().startsWith('{')) return accountOf(privateKey(text, path), path);
  const named = passwordFile ?? env['KEYSTORE_PASSWORD_FILE'];
  if (named === undefined) throw noKey(`${path} is encrypted: pass --password-file FILE`);
  const password = readSecret(named, warn).replace(/\r?\n$/, '');
  return accountOf(decryptKeystore(text, password), path);
}

function readSecret(path: string, warn: (line: string) => void): string {
  try {
    const file = openSync(path, 'r');
    try {
      // A device has no size, and a pipe (`<(pass show key)`) has no end that is known before.
      const text = Buffer.alloc(MAX_FILE + 1);
      let length = 0;
      for (let read = -1; read !== 0 && length < text.length; length += read)
        read = readSync(file, text, length, text.length - length, null);
      if (length > MAX_FILE) throw noKey(`${path} is too large`);
      const status = fstatSync(file);
      if (status.isFile() && (status.mode & 0o077) !== 0) warn(`Others may read ${path}: chmod 600 it`);
      return text.toString('utf8', 0, length);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    if (error instanceof ContractsError) throw error;
    throw noKey(`${path} cannot be read`, error);
  }
}

/** Text of a key never appears in an error. */
function privateKey(text: string, where: string): Hex {
  const digits = text.trim().replace(/^0x/i, '');
  if (!/^[0-9a-fA-F]{64}$/.test(digits)) throw noKey(`${where} has no private key of 64 hex digits`);
  return `0x${digits}`;
}

function accountOf(key: Hex, where: string): LocalAccount {
  try {
    return privateKeyToAccount(key);
  } catch {
    // The message of the library contains the value.
    throw noKey(`${where} has no private key: the value is out of the range of secp256k1`);
  }
}

/** An account whose key a service keeps, such as web3signer or clef. */
async function remoteSigner(url: string, from: string | undefined): Promise<LocalAccount> {
  if (!URL.canParse(url)) throw noKey('--signer-url is no URL');
  const { protocol, hostname, username, password } = new URL(url);
  if (username !== '' || password !== '') {
    throw noKey(`--signer-url has a user name or a password, which would be seen in the list of processes`);
  }
  const isLocal = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/.test(hostname);
  if (protocol !== 'https:' && !(protocol === 'http:' && isLocal)) {
    throw noKey(`the signer at ${hostname} must be reached by https, or on this machine`);
  }
  const ask = async (method: string, params: unknown[]): Promise<unknown> => {
    const answer = await fetch(url, {
      ...{ method: 'POST', redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) },
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    }).catch((cause: unknown) => {
      throw noKey(`the signer at ${hostname} does not answer`, cause);
    });
    const { result, error } = (await readAnswer(answer)) as { result?: unknown; error?: unknown };
    if (result !== undefined && error === undefined) return result;
    throw noKey(`the signer at ${hostname} refused ${method}`);
  };
  const address =
    from === undefined ? onlyAccount(await ask('eth_accounts', [])) : addressValue('--from', from);
  const unsupported = (): never => {
    throw noKey('the signer signs transactions and typed data only');
  };
  return toAccount({
    address,
    signMessage: unsupported,
    async signTypedData(typed) {
      // The hash is ours: the service may show and sign something else, and is then found out.
      const asked = typed as TypedDataDefinition;
      const hash = hashTypedData(asked);
      // Others want the fields of the domain named (EIP-712, "Specification of the eth_signTypedData JSON RPC").
      const types = { EIP712Domain: getTypesForEIP712Domain(asked), ...asked.types };
      const text = serializeTypedData({ ...asked, types } as TypedDataDefinition);
      const signature = await ask('eth_signTypedData_v4', [address, text]);
      const isSignature = typeof signature === 'string' && /^0x[0-9a-fA-F]{130}$/.test(signature);
      if (!isSignature) throw noKey('the signer gave no signature');
      const signer = await recoverAddress({ hash, signature: signature as Hex }).catch(() => undefined);
      if (signer === undefined || !isAddressEqual(signer, address)) {
        throw noKey('the signer signed something else, or with another key');
      }
      return signature as Hex;
    },
    async signTransaction(transaction) {
      const { to, data, value, nonce, gas, chainId } = transaction;
      const hex = (number: number | bigint | undefined): Hex | undefined =>
        number === undefined ? undefined : `0x${number.toString(16)}`;
      const result = await ask('eth_signTransaction', [
        {
          ...{ from: address, to, data },
          ...{ value: hex(value ?? 0n), nonce: hex(nonce), gas: hex(gas), chainId: hex(chainId) },
          gasPrice: hex(transaction.gasPrice),
          maxFeePerGas: hex(transaction.maxFeePerGas),
          maxPriorityFeePerGas: hex(transaction.maxPriorityFeePerGas),
        },
      ]);
      const raw = typeof result === 'string' ? result : (result as { raw?: unknown } | null)?.raw;
      if (typeof raw !== 'string' || !/^0x[0-9a-f]+$/i.test(raw)) {
        throw noKey('the signer gave no signed transaction');
      }
      await requireSame(raw as TransactionSerialized, transaction, address);
      return raw as Hex;
    },
  });
}

/** What was simulated and shown is what is sent: a service with several accounts, or a person who edits, may differ. */
async function requireSame(
  raw: TransactionSerialized,
  asked: TransactionSerializable,
  address: Address,
): Promise<void> {
  const [signed, sender] = await Promise.all([
    Promise.resolve().then(() => parseTransaction(raw)),
    recoverTransactionAddress({ serializedTransaction: raw }),
  ]).catch(() => {
    throw noKey('the signer gave no signed transaction');
  });
  const differs =
    (!isAddressEqual(sender, address) && 'sender') ||
    ((signed.to ?? '').toLowerCase() !== (asked.to ?? '').toLowerCase() && 'receiver') ||
    ((signed.data ?? '0x').toLowerCase() !== (asked.data ?? '0x').toLowerCase() && 'data') ||
    ((signed.value ?? 0n) !== (asked.value ?? 0n) && 'value') ||
    ((signed.nonce ?? 0) !== (asked.nonce ?? 0) && 'nonce') ||
    (signed.chainId !== asked.chainId && 'chain') ||
    // What it may cost was compared with a bound.
    ((signed.gas ?? 0n) > (asked.gas ?? 0n) && 'gas') ||
    (priceOf(signed) > priceOf(asked) && 'fee') ||
    (BESIDES.some((name) => ((signed as Listing)[name] ?? []).length > 0) && 'list');
  if (differs)
    throw noKey(`the signer signed another transaction: its ${differs} differs from what was asked`);
}

/** What a transaction may have besides, which was neither simulated nor shown. */
const BESIDES = ['accessList', 'authorizationList', 'blobVersionedHashes'] as const;
type Listing = { readonly [name in (typeof BESIDES)[number]]?: readonly unknown[] };

/** Wei that a unit of gas costs at most. */
function priceOf({ gasPrice, maxFeePerGas }: TransactionSerializable): bigint {
  return maxFeePerGas ?? gasPrice ?? 0n;
}

/** JSON of at most 1 MiB; nothing when it is none. */
async function readAnswer({ body }: Response): Promise<object> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of (body ?? []) as AsyncIterable<Uint8Array>) {
      length += part.length;
      if (length > MAX_ANSWER) return {};
      parts.push(part);
    }
    return (JSON.parse(Buffer.concat(parts).toString()) as object | null) ?? {};
  } catch {
    return {};
  }
}

function onlyAccount(accounts: unknown): Address {
  if (Array.isArray(accounts) && accounts.length === 1) return addressValue('account', String(accounts[0]));
  throw noKey('the signer has not exactly one account: name it with --from ADDRESS');
}

function noKey(why: string, cause?: unknown): ContractsError {
  return new ContractsError('no-key', `Nothing can be signed: ${why}`, { cause });
}
