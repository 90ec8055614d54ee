import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { printableLine } from '@dstack-cloud/encoding';
import { isOperator, type PasswordCheck, passwordCheck, showsCredential } from '@dstack-cloud/prpc';
import { VmmError } from '../../errors.ts';
import type { VmmConfig } from '../config/vmm-config.ts';

const HEADER = 'x-admin-token';
const MAX_NAME = 64;

/** Who may use the service, and how the log names them. */
export interface Operators {
  /** Whether everybody is in who reaches the listener: its socket's mode decides. */
  readonly isOpen: boolean;
  showsCredential(request: IncomingMessage): boolean;
  isOne(request: IncomingMessage): Promise<boolean>;
  /** Of a request that was let in. */
  nameOf(request: IncomingMessage): string;
}

/** @throws VmmError `bad_config` */
export function operatorsOf({ auth }: VmmConfig): Operators {
  const names = new WeakMap<IncomingMessage, string>();
  const checkPassword = passwords(auth.htpasswd_file);
  return {
    isOpen: !auth.enabled,
    showsCredential: (request) => showsCredential(request, { header: HEADER }),
    async isOne(request) {
      for (const [index, token] of auth.tokens.entries()) {
        if (!(await isOperator(request, { header: HEADER, token, checkPassword: undefined }))) continue;
        names.set(request, `token ${index + 1}`);
        return true;
      }
      if (!(await isOperator(request, { header: HEADER, token: '', checkPassword }))) return false;
      names.set(request, userOf(request));
      return true;
    },
    nameOf: (request) => names.get(request) ?? 'socket',
  };
}

function passwords(file: string): PasswordCheck | undefined {
  if (file === '') return undefined;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new VmmError(
      'bad_config',
      `auth.htpasswd_file: ${file} cannot be read: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
  const check = passwordCheck(text);
  if (check !== undefined) return check;
  throw new VmmError('bad_config', `auth.htpasswd_file: ${file} must hold bcrypt entries (htpasswd -B)`);
}

/** Of HTTP Basic (RFC 7617), after its password was right. */
function userOf({ headers }: IncomingMessage): string {
  const encoded = (headers.authorization ?? '').slice('Basic '.length).slice(0, 2048);
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return `user ${printableLine(colon < 0 ? text : text.slice(0, colon), MAX_NAME)}`;
}
