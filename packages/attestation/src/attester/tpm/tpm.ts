import { ByteReader, ByteWriter, EncodingError } from '@dstack-cloud/encoding';
import { AttestationError } from '../../errors.ts';
import { COMMAND, HANDLE, RC, TAG } from './tpm-constants.ts';
import { TpmResponseError } from './tpm-response-error.ts';
import { type Authorisation, type AuthorisedCommand, EMPTY_PASSWORD } from './tpm-session.ts';
import { take2b } from './tpm-structures.ts';
import { openTpmTransport, type TpmTransport } from './tpm-transport.ts';

const HEADER_BYTES = 10;
const WARNINGS: readonly number[] = [RC.retry, RC.yielded, RC.testing, RC.nvRate, RC.nvUnavailable];
const MAX_TRIES = 12;
const FIRST_WAIT_MS = 2;
const DEFAULT_TIMEOUT_MS = 30_000;

export interface TpmCommand {
  readonly code: keyof typeof COMMAND;
  readonly handles?: readonly number[];
  /** Names of the handles, for sessions that sign; default the handles themselves. */
  readonly names?: readonly Uint8Array[];
  readonly authorisations?: readonly Authorisation[];
  readonly parameters?: Uint8Array;
  /** Whether the response starts with a handle. */
  readonly returnsHandle?: boolean;
}

export interface TpmResponse {
  /** 0 when the command returns none. */
  readonly handle: number;
  readonly parameters: ByteReader;
}

/** An open TPM: one command after another, and what was loaded is flushed at the end. */
export class Tpm {
  readonly #transport: TpmTransport;
  readonly #loaded: number[] = [];

  constructor(transport: TpmTransport) {
    this.#transport = transport;
  }

  /**
   * Sends a command, again after a warning that asks for it (`WARNINGS`), and takes its response apart. A lockout is
   * cleared once if the TPM allows that without a password.
   * @throws TpmResponseError for error codes, AttestationError `device` for responses that are none
   */
  async execute(command: TpmCommand): Promise<TpmResponse> {
    try {
      return await this.#send(command);
    } catch (error) {
      const isLocked = error instanceof TpmResponseError && error.responseCode === RC.lockout;
      if (!isLocked || !(await this.#clearLockout())) throw error;
      return await this.#send(command);
    }
  }

  /**
   * A TPM counts each reset after the use of an attestation key as a failed attempt to guess its password
   * (TPM 2.0 Part 1 section 19.8.6). Such keys have none, so the lockout protects nothing; it only keeps a machine that
   * crashed some times from its keys.
   */
  async #clearLockout(): Promise<boolean> {
    const reset: TpmCommand = {
      code: 'dictionaryAttackLockReset',
      handles: [HANDLE.lockout],
      authorisations: [EMPTY_PASSWORD],
    };
    return await this.#send(reset).then(
      () => true,
      () => false,
    );
  }

  async #send(command: TpmCommand): Promise<TpmResponse> {
    for (let tries = 1, wait = FIRST_WAIT_MS; ; tries++, wait *= 2) {
      const { bytes, signed } = encode(command);
      const response = await this.#transport.exchange(bytes);
      try {
        return decode(command, signed, response);
      } catch (error) {
        if (error instanceof EncodingError) {
          throw new AttestationError('device', `The TPM's answer to ${command.code} is malformed`, {
            cause: error,
          });
        }
        const again = error instanceof TpmResponseError && WARNINGS.includes(error.responseCode);
        if (!again || tries === MAX_TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  }

  /** Marks a loaded object or session to be flushed at the end. */
  track(handle: number): number {
    this.#loaded.push(handle);
    return handle;
  }

  async flush(handle: number): Promise<void> {
    const at = this.#loaded.indexOf(handle);
    if (at >= 0) this.#loaded.splice(at, 1);
    await this.execute({ code: 'flushContext', parameters: new ByteWriter().u32be(handle).finish() });
  }

  /** Flushes what is still loaded and lets the device go. */
  async close(): Promise<void> {
    try {
      for (const handle of [...this.#loaded].reverse()) await this.flush(handle).catch(() => undefined);
    } finally {
      await this.#transport.close();
    }
  }
}

const queues = new Map<string, Promise<unknown>>();

/**
 * Runs `body` with the TPM at a location (`/dev/tpmrm0`, `unix:PATH`, `tcp:HOST:PORT`). Uses of one location go one
 * after another: objects and sessions have few places, and a software TPM has one client at a time.
 * @throws AttestationError `device`
 */
export function withTpm<T>(
  location: string,
  body: (tpm: Tpm) => Promise<T>,
  timeoutMs: number = DEFAULT_TIMEOUT_MS,
): Promise<T> {
  const use = (queues.get(location) ?? Promise.resolve()).then(async () => {
    const tpm = new Tpm(await openTpmTransport(location, timeoutMs));
    try {
      return await body(tpm);
    } catch (error) {
      if (!(error instanceof EncodingError)) throw error;
      throw new AttestationError('device', `A response of the TPM is malformed: ${error.message}`, {
        cause: error,
      });
    } finally {
      await tpm.close();
    }
  });
  queues.set(
    location,
    use.catch(() => undefined),
  );
  return use;
}

function encode(command: TpmCommand): { bytes: Uint8Array; signed: AuthorisedCommand } {
  const { handles = [], authorisations = [] } = command;
  const parameters = authorisations.reduce(
    (bytes, authorisation) => authorisation.prepare?.(bytes) ?? bytes,
    command.parameters ?? new Uint8Array(),
  );
  const signed = {
    code: COMMAND[command.code],
    names: command.names ?? handles.map((handle) => new ByteWriter().u32be(handle).finish()),
    parameters,
  };
  const areas = new ByteWriter();
  for (const authorisation of authorisations) {
    const { nonce, attributes, hmac } = authorisation.request(signed);
    areas.u32be(authorisation.handle).u16be(nonce.length).bytes(nonce).u8(attributes);
    areas.u16be(hmac.length).bytes(hmac);
  }
  const body = new ByteWriter();
  for (const handle of handles) body.u32be(handle);
  if (authorisations.length > 0) body.u32be(areas.length).bytes(areas.finish());
  body.bytes(parameters);
  const bytes = new ByteWriter()
    .u16be(authorisations.length > 0 ? TAG.sessions : TAG.noSessions)
    .u32be(HEADER_BYTES + body.length)
    .u32be(signed.code)
    .bytes(body.finish())
    .finish();
  return { bytes, signed };
}

function decode(command: TpmCommand, signed: AuthorisedCommand, response: Uint8Array): TpmResponse {
  const { authorisations = [] } = command;
  const reader = new ByteReader(response);
  const tag = reader.u16be();
  const size = reader.u32be();
  const responseCode = reader.u32be();
  if (size !== response.length) {
    throw new AttestationError('device', 'The TPM sent a response whose size lies', {
      expected: `${size}`,
      found: `${response.length}`,
    });
  }
  if (responseCode !== RC.success) throw new TpmResponseError(command.code, responseCode);
  if (tag !== (authorisations.length > 0 ? TAG.sessions : TAG.noSessions)) {
    throw new AttestationError('device', `The TPM answered ${command.code} with another tag`);
  }
  const handle = command.returnsHandle ? reader.u32be() : 0;
  if (authorisations.length === 0) return { handle, parameters: new ByteReader(reader.rest()) };
  let parameters = reader.take(reader.u32be());
  for (const authorisation of authorisations) {
    const area = { nonce: take2b(reader), attributes: reader.u8(), hmac: take2b(reader) };
    parameters = authorisation.response(signed, parameters, area);
  }
  reader.finish();
  return { handle, parameters: new ByteReader(parameters) };
}
