import type { CollateralSource, DcapCollateral } from '@dstack-cloud/attestation';
import { SimulatorError } from './errors.ts';
import { type CollateralOptions, tdxCollateral } from './tdx/collateral.ts';
import { type QuoteOptions, quotingEnclave, type SimulatedEnclave } from './tdx/quote.ts';
import type { TdState } from './tdx/td-state.ts';
import { tdxPki } from './tdx/tdx-pki.ts';

const SEED_BYTES = 32;

export interface PlatformOptions {
  /** Name of the machine: it determines PPID, PCK and attestation key. Default: the empty name. */
  readonly machine?: string;
}

/** One simulated TDX machine under a test root. Nothing real may trust that root. */
export interface SimulatedPlatform {
  readonly simulated: true;
  /** Test root, DER and PEM; the same for every machine of a seed. */
  readonly rootDer: Uint8Array;
  readonly rootPem: string;
  /** PEM: PCK leaf, PCK CA, root. */
  readonly pckChainPem: string;
  /** 16 bytes; `device_id` is its SHA-256. */
  readonly ppid: Uint8Array;
  /** 6 bytes. */
  readonly fmspc: Uint8Array;
  /**
   * A TDX quote.
   * @param reportData 64 bytes
   * @throws SimulatorError `argument` for a field of another size
   */
  quote(reportData: Uint8Array, td: TdState, options?: QuoteOptions): Uint8Array;
  /** An SGX quote of an enclave of this machine. @param reportData 64 bytes */
  enclaveQuote(reportData: Uint8Array, enclave: SimulatedEnclave): Uint8Array;
  /** Collateral in force at `now` (unix seconds). */
  collateral(now: number, options?: CollateralOptions): DcapCollateral;
  /** A source of that collateral, renewed with the clock. */
  collateralSource(now: () => number, options?: CollateralOptions): CollateralSource;
}

/**
 * The simulated machine of a seed. The same seed and name give the same keys, certificates and identifiers.
 * @param seed 32 bytes, not secret: whoever has it can forge any evidence under its roots
 * @throws SimulatorError `argument`
 */
export function createPlatform(seed: Uint8Array, options: PlatformOptions = {}): SimulatedPlatform {
  if (seed.length !== SEED_BYTES) {
    throw new SimulatorError('argument', `The seed has ${seed.length} bytes, not ${SEED_BYTES}`);
  }
  const pki = tdxPki(seed, options.machine ?? '');
  const enclave = quotingEnclave(seed, pki);
  return {
    simulated: true,
    rootDer: pki.root.der,
    rootPem: pki.root.pem,
    pckChainPem: pki.pck.pem + pki.pckCa.pem + pki.root.pem,
    ppid: pki.ppid,
    fmspc: pki.fmspc,
    quote: (reportData, td, quoteOptions) => enclave.quote(reportData, td, quoteOptions),
    enclaveQuote: (reportData, description) => enclave.enclaveQuote(reportData, description),
    collateral: (now, collateralOptions) => tdxCollateral(pki, now, collateralOptions),
    collateralSource: (now, collateralOptions) => ({
      tdx: ({ tee }) => Promise.resolve(tdxCollateral(pki, now(), { ...collateralOptions, tee })),
    }),
  };
}
