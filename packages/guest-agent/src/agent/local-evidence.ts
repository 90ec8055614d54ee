import {
  type Attestation,
  attestedConfig,
  EVENT,
  eventLogToJson,
  findEvent,
  systemPayloads,
} from '@dstack-cloud/attestation';
import type { EvidenceDevice } from '@dstack-cloud/attestation/attester';
import { fromHex, toHex, utf8Text } from '@dstack-cloud/encoding';
import type { AppInfo } from '@dstack-cloud/ra-tls';
import { collectEvidence } from './collect-evidence.ts';
import { enclaveFacts } from './enclave-facts.ts';
import { tdxEvents } from './event-log.ts';
import type { LocalFacts } from './local-facts.ts';
import { derivedValues, tdReportOf, UNVERIFIED_DEVICE_ID } from './measurements.ts';

const NONE = new Uint8Array(0);
const RETRY_MS = 1_000;

/**
 * Facts from one attestation over zero report data, made once and kept until the register changes: Info is a health probe,
 * a quote may take a second.
 */
export class LocalEvidence {
  readonly #device: EvidenceDevice;
  readonly #composeText: string;
  #facts: Promise<LocalFacts> | undefined;
  #failed: { readonly at: number; readonly error: unknown } | undefined;
  #version = 0;

  constructor(device: EvidenceDevice, composeText: string) {
    this.#device = device;
    this.#composeText = composeText;
  }

  /** Another one after each event: what was made from the facts before is out of date. */
  get version(): number {
    return this.#version;
  }

  /** @throws RpcError with status 503 when the device gives no evidence; the next call tries again */
  facts(): Promise<LocalFacts> {
    if (this.#facts === undefined) {
      const made = this.#make();
      this.#facts = made;
      made.catch((error: unknown) => {
        this.#failed = { at: performance.now(), error };
        if (this.#facts === made) this.#facts = undefined;
      });
    }
    return this.#facts;
  }

  /** For strangers, who may ask as often as they like: a device that failed is left in peace for a moment. */
  publicFacts(): Promise<LocalFacts> {
    const failed = this.#failed;
    const isRecent = failed !== undefined && performance.now() - failed.at < RETRY_MS;
    return isRecent && this.#facts === undefined ? Promise.reject(failed.error) : this.facts();
  }

  /** An event was emitted: what was known about RTMR3 is out of date. */
  changed(): void {
    this.#facts = undefined;
    this.#version += 1;
  }

  async #make(): Promise<LocalFacts> {
    const attestation = await collectEvidence(
      { device: this.#device },
      new Uint8Array(64),
      'local attestation',
    );
    return localFacts(attestation, this.#composeText);
  }
}

/** Reads the facts out of an attestation. @throws GuestError `not-available` */
export function localFacts(attestation: Attestation, composeText: string): LocalFacts {
  const { quote } = attestation;
  if (quote.mode === 'dstack-nitro-enclave') return enclaveFacts(attestation, quote.nsmQuote);
  const td = tdReportOf(attestation);
  const { runtimeEvents } = attestation;
  const find = (name: string) => findEvent(runtimeEvents, name) ?? NONE;
  const keyProviderInfo = find('key-provider');
  const osImageHash = osImageHashOf(attestation.config);
  const scripts = systemPayloads(runtimeEvents, EVENT.initScriptHash);
  const appInfo: AppInfo = {
    appId: find('app-id'),
    composeHash: find('compose-hash'),
    instanceId: find('instance-id'),
    deviceId: UNVERIFIED_DEVICE_ID,
    ...derivedValues(attestation, td, { osImageHash, keyProviderInfo }),
    osImageHash,
    keyProviderInfo,
    ...(scripts.length > 0 ? { initScriptHashes: scripts } : {}),
  };
  const [rtmr0, rtmr1, rtmr2, rtmr3] = td.rtmrs;
  const tcbInfo = {
    mrtd: toHex(td.mrTd),
    rtmr0: toHex(rtmr0),
    rtmr1: toHex(rtmr1),
    rtmr2: toHex(rtmr2),
    rtmr3: toHex(rtmr3),
    ...pcrsOf(attestation),
    mr_aggregated: toHex(appInfo.mrAggregated),
    os_image_hash: toHex(appInfo.osImageHash),
    compose_hash: toHex(appInfo.composeHash),
    device_id: toHex(appInfo.deviceId),
    event_log: JSON.parse(eventLogToJson(tdxEvents(attestation), { strip: false })) as unknown,
    app_compose: composeText,
  };
  return {
    appInfo,
    keyProviderInfo: utf8Text(keyProviderInfo),
    tcbInfo: JSON.stringify(tcbInfo, null, 2),
  };
}

/** Registers of a vTPM, where the platform has one. */
function pcrsOf({ quote }: Attestation): Record<string, string> {
  if (quote.mode !== 'dstack-gcp-tdx') return {};
  return Object.fromEntries(
    quote.tpmQuote.pcrValues.map(({ index, value }) => [`pcr${index}`, toHex(value)]),
  );
}

/** `os_image_hash` of the attested configuration; empty when there is none. */
function osImageHashOf(config: string): Uint8Array {
  try {
    const { os_image_hash: hash } = JSON.parse(attestedConfig(config)) as { os_image_hash?: unknown };
    return typeof hash === 'string' ? fromHex(hash.toLowerCase(), { prefix: 'allow' }) : NONE;
  } catch {
    return NONE;
  }
}
