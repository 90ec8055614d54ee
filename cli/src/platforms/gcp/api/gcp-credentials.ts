import { readFileBounded } from '@dstack-cloud/app';
import type { Context } from '../../../context.ts';
import { CliError, messageOf } from '../../../errors.ts';

const SCOPE = 'https://www.googleapis.com/auth/cloud-platform';

/** Where tokens come from. */
export interface Credentials {
  /** A token that is valid now. */
  token(): Promise<string>;
  /** Google refused the last one: the next has to be another. False when there is no other. */
  renew(): boolean;
}

/**
 * Application default credentials in all their forms, by Google's own library: a file (service account, user, workload
 * identity), what `gcloud auth application-default login` left, the metadata server. Or a token of the caller's, in
 * `CLOUDSDK_AUTH_ACCESS_TOKEN` or the file that `CLOUDSDK_AUTH_ACCESS_TOKEN_FILE` names.
 *
 * @throws CliError `no_credentials`
 */
export async function gcpCredentials({ env }: Context): Promise<Credentials> {
  const given = await givenToken(env);
  if (given !== undefined) return { token: () => Promise.resolve(given), renew: () => false };
  const { GoogleAuth } = await import('./google-auth.ts');
  const keyFilename = env['GOOGLE_APPLICATION_CREDENTIALS'];
  const auth = new GoogleAuth({ scopes: SCOPE, ...(keyFilename ? { keyFilename } : {}) });
  const client = await auth.getClient().catch((cause: unknown) => {
    throw noCredentials(cause);
  });
  return {
    token: async () => {
      const { token } = await client.getAccessToken().catch((cause: unknown) => {
        throw noCredentials(cause);
      });
      if (typeof token !== 'string') throw noCredentials(new Error('No token was given'));
      return token;
    },
    renew: () => {
      client.credentials = { ...client.credentials, access_token: null, expiry_date: 1 };
      (client as { cachedAccessToken?: unknown }).cachedAccessToken = null;
      return true;
    },
  };
}

async function givenToken(env: NodeJS.ProcessEnv): Promise<string | undefined> {
  const text = env['CLOUDSDK_AUTH_ACCESS_TOKEN'];
  if (text !== undefined && text !== '') return checked(text, 'CLOUDSDK_AUTH_ACCESS_TOKEN');
  const path = env['CLOUDSDK_AUTH_ACCESS_TOKEN_FILE'];
  if (path === undefined || path === '') return undefined;
  try {
    return checked(new TextDecoder().decode(await readFileBounded(path, 64 * 1024)).trim(), path);
  } catch (cause) {
    throw noCredentials(cause);
  }
}

function checked(token: string, source: string): string {
  if (/^[\x21-\x7e]{1,16384}$/.test(token)) return token;
  throw noCredentials(new Error(`${source} holds no token`));
}

function noCredentials(cause: unknown): CliError {
  const message = messageOf(cause);
  const isClock = /iat|short-lived|issued in the future|not yet valid/i.test(message);
  return new CliError('no_credentials', `There are no usable credentials for Google Cloud: ${message}`, {
    hint: isClock
      ? 'Set the clock of this computer: Google takes tokens only within a few minutes of the true time'
      : 'Run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account',
    cause,
  });
}
