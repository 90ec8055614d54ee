import { AttestationError } from '../../errors.ts';

/** A command that the TPM answered with an error. */
export class TpmResponseError extends AttestationError {
  readonly responseCode: number;

  constructor(command: string, responseCode: number) {
    const code = `0x${responseCode.toString(16)}`;
    super('device', `The TPM refused ${command} with ${code}`, { found: code });
    this.name = 'TpmResponseError';
    this.responseCode = responseCode;
  }

  /** The code without the number of the handle, session or parameter that it is about (Part 2 section 6.6.2). */
  get baseCode(): number {
    return (this.responseCode & 0x80) !== 0 ? this.responseCode & 0x0bf : this.responseCode;
  }
}
