import { AttestationError } from '../../errors.ts';
import { RC } from './tpm-constants.ts';

/** A command that the TPM answered with an error. */
export class TpmResponseError extends AttestationError {
  readonly responseCode: number;

  constructor(command: string, responseCode: number) {
    const code = `0x${responseCode.toString(16)}`;
    super('device', `The TPM refused ${command} with ${code}${hint(responseCode)}`, { found: code });
    this.name = 'TpmResponseError';
    this.responseCode = responseCode;
  }

  /** The code without the number of the handle, session or parameter that it is about (Part 2 section 6.6.2). */
  get baseCode(): number {
    return (this.responseCode & 0x80) !== 0 ? this.responseCode & 0x0bf : this.responseCode;
  }
}

/** What to do about the codes that a machine's owner can do something about (Part 2 section 6.6.3). */
function hint(code: number): string {
  switch (code) {
    case RC.lockout:
      return ': it is in dictionary-attack lockout; wait for its recovery time, or clear it with tpm2_dictionarylockout --clear-lockout';
    case RC.retry:
    case RC.yielded:
    case RC.testing:
      return ': it stays busy; restart the machine';
    case RC.nvRate:
    case RC.nvUnavailable:
      return ': its NV memory takes no commands now; wait some minutes and restart the machine';
    default:
      return '';
  }
}
