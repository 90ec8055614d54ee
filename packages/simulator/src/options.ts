import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { SimulatorError } from '@dstack-cloud/tee-simulator';

/** What a simulator is started with. */
export interface SimulatorOptions {
  /** Folder of the sockets. */
  readonly directory: string;
  /** Folder with the files of a recorded identity; undefined for one of the simulator's own. */
  readonly fixture?: string | undefined;
  /** The original's configuration file. */
  readonly config?: string | undefined;
  /** app-compose.json of the simulated application. */
  readonly appCompose?: string | undefined;
  /** `HOST:PORT` where the methods of both sockets are served by TCP. */
  readonly listen?: string | undefined;
}

export const USAGE = `Usage: dstack-simulator [DIR] [options]

A guest agent without a TEE, for developing applications: dstack.sock, tappd.sock, external.sock and guest.sock in DIR,
by default the current folder. SIMULATED: its evidence and keys prove and protect nothing.

  --fixture DIR        serve a recorded identity: appkeys.json, app-compose.json, sys-config.json, attestation.bin
  --app-compose FILE   the application's app-compose.json; by default one without services
  --listen HOST:PORT   serve the methods of dstack.sock and tappd.sock by TCP as well; port 0 is any free one
  -c, --config FILE    the original simulator's dstack.toml; by default the one in DIR, if there is one
      --json           print the ready line as JSON
      --version        print the version
  -h, --help           print this text

Examples:
  dstack-simulator
      export DSTACK_SIMULATOR_ENDPOINT=$PWD/dstack.sock, then run the application
  dstack-simulator /tmp/sim --listen 127.0.0.1:8090
      also DSTACK_SIMULATOR_ENDPOINT=http://127.0.0.1:8090

Without --fixture the identity is the simulator's own: keys stay the same for a folder, in DIR/.dstack-simulator.
`;

/** Reads the command line; `help` and `version` are questions, all else starts a simulator. @throws SimulatorError `argument` */
export function readOptions(
  argv: readonly string[],
): 'help' | 'version' | (SimulatorOptions & { readonly json: boolean }) {
  const { values, positionals } = parsed(argv);
  if (values.help) return 'help';
  if (values.version) return 'version';
  if (positionals.length > 1)
    throw new SimulatorError(
      'argument',
      `One folder is wanted, not ${positionals.join(' and ')}; see --help`,
    );
  if (values.fixture !== undefined && values['app-compose'] !== undefined)
    throw new SimulatorError(
      'argument',
      '--fixture has an app-compose.json of its own; leave out --app-compose',
    );
  const path = (text: string | undefined) => (text === undefined ? undefined : resolve(text));
  return {
    directory: resolve(positionals[0] ?? '.'),
    fixture: path(values.fixture),
    config: path(values.config),
    appCompose: path(values['app-compose']),
    listen: values.listen,
    json: values.json,
  };
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        fixture: { type: 'string' },
        'app-compose': { type: 'string' },
        listen: { type: 'string' },
        config: { type: 'string', short: 'c' },
        json: { type: 'boolean', default: false },
        version: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (cause) {
    throw new SimulatorError('argument', `${(cause as Error).message}; see --help`, { cause });
  }
}
