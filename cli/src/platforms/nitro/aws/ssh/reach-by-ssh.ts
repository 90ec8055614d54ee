import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CreateTagsCommand, GetConsoleOutputCommand, type Instance } from '@aws-sdk/client-ec2';
import { readFileBounded } from '@dstack-cloud/app';
import ssh2 from 'ssh2';
import { expandHome } from '../../../../context.ts';
import { CliError } from '../../../../errors.ts';
import { parseSource } from '../../../cloud/port.ts';
import { explainAws } from '../aws-error.ts';
import type { AwsPlace } from '../aws-place.ts';
import { instanceById } from '../own-instance.ts';
import type { Ran } from '../ran.ts';
import { tagOf } from '../tags.ts';
import { waitUntil } from '../wait-until.ts';
import { type HostKey, hostKeysOfConsole, hostKeyTag, parseHostKey, parseHostKeyTag } from './host-keys.ts';
import { runBySsh, type SshTarget } from './run-by-ssh.ts';

/** Tag of a parent instance: keys of its SSH server. Whoever may write it may replace the instance. */
const HOST_KEYS = 'dstack:ssh-host-keys';
const MAX_KEY_FILE = 64 * 1024;
const MAX_CONSOLE = 1024 * 1024;
const LOGIN_MS = 60_000;

/**
 * Waits until the instance takes commands by SSH. Which keys its server has says AWS, never the network: the instance printed
 * them on its console when it was made, and they are kept in a tag of it.
 */
export async function untilSshAnswers(aws: AwsPlace, live: Instance, longestMs: number): Promise<Instance> {
  const { place, settings } = aws;
  const login = await sshLogin(aws);
  const known = pinnedKeys(aws, live) ?? (await keysOfConsole(aws, live, longestMs));
  const tagged = await tagHostKeys(aws, live, known);
  const id = live.InstanceId ?? '';
  await waitUntil(place.context, `Instance ${id} does not answer by SSH`, longestMs, async () => {
    try {
      // Its address may be new since it was started.
      const now = (await instanceById(aws, id)) ?? live;
      const target = { ...sshTarget(aws, now, known), login };
      return await runBySsh(target, 'login', 'true', { signal: place.context.signal, longestMs: LOGIN_MS });
    } catch (error) {
      if (!(error instanceof CliError) || !['unreachable', 'timed_out'].includes(error.code)) throw error;
      place.context.debug(error.message);
      return undefined;
    }
  }).catch((error: unknown) => {
    if (!(error instanceof CliError) || error.code !== 'timed_out') throw error;
    throw new CliError('timed_out', error.message, {
      hint: `Port ${settings.nitro.ssh_port} must be open for the address that you come from (nitro_config.ssh_sources); then run the same command again`,
    });
  });
  return { ...((await instanceById(aws, id)) ?? live), Tags: tagged };
}

/** @throws CliError `refused` when nothing says which keys the host has */
export async function runOverSsh(
  aws: AwsPlace,
  live: Instance,
  what: string,
  script: string,
  longestMs: number,
): Promise<Ran> {
  const keys = pinnedKeys(aws, live);
  if (keys === undefined)
    throw new CliError('refused', `Nothing says which key the SSH server of ${live.InstanceId} has`, {
      expected: `tag ${HOST_KEYS}, which deploy writes, or nitro_config.ssh_host_key`,
      hint: 'Run dstack-cloud deploy, which asks AWS for it',
    });
  const target = { ...sshTarget(aws, live, keys), login: await sshLogin(aws) };
  const { code, stdout, stderr } = await runBySsh(target, what, script, {
    signal: aws.place.context.signal,
    longestMs,
  });
  return { how: code === 0 ? undefined : `ended with exit code ${code}`, stdout, stderr };
}

function sshTarget(
  { settings: { nitro } }: AwsPlace,
  live: Instance,
  hostKeys: readonly HostKey[],
): Omit<SshTarget, 'login'> {
  const address = nitro.ssh_host || live.PublicIpAddress || live.PrivateIpAddress || '';
  return { address, port: nitro.ssh_port, user: nitro.ssh_user, hostKeys };
}

function pinnedKeys({ settings: { nitro } }: AwsPlace, { Tags }: Instance): readonly HostKey[] | undefined {
  if (nitro.ssh_host_key !== '') return [parseHostKey(nitro.ssh_host_key)];
  const tag = tagOf(Tags, HOST_KEYS);
  return tag === undefined ? undefined : parseHostKeyTag(tag);
}

/** Asks AWS what the instance printed; that takes some minutes after its launch. */
async function keysOfConsole(aws: AwsPlace, live: Instance, longestMs: number): Promise<readonly HostKey[]> {
  const { ec2, options, place } = aws;
  const InstanceId = live.InstanceId ?? '';
  place.context.info(`Waiting until the console of ${InstanceId} shows the keys of its SSH server`);
  try {
    return await waitUntil(place.context, 'The keys of its SSH server', longestMs, async () => {
      const { Output = '' } = await ec2.send(new GetConsoleOutputCommand({ InstanceId }), options);
      const keys = hostKeysOfConsole(Buffer.from(Output.slice(-MAX_CONSOLE), 'base64').toString('latin1'));
      return keys.length === 0 ? undefined : keys;
    });
  } catch (error) {
    if (error instanceof CliError && error.code === 'timed_out')
      throw new CliError('timed_out', `The console of ${InstanceId} shows no keys of an SSH server`, {
        hint: 'An image whose cloud-init does not print them needs nitro_config.ssh_host_key',
      });
    throw explainAws(`The console of ${InstanceId}`, error);
  }
}

async function tagHostKeys(
  aws: AwsPlace,
  { InstanceId = '', Tags = [] }: Instance,
  keys: readonly HostKey[],
): Promise<Instance['Tags']> {
  const tag = { Key: HOST_KEYS, Value: hostKeyTag(keys) };
  if (aws.settings.nitro.ssh_host_key !== '' || tagOf(Tags, HOST_KEYS) === tag.Value) return Tags;
  try {
    await aws.ec2.send(new CreateTagsCommand({ Resources: [InstanceId], Tags: [tag] }), aws.options);
  } catch (error) {
    throw explainAws(`Instance ${InstanceId}`, error);
  }
  return [...Tags.filter(({ Key }) => Key !== HOST_KEYS), tag];
}

/** What a deploy by SSH needs before anything is made. @throws CliError */
export async function requireSsh(aws: Pick<AwsPlace, 'place' | 'settings'>): Promise<void> {
  const { nitro } = aws.settings;
  await sshLogin(aws);
  if (nitro.ssh_host_key !== '') parseHostKey(nitro.ssh_host_key);
  for (const source of nitro.ssh_sources) parseSource(source);
  const missing = (member: string, why: string): CliError =>
    new CliError('bad_app_json', `nitro_config.access is ssh, and ${member} is empty`, { hint: why });
  if (nitro.key_name === '')
    throw missing('key_name', 'Name a key pair of the region: AWS puts its public half on the new instance');
  if (nitro.ssh_sources.length === 0 && nitro.security_group_ids.length === 0)
    throw missing(
      'ssh_sources',
      `Name the addresses that you come from, such as ["203.0.113.7/32"], or in security_group_ids a group that lets you in to port ${nitro.ssh_port}`,
    );
}

/** How this user logs in. @throws CliError `no_key` */
async function sshLogin({
  place,
  settings: { nitro },
}: Pick<AwsPlace, 'place' | 'settings'>): Promise<SshTarget['login']> {
  const { context, project } = place;
  if (nitro.key_path === '') {
    const agent = context.env['SSH_AUTH_SOCK'];
    if (agent !== undefined && agent !== '') return { agent };
    throw new CliError('no_key', 'nitro_config.access is ssh, and there is no key to log in with', {
      hint: 'Set nitro_config.key_path to the private half of the key pair nitro_config.key_name, or start ssh-agent and add it',
    });
  }
  const path = resolve(project.directory, expandHome(context, nitro.key_path));
  const bad = (problem: string, hint: string): CliError =>
    new CliError('no_key', `${path} ${problem}`, { hint });
  const privateKey = await readFileBounded(path, MAX_KEY_FILE, { label: 'The SSH key' });
  if (((await stat(path)).mode & 0o077) !== 0)
    throw bad('may be read or written by others', `chmod 600 ${path}`);
  const parsed = ssh2.utils.parseKey(Buffer.from(privateKey));
  if (parsed instanceof Error) {
    if (/no passphrase|encrypted/i.test(parsed.message))
      throw bad('has a passphrase', 'Add it to ssh-agent, and leave nitro_config.key_path empty');
    throw bad(`is no private key: ${parsed.message}`, 'Name the .pem file of the key pair');
  }
  const [key] = [parsed].flat();
  if (key?.isPrivateKey() === true) return { privateKey };
  throw bad('is a public key', 'Name the private half of the key pair');
}
