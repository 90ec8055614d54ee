import { type AppKeysFile, serializeAppKeys } from '@dstack-cloud/app';
import { AttestationError } from '@dstack-cloud/attestation';
import { kmsBaseUrl, obtainAppKeys, RaTlsError } from '@dstack-cloud/ra-tls';
import { VsockError } from '@dstack-cloud/vsock';
import { UtilError } from '../errors.ts';
import { isEnclave, type Machine, openMachineDevice } from '../machine.ts';
import { dialKms } from './dial-kms.ts';
import { readPinnedRoots } from './pinned-roots.ts';
import { refusalHint } from './refusal-hint.ts';

export interface GetKeysOptions {
  readonly kmsUrl: string;
  /** 20 bytes. */
  readonly appId?: Uint8Array;
  /** File with the KMS's root, or a bundle; undefined only where any KMS may answer. */
  readonly rootCa: string | undefined;
  /** `CID:PORT` of a CONNECT proxy. */
  readonly vsockProxy?: string;
  readonly machine: Machine;
  readonly env?: NodeJS.ProcessEnv;
  readonly say: (line: string) => void;
}

/** Connecting takes a proxy, a tunnel and a handshake. */
const CONNECT_TIMEOUT_MS = 30_000;

/**
 * The application's keys from the KMS. What is pinned decides who may answer: nothing that stands between can, and nothing
 * is sent before the pin has been compared.
 *
 * @returns the text of the key file
 * @throws UtilError with what to do
 */
export async function getKeys(options: GetKeysOptions): Promise<string> {
  const { kmsUrl, appId, rootCa, machine, say } = options;
  const base = checkedBaseUrl(kmsUrl);
  // What is wrong here is found before anybody is asked.
  const pins = rootCa === undefined ? undefined : await readPinnedRoots(rootCa);
  const dial = dialKms(options.vsockProxy, options.env);
  say(`Connecting to KMS: ${base}`);
  if (pins === undefined)
    say('Warning: no --root-ca provided, TLS certificate verification is disabled for initial connection');
  const device = await openMachineDevice(machine);
  try {
    if (appId !== undefined && isEnclave(machine))
      await device.emitEvent({ event: 'app-id', payload: appId });
    const obtained = await obtainAppKeys({
      kmsUrls: [base],
      attest: (reportData, nonce) => device.attest(reportData, nonce && { nonce }),
      wantsNonce: device.mode === 'dstack-nitro-enclave',
      vmConfig: '',
      dial,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      // The pinned root is part of the measured image, and there is no way from here to the collateral of a verdict.
      pins: { evidence: 'ignore', ...(pins && { rootSpkis: pins }) },
    });
    const { keys, kmsUrl: url, caCert, rootSpki, tempCaCert, tempCaKey, gatewayAppId } = obtained;
    const file: AppKeysFile = {
      ...keys,
      gatewayAppId,
      caCert,
      keyProvider: { kind: 'kms', url, pubkey: rootSpki, tmpCaKey: tempCaKey, tmpCaCert: tempCaCert },
    };
    return serializeAppKeys(file);
  } catch (error) {
    throw explained(error, base, rootCa);
  } finally {
    await device.close?.();
  }
}

/** It is logged, and stands in the key file: a password in it would too. @throws UtilError that does not repeat one */
function checkedBaseUrl(kmsUrl: string): string {
  const base = kmsBaseUrl(kmsUrl);
  const url = URL.canParse(base) ? new URL(base) : undefined;
  if (url?.protocol === 'https:' && !/[@?#]/.test(base)) return base;
  const shown = JSON.stringify(kmsUrl.replace(/^.*@/s, '…@'));
  throw new UtilError(
    `KMS URL ${shown} cannot be used: expected https://HOST:PORT, without a user, a query or a fragment`,
  );
}

/** Each thing that can go wrong in a sentence of its own. */
function explained(error: unknown, url: string, rootCa: string | undefined): UtilError {
  if (error instanceof UtilError) return error;
  const chain = causes(error);
  const proxy = chain.find((one) => one instanceof VsockError);
  if (proxy?.code === 'proxy-refused')
    return new UtilError(
      `The proxy does not let this program reach the KMS: allow ${new URL(url).host} in the egress list of dstack-vsock-proxy on the host`,
      error,
    );
  if (proxy?.code === 'unavailable')
    return new UtilError('There is no vsock here, so no proxy is reached: is this an enclave?', error);
  if (error instanceof RaTlsError && error.code === 'pin-mismatch')
    return new UtilError(
      `The KMS at ${url} has another root than ${rootCa ?? 'before'}: the URL is of another KMS, or something between answers in its place. It got no evidence`,
      error,
    );
  if (error instanceof RaTlsError && error.code === 'wrong-usage')
    return new UtilError(
      `What answers at ${url} has a certificate below the pinned root, and it is not a KMS's: something between answers in its place`,
      error,
    );
  if (error instanceof RaTlsError && error.code === 'kms-refused') {
    const hint = refusalHint(error.message);
    return new UtilError(`The KMS refuses keys${hint === undefined ? '' : `: ${hint}`}`, error);
  }
  if (
    error instanceof RaTlsError &&
    error.code === 'connection' &&
    /certificate|signature/i.test(error.message)
  )
    return new UtilError(
      `What answers at ${url} cannot prove that it is the KMS of ${rootCa ?? 'its own root'}: something between answers in its place`,
      error,
    );
  if (error instanceof AttestationError && error.code === 'event-log')
    return new UtilError(
      'This enclave asked for keys of another application before: an enclave is one application',
      error,
    );
  if (error instanceof RaTlsError) return new UtilError('Failed to get app keys', error);
  return new UtilError('Failed to get attestation', error);
}

function causes(error: unknown): (Error & { readonly code?: string })[] {
  const found: (Error & { code?: string })[] = [];
  for (let at = error; at instanceof Error && found.length < 16; at = at.cause) found.push(at);
  return found;
}
