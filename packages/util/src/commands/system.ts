import { join } from 'node:path';
import { parseSysConfig } from '@dstack-cloud/app';
import { utf8 } from '@dstack-cloud/encoding';
import { type Command, requiredText, textOf } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { readNamedFile } from '../files.ts';
import { thisMachine } from '../machine.ts';
import { note } from '../note.ts';

const MAX_CONFIG = 1024 * 1024;
const TIMEOUT_MS = 30_000;
const WORK_DIR: Command['options'][number] = {
  name: 'work-dir',
  value: 'WORK_DIR',
  help: 'dstack work directory',
  required: true,
};

/** Loaded by what needs it alone: an enclave waits for its keys. */
const guestAgent = () => import('@dstack-cloud/guest-agent');

export const setup: Command = {
  name: 'setup',
  about: 'Prepare dstack system',
  options: [
    WORK_DIR,
    { name: 'device', value: 'DEVICE', help: 'Hard disk device', required: true },
    { name: 'mount-point', value: 'MOUNT_POINT', help: 'The FS mount point', required: true },
  ],
  async run(values) {
    process.umask(0o077);
    const {
      createLogger,
      hostNotifier,
      machineSteps,
      openConfiguredDevice,
      parseGuestConfig,
      prepare,
      thisMachine: thisHost,
    } = await guestAgent();
    const log = createLogger('dstack-util');
    const config = parseGuestConfig(
      JSON.stringify({
        work_dir: requiredText(values, 'work-dir'),
        data_dir: requiredText(values, 'mount-point'),
      }),
      process.cwd(),
    );
    const device = requiredText(values, 'device').replace(/^\/dev\//, '');
    // The boot finds its disk by the command line; the argument stands in for that.
    const commandLine = async () => [`dstack.data_device=/dev/${device}`];
    const { keyProvider } = await prepare({
      config,
      openDevice: (vmConfig) => openConfiguredDevice(config, vmConfig),
      notify: hostNotifier(undefined, log),
      log,
      machine: machineSteps(config, thisHost, log),
      host: { ...thisHost, commandLine },
    });
    note(`dstack system is set up: keys from ${keyProvider}`);
  },
};

const mount: Command = {
  name: 'mount',
  about: 'Mount the host-provided shared directory read-only',
  options: [
    {
      name: 'mount-point',
      value: 'MOUNT_POINT',
      help: 'Directory where the host share is mounted',
      required: true,
    },
  ],
  async run(values) {
    const { mountSharedDisk, thisMachine: thisHost } = await guestAgent();
    await mountSharedDisk(thisHost, requiredText(values, 'mount-point'));
  },
};

const unmount: Command = {
  name: 'unmount',
  about: 'Unmount a host-provided shared directory',
  options: [
    {
      name: 'mount-point',
      value: 'MOUNT_POINT',
      help: 'Mounted host-share directory',
      required: true,
    },
  ],
  async run(values) {
    const { thisMachine: thisHost, unmountSharedDisk } = await guestAgent();
    await unmountSharedDisk(thisHost, requiredText(values, 'mount-point'));
  },
};

export const hostShared: Command = {
  name: 'host-shared',
  about: 'Mount or unmount the host-provided shared directory',
  options: [],
  commands: [mount, unmount],
};

export const notifyHost: Command = {
  name: 'notify-host',
  about: 'Notify the host about the dstack app',
  options: [
    { name: 'url', short: 'u', value: 'URL' },
    { name: 'event', short: 'e', value: 'EVENT', help: 'event name', required: true },
    { name: 'payload', short: 'd', value: 'PAYLOAD', help: 'event payload', required: true },
  ],
  async run(values) {
    const url = textOf(values, 'url') ?? (await readSysConfig(thisMachine().hostShared)).hostApiUrl;
    if (url === undefined || url === '') return;
    const { hostTransport } = await guestAgent();
    const transport = hostTransport(url, { timeoutMs: TIMEOUT_MS });
    if (transport === undefined)
      throw new UtilError(
        `host API URL ${url} has no transport here: vsock://, http:// or unix: is expected`,
      );
    const event = { event: requiredText(values, 'event'), payload: requiredText(values, 'payload') };
    const body = utf8(JSON.stringify(event));
    try {
      const { status } = await transport.call({ method: 'Notify', json: true, body });
      if (status !== 200) throw new UtilError(`the host answers HTTP status ${status}`);
    } catch (cause) {
      throw new UtilError(`error sending request for url (${url.replace(/\/+$/, '')}/Notify?json)`, cause);
    }
  },
};

export const gatewayRefresh: Command = {
  name: 'gateway-refresh',
  about: 'Refresh the dstack gateway configuration',
  options: [WORK_DIR, { name: 'force', help: 'Force reconfiguration even if config unchanged' }],
  run: async (values) => await requireNoGateway(requiredText(values, 'work-dir')),
};

export const gatewayChecker: Command = {
  name: 'gateway-checker',
  about: 'Keep the dstack gateway registration fresh (long-running)',
  options: [WORK_DIR],
  async run(values) {
    try {
      await requireNoGateway(requiredText(values, 'work-dir'));
    } catch (cause) {
      throw new UtilError('failed to load gateway configuration', cause);
    }
  },
};

/** Without a gateway there is nothing to do; otherwise it is the guest program that registers, with a key of its own. */
async function requireNoGateway(workDir: string): Promise<void> {
  const folder = join(workDir, '.host-shared');
  let urls: readonly string[];
  try {
    urls = (await readSysConfig(folder)).gatewayUrls;
  } catch (cause) {
    throw new UtilError(`Failed to load host-shared dir: ${folder}`, cause);
  }
  if (urls.length > 0)
    throw new UtilError(
      'the guest program (dstack-guest) keeps the registration of this machine itself: there is nothing to refresh by hand',
    );
  note('No gateway is configured: nothing to do');
}

async function readSysConfig(folder: string): Promise<ReturnType<typeof parseSysConfig>> {
  return parseSysConfig(
    await readNamedFile(join(folder, '.sys-config.json'), 'Failed to read file', MAX_CONFIG),
  );
}
