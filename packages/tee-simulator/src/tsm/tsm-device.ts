import { utf8 } from '@dstack-cloud/encoding';
import { writeCcel } from '../image/ccel.ts';
import { sha384 } from '../image/hash.ts';
import { type SimulatedBoot, type SimulatedMachine, simulatedBoot } from '../image/simulated-image.ts';
import type { SimulatedPlatform } from '../platform.ts';
import type { QuoteOptions } from '../tdx/quote.ts';
import type { TdState } from '../tdx/td-state.ts';
import type { TsmReply, TsmRequest } from './wire.ts';

const REPORT_DATA_BYTES = 64;
const DIGEST_BYTES = 48;
const RTMR_FILE = /^rtmr([0-3]):sha384$/;
const PROVIDER = utf8('tdx_guest\n');

export interface TsmDeviceOptions extends SimulatedMachine {
  /** What this machine has measured before its programs run; by default that of the named image. */
  readonly boot?: SimulatedBoot;
  /** Fields of the TD report beside the registers. */
  readonly td?: Partial<Omit<TdState, 'rtmrs' | 'mrTd'>>;
  readonly quote?: QuoteOptions;
  /** Called with the new registers before an extension takes effect; a rejection refuses it (EIO). */
  readonly onExtend?: (rtmrs: readonly Uint8Array[]) => Promise<void>;
}

/** The TDX module of one boot: registers that only extend, and quotes over them. RTMR3 starts at zero. */
export class TsmDevice {
  readonly #platform: SimulatedPlatform;
  readonly #options: TsmDeviceOptions;
  readonly #mrTd: Uint8Array;
  readonly #ccel: Uint8Array;
  #rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  #extending: Promise<unknown> = Promise.resolve();

  constructor(platform: SimulatedPlatform, options: TsmDeviceOptions) {
    const boot = options.boot ?? simulatedBoot(options);
    this.#platform = platform;
    this.#options = options;
    this.#mrTd = boot.mrTd;
    this.#ccel = writeCcel(boot.events);
    this.#rtmrs = [...boot.rtmrs, new Uint8Array(DIGEST_BYTES)];
  }

  get mrTd(): Uint8Array {
    return this.#mrTd;
  }

  get rtmrs(): readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array] {
    return this.#rtmrs;
  }

  /** A new report entry, as mkdir makes one in configfs: each has its own inblob and generation. */
  entry(): TsmEntry {
    return new TsmEntry(this);
  }

  quote(reportData: Uint8Array): Uint8Array {
    const td = { ...this.#options.td, mrTd: this.#mrTd, rtmrs: this.#rtmrs };
    return this.#platform.quote(reportData, td, this.#options.quote);
  }

  get ccel(): Uint8Array {
    return this.#ccel;
  }

  /** RTMR = SHA384(RTMR ‖ digest), one at a time. */
  async extend(index: 2 | 3, digest: Uint8Array): Promise<void> {
    const extension = this.#extending.then(async () => {
      const next = [...this.#rtmrs] as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
      next[index] = sha384(next[index], digest);
      await this.#options.onExtend?.(next);
      this.#rtmrs = next;
    });
    this.#extending = extension.catch(() => undefined);
    await extension;
  }
}

/** The files of one report entry and of the device, as the guest's kernel shows them. */
export class TsmEntry {
  readonly #device: TsmDevice;
  #reportData: Uint8Array | undefined;
  #generation = 0;

  constructor(device: TsmDevice) {
    this.#device = device;
  }

  async handle(request: TsmRequest): Promise<TsmReply> {
    const rtmr = RTMR_FILE.exec(request.file)?.[1];
    if (rtmr !== undefined) return await this.#register(request, Number(rtmr));
    if (request.op === 'write') return this.#write(request.file, request.data);
    switch (request.file) {
      case 'provider':
        return { ok: true, data: PROVIDER };
      case 'generation':
        return { ok: true, data: utf8(`${this.#generation}\n`) };
      case 'outblob':
        if (!this.#reportData) return { ok: false, errno: 'EINVAL' };
        return { ok: true, data: this.#device.quote(this.#reportData) };
      case 'ccel':
        return { ok: true, data: this.#device.ccel };
      default:
        return { ok: false, errno: request.file === 'inblob' ? 'EACCES' : 'ENOENT' };
    }
  }

  #write(file: string, data: Uint8Array): TsmReply {
    if (file !== 'inblob') return { ok: false, errno: 'EACCES' };
    if (data.length !== REPORT_DATA_BYTES) return { ok: false, errno: 'EINVAL' };
    this.#reportData = data;
    this.#generation++;
    return { ok: true };
  }

  async #register(request: TsmRequest, index: number): Promise<TsmReply> {
    if (request.op === 'read') return { ok: true, data: this.#device.rtmrs[index as 0 | 1 | 2 | 3] };
    // RTMR 0 and 1 belong to the firmware.
    if (index !== 2 && index !== 3) return { ok: false, errno: 'EACCES' };
    if (request.data.length !== DIGEST_BYTES) return { ok: false, errno: 'EINVAL' };
    try {
      await this.#device.extend(index, request.data);
      return { ok: true };
    } catch {
      return { ok: false, errno: 'EIO' };
    }
  }
}
