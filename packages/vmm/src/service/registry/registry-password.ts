import { AppError, readFileBounded, table } from '@dstack-cloud/app';
import { utf8Text } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { VmmError } from '../../errors.ts';

const MAX_FILE = 1024 * 1024;
/** Under which Docker keeps the password of its own registry. */
const DOCKER_HUB = 'https://index.docker.io/v1/';
const KEY = 'image.registry_auth_file';

const entry = z.object({
  auth: z.string().max(16_384).optional(),
  identitytoken: z.string().optional(),
  registrytoken: z.string().optional(),
});
const fileSchema = z.object({ auths: table(entry).optional() });

/**
 * The value of `Authorization` (Basic, RFC 7617) for a registry, from a file as Docker (`config.json`) and Podman
 * (`auth.json`) write it. It is read each time, so a password can be replaced while the service runs.
 *
 * @param registry `HOST[:PORT]/REPOSITORY` as the configuration names it; the entry with most of its path is taken, as
 * containers-auth.json(5) has it
 * @throws VmmError `bad_config`
 */
export async function registryPassword(file: string, registry: string): Promise<string> {
  const auths = await readAuths(file);
  const parts = registry.replace(/^https?:\/\//, '').split('/');
  const names = parts.map((_, index) => parts.slice(0, parts.length - index).join('/'));
  const host = parts[0] ?? '';
  if (['docker.io', 'index.docker.io', 'registry-1.docker.io'].includes(host)) names.push(DOCKER_HUB);
  const found = names.find((name) => Object.hasOwn(auths, name));
  const { auth, identitytoken, registrytoken } = found === undefined ? {} : auths[found]!;
  if (auth === undefined || auth === '')
    throw bad(
      identitytoken === undefined && registrytoken === undefined
        ? `${file} has no password for ${host}; write one with docker login or podman login, without a credential helper`
        : `${file} has a token for ${host}, not a password, and only passwords are read: log in with one`,
      { expected: `auths."${host}".auth`, found: found === undefined ? 'none' : `auths."${found}"` },
    );
  const bytes = Buffer.from(auth, 'base64');
  if (bytes.toString('base64').replaceAll('=', '') !== auth.replaceAll('=', '') || !bytes.includes(':'))
    throw bad(`${file}: auths."${found}".auth is not base64 of USER:PASSWORD`);
  return `Basic ${bytes.toString('base64')}`;
}

async function readAuths(file: string): Promise<Readonly<Record<string, z.infer<typeof entry>>>> {
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(await readFileBounded(file, MAX_FILE)));
  } catch (cause) {
    // What a JSON parser says shows what it read.
    throw bad(cause instanceof AppError ? cause.message : `${file} is not JSON`);
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) throw bad(`${file} has no table "auths", as docker login writes it`);
  return parsed.data.auths ?? {};
}

function bad(what: string, details: { readonly expected?: string; readonly found?: string } = {}): VmmError {
  return new VmmError('bad_config', `${KEY}: ${what}`, details);
}
