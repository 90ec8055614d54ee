import { HANDLE } from './tpm-constants.ts';

/** What a command is signed with: everything that goes into cpHash, and the nonce rules. */
export interface AuthorisedCommand {
  readonly code: number;
  /** Names of the handles, in order; for handles without a public area, the handle itself. */
  readonly names: readonly Uint8Array[];
  readonly parameters: Uint8Array;
}

/** One authorisation of a command: a password, or a session that signs commands and checks responses. */
export interface Authorisation {
  readonly handle: number;
  /** Encrypts the first parameter, where the session does so; called once before `request`. */
  prepare?(parameters: Uint8Array): Uint8Array;
  /** nonceCaller, attributes and HMAC of the request. */
  request(command: AuthorisedCommand): { nonce: Uint8Array; attributes: number; hmac: Uint8Array };
  /**
   * Checks the session area of the response and decrypts its first parameter if the session encrypts.
   * @throws AttestationError `device`
   */
  response(
    command: AuthorisedCommand,
    parameters: Uint8Array,
    area: { nonce: Uint8Array; attributes: number; hmac: Uint8Array },
  ): Uint8Array;
}

const EMPTY = new Uint8Array();

/** The empty password, with which all objects of a guest's TPM are protected: their real protection is policy. */
export const EMPTY_PASSWORD: Authorisation = {
  handle: HANDLE.password,
  request: () => ({ nonce: EMPTY, attributes: 0, hmac: EMPTY }),
  response: (_, parameters) => parameters,
};
